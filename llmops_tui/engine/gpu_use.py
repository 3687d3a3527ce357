"""Who holds which GPU and makes what of it: held and idle, and memory that is in use without anybody to ask about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmops_tui.engine.ledger import FOREIGN_TOLERANCE_BYTES
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.specs.answers import GpuHolder, GpuSample
from llmops_tui.specs.states import ACTIVE

IDLE_BELOW = 0.05
# A process that comes or goes is listed a moment before or after its memory is.
_HIDDEN_FOR_SECONDS = 5.0
_ADVICE = "one that died badly or lives in another container; `sudo fuser -v /dev/nvidia*` on the host names it"


class GpuUse:
    """Remembers from one look to the next. Belongs to the event loop's thread; times are Unix seconds."""

    def __init__(self) -> None:
        self._busy_at: dict[str, float] = {}
        self._first_look: dict[str, float] = {}
        self._hidden: dict[str, int] = {}
        self._hidden_since: dict[str, float] = {}
        self._told: set[str] = set()

    def remember(self, idle_since: Mapping[str, float]) -> None:
        """What an earlier engine saw: from when on each GPU, by UUID, was not used."""
        self._first_look.update(idle_since)

    def fill(self, samples: Sequence[GpuSample], runs: Iterable[LiveRun], now: float) -> None:
        """Write into each sample who holds it, since when, how long it idles, and what memory is hidden."""
        holders: dict[str, list[GpuHolder]] = {}
        for run in runs:
            if run.state in ACTIVE:
                since = run.usage.held_since
                holder = GpuHolder(run=run.id, owner=run.owner, since=now if since is None else since)
                for uuid in run.gpu_uuids:
                    holders.setdefault(uuid, []).append(holder)
        for sample in samples:
            holding = sorted(holders.get(sample["uuid"], []), key=lambda holder: holder["run"])
            sample["holders"], sample["held_by"] = holding, [holder["run"] for holder in holding]
            sample["held_since"] = min((holder["since"] for holder in holding), default=None)
            sample["idle_seconds"] = self._idle_seconds(sample, now)
            sample["hidden_bytes"] = self._hidden_bytes(sample)

    def look(self, samples: Sequence[GpuSample], now: float) -> list[dict[str, Any]]:
        """Once a tick, with filled samples: notice use, and return an event for each GPU whose memory went hidden."""
        events = []
        for sample in samples:
            uuid = sample["uuid"]
            self._first_look.setdefault(uuid, now)
            if sample["utilisation"] is not None and sample["utilisation"] >= IDLE_BELOW:
                self._busy_at[uuid] = now
            hidden = sample["hidden_bytes"]
            if hidden is None:
                continue  # not to be told now: neither news nor the end of it
            if not hidden:
                self._hidden_since.pop(uuid, None)
                self._told.discard(uuid)
            elif now - self._hidden_since.setdefault(uuid, now) >= _HIDDEN_FOR_SECONDS and uuid not in self._told:
                self._told.add(uuid)
                reason = f"{hidden / (1 << 30):.1f} GiB are in use and no process in sight holds them: {_ADVICE}"
                events.append({"type": "gpu.hidden_memory", "gpu": sample["index"], "uuid": uuid, "bytes": hidden, "reason": reason})
        return events

    def _idle_seconds(self, sample: GpuSample, now: float) -> float | None:
        """Since it was taken, used, or first seen by this engine, whichever came last."""
        held_since, use = sample["held_since"], sample["utilisation"]
        if held_since is None or use is None or sample["health"] != "ok":
            return None
        if use >= IDLE_BELOW:
            return 0.0
        uuid = sample["uuid"]
        return max(0.0, now - max(held_since, self._busy_at.get(uuid, 0.0), self._first_look.get(uuid, now)))

    def _hidden_bytes(self, sample: GpuSample) -> int | None:
        """Memory without a process, beyond what drivers keep for themselves.

        A holder that is not in sight (it just began, or the driver lists nobody in this container) may own all but what was
        hidden before it came.
        """
        unaccounted, uuid = sample["hidden_bytes"], sample["uuid"]
        if unaccounted is None:
            return None
        in_sight = {process["run"] for process in sample["processes"]}
        if any(run not in in_sight for run in sample["held_by"]):
            return min(self._hidden[uuid], unaccounted) if self._hidden.get(uuid) else None
        self._hidden[uuid] = unaccounted if unaccounted > FOREIGN_TOLERANCE_BYTES else 0
        return self._hidden[uuid]
