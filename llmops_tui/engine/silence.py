"""When a run has been silent for too long."""

from __future__ import annotations

import os
import time

from llmops_tui.engine.live_run import LiveRun

_LONGEST_PAUSE_SECONDS = 10.0
_NEVER_QUIET_SECONDS = 86_400.0


class Silence:
    """How long the run told nothing: neither events nor output grew. Judged by size; rotation changes the times.

    Only time that this process was awake for counts, in steps of at most twice the pause: a suspended box is no hang.
    """

    def __init__(self, run: LiveRun) -> None:
        self._run = run
        self._limit = hang_seconds(run)
        self._sizes = (-1, -1)
        self._quiet = 0.0
        self._looked = time.monotonic()
        self.pause_seconds = min(_LONGEST_PAUSE_SECONDS, max(0.1, self._limit / 4)) if self._limit else _NEVER_QUIET_SECONDS

    def too_long(self) -> bool:
        """Whether the limit of its spec is reached. Ask every `pause_seconds`."""
        if self._limit is None:
            return False
        if self._run.held:  # it was told to keep still
            self._quiet, self._looked = 0.0, time.monotonic()
            return False
        now = time.monotonic()
        sizes = (_size(self._run.dir.events), _size(self._run.dir.log))
        if sizes != self._sizes:
            self._sizes, self._quiet = sizes, 0.0
        else:
            self._quiet += min(now - self._looked, 2 * self.pause_seconds)
        self._looked = now
        return self._quiet >= self._limit


def _size(path: os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def hang_seconds(run: LiveRun) -> float | None:
    """The limit of its spec; None: it may be silent for ever."""
    return run.spec.limits.hang_seconds if run.spec else None
