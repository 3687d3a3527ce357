"""From the gateway's spool into the database, several times a second: each record exactly once, whatever dies and when.

The loop only waits; looking, reading, parsing and committing happen in a thread. Files of the spool that are wholly stored are
removed after a time, once the database's own file, and not only its log, holds what stood in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from llmops_tui.data.durable import sync_directory
from llmops_tui.data.request_store import SpoolPosition, forget_files
from llmops_tui.data.spool_files import SPOOLS, SpoolFile, list_files
from llmops_tui.data.spool_reader import SpoolReader, Taken
from llmops_tui.data.store import Store, first_line
from llmops_tui.specs.settings import EngineSettings

OnFeedback = Callable[[list[tuple[str, str]]], None]

_TICK_SECONDS = 0.25
_QUIET_SECONDS = 1.0
_NOTHING_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_TIDY_SECONDS = 60.0
# What is stored is kept in the spool for a while too: a database that is damaged by then is made again from it.
KEEP_SECONDS = 86_400.0
KEEP_FILES = 16
_log = logging.getLogger(__name__)


class SpoolIngest:
    """Belongs to the event loop's thread. `on_feedback` gets (request, rating) of what people said, after it is committed."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        settings: EngineSettings,
        free_bytes: Callable[[], int],
        on_feedback: OnFeedback,
        keep_seconds: float = KEEP_SECONDS,
        keep_files: int = KEEP_FILES,
    ) -> None:
        self.state = "ok"
        self.reader = SpoolReader(store, directory)
        self._store = store
        self._settings = settings
        self._free_bytes = free_bytes
        self._on_feedback = on_feedback
        self._keep_seconds = keep_seconds
        self._keep_files = keep_files
        self._turn = asyncio.Lock()

    @property
    def problems(self) -> list[str]:
        """What is wrong, in a line each."""
        told = [f"recorded requests are not taken: {self.state.removeprefix('paused: ')}"] if self.state != "ok" else []
        return told + list(self.reader.problems.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Take what is recorded until `stop` is set; what stands in the spool by then is still committed."""
        tidy_at = time.monotonic() + _TIDY_SECONDS
        while not stop.is_set():
            taken = await self.take()
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + _TIDY_SECONDS
                await self.tidy()
            if taken is None or not taken.more:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._pause_seconds(taken))
        while (taken := await self.take()) is not None and taken.more:
            pass

    async def take(self) -> Taken | None:
        """One look at the spool, at most one transaction; None where nothing could be taken, and `state` says why."""
        async with self._turn:
            before = self.state
            taken = await asyncio.to_thread(self._take)
            if (self.state == "ok") != (before == "ok"):
                _log.warning("recorded requests: %s", self.state)
        if taken is not None:
            for line in taken.broken:
                _log.warning("%s", line)
            if taken.feedback:
                self._on_feedback(taken.feedback)
        return taken

    async def tidy(self) -> int:
        """Remove files of the spool that are stored for long enough; how many."""
        async with self._turn:
            try:
                return await asyncio.to_thread(self._tidy)
            except Exception as error:  # noqa: BLE001 - tried again in a minute; nothing is lost by a file too many
                self.reader.forget()
                _log.warning("old files of the spool were not removed: %s", first_line(error))
                return 0

    def _take(self) -> Taken | None:
        try:
            if pause := self._pause_reason():
                self.state = f"paused: {pause}"
                return None
            taken = self.reader.take()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told in `state` and tried again: nothing is stored by then
            self.reader.forget()
            _log.debug("the spool was not taken", exc_info=True)
            self.state = f"paused: the database did not take them: {first_line(error)}"
            return None
        self.state = "ok"
        return taken

    def _pause_reason(self) -> str:
        wanted = self._settings.pause_ingest_free_bytes
        bar = wanted if self.state == "ok" else wanted + wanted // 20
        free = self._free_bytes()
        return f"{free / 1e9:.2f} GB free on the disk, {bar / 1e9:.2f} GB needed; the gateway's spool keeps them" if free < bar else ""

    def _tidy(self) -> int:
        directory = self.reader.directory
        files = {spool: list_files(directory, spool) for spool in SPOOLS}
        old = [pair for spool in SPOOLS for pair in self._old(files[spool])]
        if old:
            # Committed is not enough: a rebuild sets the log aside, and a database without its log asks the spool for what it lacks.
            self._store.checkpoint().result()
            for file, _ in old:
                file.path.unlink(missing_ok=True)
                _log.info("%s is stored and was removed", file.path.name)
        gone = [position for _, position in old] + self._without_file(files)
        if gone:
            # Else a power cut could bring a file back whose offset is forgotten, and its lines would come twice.
            sync_directory(directory)
            self._store.write(lambda con: forget_files(con, gone)).result()
            for position in gone:
                self.reader.positions.pop((position.spool, position.number, position.head), None)
        return len(old)

    def _old(self, files: list[SpoolFile]) -> list[tuple[SpoolFile, SpoolPosition]]:
        """Files that may go. Never the newest: the gateway writes there, and takes its number for the next one's."""
        found = []
        now = time.time()
        for back, file in enumerate(reversed(files)):
            if not file.final:
                continue
            mark = self.reader.mark(file)
            position = self.reader.positions.get(mark) if mark is not None else None
            if position is None or position.done_at is None or position.offset != file.size:
                continue
            if now - position.done_at >= self._keep_seconds or back > self._keep_files:
                found.append((file, position))
        return found

    def _without_file(self, files: dict[str, list[SpoolFile]]) -> list[SpoolPosition]:
        """Offsets of files that are gone: removed by an engine that died before it forgot them, or by somebody's hand.

        Only where the spool has a newer file: a directory that is empty may be a disk that is not mounted.
        """
        there = {self.reader.mark(file) for those in files.values() for file in those}
        newest = {spool: max((file.number for file in those), default=0) for spool, those in files.items()}
        return [
            position
            for mark, position in self.reader.positions.items()
            if mark not in there and position.number < newest.get(position.spool, 0)
        ]

    def _pause_seconds(self, taken: Taken | None) -> float:
        if taken is None:
            return _RETRY_SECONDS
        if taken.requests or taken.texts or taken.feedback:
            return _TICK_SECONDS
        return _QUIET_SECONDS if os.path.isdir(self.reader.directory) else _NOTHING_SECONDS
