"""Going from box to box: each one been to keeps its client, its connection and how the viewer stood there, until the console is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.calls import call
from llmops_tui.screens.given_away import given_away
from llmops_tui.screens.view_file import ViewFile

if TYPE_CHECKING:
    from llmops_tui.reach import Box
    from llmops_tui.screens.console_app import ConsoleApp


class Moves:
    """`current` is the box shown, `views` what is remembered of each; `reach` makes a box from ssh's name for it ("": this one)."""

    def __init__(self, app: ConsoleApp, current: Box, view: ViewFile, reach: Callable[[str], Box]) -> None:
        self._app = app
        self._reach = reach
        self._boxes = {current.name: current}
        self._wishes = 0
        self._arriving = asyncio.Lock()
        self.current = current
        self.views = {current.name: view}

    def box(self, name: str) -> Box:
        """The box of that name; not connected where it is a new one. Raises UsageError for what is no name."""
        if name not in self._boxes:
            self._boxes[name] = self._reach(name)
        return self._boxes[name]

    async def go(self, name: str) -> None:
        """To a box. Its engine is reached first (ssh may ask questions); where that fails, one stays. The last wish counts."""
        self._wishes += 1
        wish, known = self._wishes, name in self._boxes
        try:
            box = self.box(name)
            self._app.tell(f"connecting to {name or 'this box'}…", "muted")
            await self._connect(box)
        except LlmopsError as error:
            if not known and name in self._boxes:
                self._boxes.pop(name).close()
            self._app.tell(str(error), "bad")
            return
        async with self._arriving:
            if wish == self._wishes and box is not self.current:
                self.current = box
                if name not in self.views:
                    self.views[name] = await call(ViewFile, box.view)
                await self._app.arrive(box, self.views[name])
        self._app.tell(f"now on {name or 'this box'}", "good")

    def close(self) -> None:
        """Let go of every box."""
        for box in self._boxes.values():
            box.close()

    async def _connect(self, box: Box) -> None:
        from llmops_tui.ssh_words import QuestionError

        try:
            await call(box.connect, False)
        except QuestionError as question:
            refusal: LlmopsError | None = None
            try:
                with given_away(self._app, interruptible=True):
                    try:
                        box.connect(True)  # in this thread: only the main one can lend the terminal to ssh
                    except LlmopsError as error:
                        refusal = error
                    except KeyboardInterrupt:
                        refusal = LlmopsError(f"left {box.name} alone")
            except SuspendNotSupported:
                raise question from None
            if refusal is not None:
                raise refusal from None
