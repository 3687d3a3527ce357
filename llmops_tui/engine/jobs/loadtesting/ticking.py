"""What is told while a test goes on: once a second the progress and the second's figures as metrics, and whether it shall stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from llmops_tui.engine.jobs.control import StoppedError
from llmops_tui.engine.jobs.loadtesting.asking import Outcome
from llmops_tui.engine.jobs.loadtesting.figures import is_whole, times_of
from llmops_tui.engine.jobs.loadtesting.running import StageRun
from llmops_tui.engine.jobs.reporting import Reporter

_TICK_SECONDS = 1.0


class Ticker:
    """Ticks in a thread of its own, so that the loop that sends and times requests is never kept from it by the disk."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter = reporter
        self._total = total
        self._done = 0
        self._second = 0
        self._new: deque[Outcome] = deque()  # the loop appends on its right, the ticking thread takes from its left
        self._stage: StageRun | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem: OSError | None = None
        self.stopped = False

    def begin(self, name: str) -> None:
        """A stage begins."""
        self._reporter.phase(name, done=self._done, total=self._total, unit="requests")

    def watch(self, stage: StageRun) -> None:
        """Tick until `end`."""
        self._stage = stage
        self._over.clear()
        self._thread = threading.Thread(target=self._tick_on, name="ticker", daemon=True)
        self._thread.start()

    def hears(self, outcomes: list[Outcome]) -> Callable[[Outcome], None]:
        """Who collects a stage's outcomes."""

        def heard(outcome: Outcome) -> None:
            outcomes.append(outcome)
            self._new.append(outcome)

        return heard

    def end(self) -> None:
        """The stage is over; the last seconds are told. Raises OSError where the disk refused an event."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._tick()
        if self._problem is not None:
            raise self._problem

    def _tick_on(self) -> None:
        try:
            while not self._over.wait(_TICK_SECONDS):
                self._tick()
        except OSError as error:  # a full disk ends the test, by way of the thread that measures
            self._problem, self.stopped = error, True

    def _tick(self) -> None:
        new = [self._new.popleft() for _ in range(len(self._new))]
        self._done += len(new)
        self._second += 1
        whole = [outcome for outcome in new if is_whole(outcome)]
        values = {
            "loadtest/requests_per_second": len(whole) / _TICK_SECONDS,
            "loadtest/output_tokens_per_second": sum(outcome.completion_tokens for outcome in whole) / _TICK_SECONDS,
            "loadtest/errors_per_second": sum(bool(outcome.error) for outcome in new) / _TICK_SECONDS,
            "loadtest/outstanding": float(self._stage.outstanding if self._stage else 0),
        }
        times = times_of(whole)
        for name, figures in (("ttft", times.ttft), ("tpot", times.tpot), ("e2e", times.e2e)):
            if len(figures):
                values[f"loadtest/{name}_seconds"] = float(sorted(figures)[len(figures) // 2]) / 1000
        self._reporter.events.metrics(self._second, values)
        try:
            self._reporter.beat(self._done, self._total, at_once=True)
        except StoppedError:
            self.stopped = True
