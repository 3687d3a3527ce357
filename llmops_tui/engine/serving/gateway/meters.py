"""What is counted of each version: totals for Prometheus, and sketches by ten seconds for the latency of the last minutes."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import Any

from llmops_tui.engine.serving.gateway.sketch import Sketch

SLOT_SECONDS = 10
WINDOWS = (60, 300, 3600)
_SLOTS = 3600 // SLOT_SECONDS
SECONDS_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
GAP_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Histogram:
    """Counts under fixed bounds, as Prometheus wants them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class _Slot:
    __slots__ = ("errors", "good", "index", "inter_token", "queue", "requests", "time_to_first", "tokens", "whole")

    def __init__(self, index: int) -> None:
        self.index = index
        self.time_to_first = Sketch()
        self.inter_token = Sketch()
        self.whole = Sketch()
        self.queue = Sketch()
        self.requests = 0
        self.errors = 0
        self.good = 0
        self.tokens = 0


class Meters:
    """One version's figures. `now` is the monotonic clock."""

    __slots__ = (
        "_slot", "_slots", "by_status", "completion_tokens", "cost", "inter_token", "prompt_tokens", "retries", "time_to_first", "whole",
    )  # fmt: skip

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}
        self._slot = _Slot(-1)
        self.by_status: defaultdict[int, int] = defaultdict(int)
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.retries = 0
        self.cost = 0.0
        self.time_to_first = Histogram(SECONDS_BOUNDS)
        self.inter_token = Histogram(GAP_BOUNDS)
        self.whole = Histogram(SECONDS_BOUNDS)

    @property
    def requests(self) -> int:
        return sum(self.by_status.values())

    @property
    def errors(self) -> int:
        return sum(count for status, count in self.by_status.items() if status >= 500)

    def gap(self, now: float, seconds: float, more: int) -> None:
        """The gap before content arrived, and `more` pieces of content that arrived together with it."""
        slot = self._now(now)
        if seconds >= 0:
            slot.inter_token.add(seconds)
            self.inter_token.add(seconds)
        if more > 0:
            slot.inter_token.add(0.0, more)
            self.inter_token.counts[0] += more

    def ended(
        self, now: float, status: int, queue: float, first: float, whole: float, prompt_tokens: int, completion_tokens: int, good: bool
    ) -> None:
        """A request is over; seconds, and `first` below 0 where there was no stream."""
        slot = self._now(now)
        self.by_status[status] += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.whole.add(whole)
        slot.requests += 1
        slot.tokens += completion_tokens
        slot.whole.add(whole)
        slot.queue.add(queue)
        if status >= 500:
            slot.errors += 1
        elif good:
            slot.good += 1
        if first >= 0:
            self.time_to_first.add(first)
            slot.time_to_first.add(first)

    def windows(self, now: float) -> dict[str, dict[str, Any]]:
        """The latency of the last minutes by window in seconds; quantiles of merged sketches, in ms."""
        answer: dict[str, dict[str, Any]] = {}
        for seconds in WINDOWS:
            oldest = int(now) // SLOT_SECONDS - seconds // SLOT_SECONDS
            slots = [slot for slot in self._slots.values() if slot.index > oldest]
            requests = sum(slot.requests for slot in slots)
            if not requests and not any(slot.inter_token.count for slot in slots):
                continue
            figures: dict[str, Any] = {
                "requests": requests,
                "errors": sum(slot.errors for slot in slots),
                "good": sum(slot.good for slot in slots),
                "tokens_per_second": round(sum(slot.tokens for slot in slots) / seconds, 3),
            }
            for name, sketches in (
                ("ttft", [slot.time_to_first for slot in slots]),
                ("itl", [slot.inter_token for slot in slots]),
                ("total", [slot.whole for slot in slots]),
                ("queue", [slot.queue for slot in slots]),
            ):
                merged = Sketch()
                for sketch in sketches:
                    merged.merge(sketch)
                if merged.count:
                    for rank, value in zip(("p50", "p95", "p99"), merged.quantiles((0.5, 0.95, 0.99)), strict=True):
                        figures[f"{name}_{rank}"] = round(value * 1000, 3)
            answer[str(seconds)] = figures
        return answer

    def _now(self, now: float) -> _Slot:
        index = int(now) // SLOT_SECONDS
        slot = self._slot
        if slot.index != index:
            slot = self._slot = self._slots[index] = _Slot(index)
            if len(self._slots) > _SLOTS:
                for old in [known for known in self._slots if known <= index - _SLOTS]:
                    del self._slots[old]
        return slot
