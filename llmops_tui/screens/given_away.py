"""The terminal lent to another program for a while, and taken back whatever is pressed there."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.app import App


@contextlib.contextmanager
def given_away(app: App[Any], *, interruptible: bool = False) -> Iterator[None]:
    """While the block runs the terminal is not ours. Ctrl+C there is for the program it was lent to: it must not end the console.

    `interruptible` raises KeyboardInterrupt in the block instead. Nothing may leave the block but by its end: Textual would not
    take the terminal back. Raises textual's SuspendNotSupported.
    """
    # A function, not SIG_IGN: a program that is started inherits what is ignored. asyncio's own handler would cancel the app.
    meant = signal.default_int_handler if interruptible else _not_for_us
    before = {number: signal.signal(number, meant) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        with app.suspend():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _not_for_us(_number: int, _frame: object) -> None:
    pass
