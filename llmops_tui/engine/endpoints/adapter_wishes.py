"""Asking a server that runs to load an adapter or to let one go: a line of its run's `control.jsonl` (jobs/serving_wishes.py)."""

from __future__ import annotations

import time

from llmops_tui.data.rundir import append_line
from llmops_tui.engine.live_run import LiveRun

# Loading takes this long at most (jobs/serving_replica.py); one that was asked and did not is asked again after it.
_AGAIN_SECONDS = 130.0


class AdapterWishes:
    """Remembers what was asked lately, so that a server is not asked the same at every look."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str, bool], float] = {}

    def due(self, run: str, adapter: str, *, load: bool) -> bool:
        """Whether to ask now; it then counts as asked."""
        now = time.monotonic()
        self._asked = {key: at for key, at in self._asked.items() if now - at < _AGAIN_SECONDS}
        if (run, adapter, load) in self._asked:
            return False
        self._asked.pop((run, adapter, not load), None)
        self._asked[run, adapter, load] = now
        return True

    def ask(self, run: LiveRun, adapter: str, path: str, *, load: bool) -> None:
        """Write it down for the server. Raises OSError."""
        command = "load_adapter" if load else "unload_adapter"
        line = {"t": time.time(), "command": command, "name": adapter, "path": path, "by": run.uid, "who": "its endpoint"}
        append_line(run.dir.control, line, durable=True)
