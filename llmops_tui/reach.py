"""The boxes a console can go to: this one, and any that ssh reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_tui.paths import find_home, remote_view

if TYPE_CHECKING:
    from llmops_tui.screens.client_protocol import EngineClient

HERE = "here"
"""What this box is called where boxes are listed by name."""


@dataclass(frozen=True)
class Box:
    """`name` is ssh's, "" for this box. `view`: where the viewer remembers how it stood there.

    `directory` is where relative paths start there. `connect(ask)` blocks until the engine answers, starting it where there is none; with
    `ask` (main thread, terminal free) ssh may ask questions, without it one that is needed raises QuestionError. `close` lets go; it may
    be called again.
    """

    name: str
    client: EngineClient
    view: Path | None
    directory: Callable[[], str]
    connect: Callable[[bool], object]
    close: Callable[[], None]


def reach(name: str, home: str | None = None) -> Box:
    """A box by ssh's name, or this one by ""; `home` is the state directory there. Nothing is connected yet. Raises UsageError."""
    from llmops_tui.client import Client

    if not name:
        here = find_home(home)
        client = Client(here)
        return Box("", client, here.view, client.place.directory, lambda ask: client.ensure_engine(), lambda: None)
    from llmops_tui.ssh_place import SshPlace

    place = SshPlace(name, home)
    there = Client(place)

    def connect(ask: bool) -> None:
        place.connect(ask, start=True)
        there.ensure_engine()

    return Box(name, there, remote_view(name, home), place.directory, connect, place.close)
