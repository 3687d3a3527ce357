"""A run of kind `serve`: keeps one server of one model alive, and does what is asked of it, until it is told to end.

The server is a process below this one. This keeper imports the standard library alone and waits in the kernel between its looks.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.jobs.serving_backoff import RestartRule
from llmops_tui.engine.jobs.serving_process import memory_available_bytes
from llmops_tui.engine.jobs.serving_replica import Replica
from llmops_tui.engine.jobs.serving_wishes import Wish, WishFile
from llmops_tui.engine.serving.launchers.plan import Plan, read_plan
from llmops_tui.errors import InsufficientResourcesError, LlmopsError

_LOOK_SECONDS = 0.25
_MEASURE_SECONDS = 2.0
# Of the time between TERM and KILL, what is left for ending the server after the drain.
_ENDING_SECONDS = 6.0


class Signals:
    """SIGTERM as something to wait for: the handler writes a byte, whoever waits returns at once."""

    def __init__(self) -> None:
        self.told = False
        self._readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # a death wakes too

    def wait(self, seconds: float) -> None:
        """Until a signal comes, and no longer."""
        if not self.told and select.select([self._readable], [], [], max(0.0, seconds))[0]:
            os.read(self._readable, 512)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.told = True


class Keeper:
    """Waits, looks, measures and obeys."""

    def __init__(self, run: RunDir, record: Mapping[str, Any], events: EventWriter, signals: Signals) -> None:
        spec, self._plan = record["spec"], read_plan(record["prepared"]["serving"])
        restart = spec["restart"]
        self._events = events
        self._signals = signals
        self._wishes = WishFile(run.path)
        self._submitted_at = float(record.get("submitted_at") or time.time())
        self._drain_seconds = float(spec["drain_seconds"])
        self._grace_seconds = float(spec["limits"]["grace_seconds"])
        self._stopping: Wish | None = None
        self._waiting: list[Wish] = []
        rule = RestartRule(restart["limit"], restart["window_seconds"], restart["first_seconds"], restart["most_seconds"])
        run.artifacts.mkdir(exist_ok=True)
        self._replica = Replica(
            self._plan, run.artifacts, run.log, events, rule, float(spec["ready_seconds"]), self._pause, lambda: self._ends
        )

    def keep(self) -> bool:
        """Serve until told to end; True: it was. Raises LlmopsError with the cause where it cannot go on."""
        require_memory(self._plan)
        try:
            if self._replica.start():
                self._watch()
            if self._replica.state != "starting":
                self._drain_at_the_end()
        finally:
            self._replica.stop()
        return True

    @property
    def _ends(self) -> bool:
        return self._signals.told or self._stopping is not None

    def _watch(self) -> None:
        measured = 0.0
        while not self._ends:
            if not self._replica.look():
                return
            now = time.monotonic()
            if now - measured >= _MEASURE_SECONDS:
                measured = now
                self._replica.measure(int(time.time() - self._submitted_at))
            self._obey_all()
            if not self._ends:
                self._pause(_LOOK_SECONDS)

    def _pause(self, seconds: float) -> None:
        """Wait, but hear of a stop at once and of what is asked soon."""
        until = time.monotonic() + seconds
        while True:
            self._signals.wait(min(_LOOK_SECONDS, until - time.monotonic()))
            self._hear()
            if self._ends or self._waiting or time.monotonic() >= until:
                return

    def _hear(self) -> None:
        for wish in self._wishes.take():
            if wish.command == "stop":
                self._stopping = wish
            else:
                self._waiting.append(wish)

    def _obey_all(self) -> None:
        self._hear()
        while self._waiting and not self._ends:
            wish = self._waiting.pop(0)
            self._events.write("control", command=wish.command, outcome=self._obey(wish), by=wish.who)

    def _obey(self, wish: Wish) -> str:
        match wish.command:
            case "drain":
                seconds = float(wish.arguments.get("seconds") or self._drain_seconds)
                drained = self._replica.drain(seconds)
                return "drained: it answers nobody" if drained else f"was still answering after {seconds:g} s"
            case "sleep":
                return self._replica.sleep(float(wish.arguments.get("seconds") or self._drain_seconds))
            case "wake":
                self._replica.undrain()
                return self._replica.wake()
            case _:
                name, path = str(wish.arguments.get("name") or ""), str(wish.arguments.get("path") or "")
                return self._replica.adapter(wish.command, name, path)

    def _drain_at_the_end(self) -> None:
        patience = min(self._drain_seconds, max(0.0, self._grace_seconds - _ENDING_SECONDS)) if self._signals.told else self._drain_seconds
        self._replica.drain(patience, then=" before it ends")
        if self._stopping is not None:
            self._events.write("control", command="stop", outcome="drained, and ends", by=self._stopping.who)


def require_memory(plan: Plan) -> None:
    """It waited in the queue since its memory was looked at. Raises InsufficientResourcesError."""
    free = memory_available_bytes()
    if not plan.gpu and plan.memory_bytes > free > 0:
        raise InsufficientResourcesError(
            f"needs {plan.memory_bytes / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free",
            "lower context or slots, or end something else",
        )


def main() -> int:
    """The exit code: 0 it was told to end, else the error's."""
    run = RunDir(Path(os.environ["LLMOPS_RUN_DIR"]).absolute())
    signals = Signals()
    events = EventWriter(run.path)
    status, error, code = "failed", "", 1
    try:
        Keeper(run, json.loads(run.spec.read_bytes()), events, signals).keep()
        status, code = "stopped", 0
    except LlmopsError as problem:
        error, code = str(problem), problem.exit_code
        print(f"error: {error}", flush=True)
    except Exception as problem:  # noqa: BLE001 - the last line of defence: every end is told
        traceback.print_exc()
        error = f"{type(problem).__name__}: {problem}"
    events.write("end", status=status, summary={}, error=error)
    events.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
