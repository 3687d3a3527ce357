"""Asking a server that runs to load an adapter or to let one go: a line of its run's `control.jsonl` (jobs/serving_wishes.py).

It tells by its replica.json that it did. Belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from llmops_tui.data.rundir import append_line
from llmops_tui.engine.endpoints.book import EndpointBook
from llmops_tui.engine.endpoints.replica_spec import replica_spec
from llmops_tui.engine.endpoints.server_starts import PrepareNow, Queue
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.errors import LlmopsError

# Loading takes this long at most (jobs/serving_replica.py); one that was asked and did not is asked again after it.
_AGAIN_SECONDS = 130.0
log = logging.getLogger(__name__)


class AdapterWishes:
    """Remembers what was asked lately, so that a server is not asked the same at every look.

    `check` is the preflight of a server without its memory: the one that is to load the adapter has its own already.
    """

    def __init__(self, queue: Queue, check: PrepareNow, book: EndpointBook) -> None:
        self._queue = queue
        self._check = check
        self._book = book
        self._asked: dict[tuple[str, str, bool], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wish(self, name: str, run_id: str, adapter: str, *, load: bool) -> None:
        """Have a server of the endpoint `name` load an adapter, or let one go, unless it was asked just now."""
        now = time.monotonic()
        self._asked = {key: at for key, at in self._asked.items() if now - at < _AGAIN_SECONDS}
        run = next((run for run in self._queue.runs() if run.id == run_id), None)
        if run is None or (run_id, adapter, load) in self._asked:
            return
        self._asked.pop((run_id, adapter, not load), None)
        self._asked[run_id, adapter, load] = now
        task = asyncio.create_task(self._ask(name, run, adapter, load=load), name=f"{name}:{adapter}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _ask(self, name: str, run: LiveRun, adapter: str, *, load: bool) -> None:
        try:
            path = await asyncio.to_thread(self._path_of, name, adapter) if load else ""
            line = {
                "t": time.time(), "command": "load_adapter" if load else "unload_adapter", "name": adapter, "path": path, "by": run.uid,
                "who": "its endpoint",
            }  # fmt: skip
            await asyncio.to_thread(append_line, run.dir.control, line, durable=True)
            log.info("%s is to %s the adapter %s", run.id, "load" if load else "unload", adapter)
        except (LlmopsError, OSError, LookupError) as error:
            log.warning("%s: %s was not asked for the adapter %s: %s", name, run.id, adapter, error)

    def _path_of(self, name: str, adapter: str) -> str:
        """Where its files are, checked as at a start. Raises what the preflight raises, LookupError where it is gone."""
        entry = self._book.entries[name]
        rider = entry.spec.version(adapter)
        base = entry.spec.version(rider.adapter_of) if rider else None
        if base is None:
            raise LookupError(adapter)
        checked = self._check(entry.uid, replica_spec(entry, base), Path(entry.cwd))
        return next(str(one["path"]) for one in checked["serving_facts"]["adapters"] if one["name"] == adapter)
