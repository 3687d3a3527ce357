"""Blocking client calls from the event loop, each in a daemon thread: leaving the viewer never waits for a slow engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def call(method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """`method(...)` in a thread; its error is raised here. `asyncio.to_thread` would be joined at exit, however long it takes."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        if not future.done():
            outcome()

    def work() -> None:
        try:
            value = method(*args, **options)
        except Exception as error:  # noqa: BLE001  # raised again where it is awaited
            failure = error
            outcome: Callable[[], None] = lambda: future.set_exception(failure)  # noqa: E731
        else:
            outcome = lambda: future.set_result(value)  # noqa: E731
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=work, name="llmops-tui-call", daemon=True).start()
    return await future
