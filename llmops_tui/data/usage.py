"""What a run has used of GPUs, folded from its journal: the one reading of it for the engine and for a rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import read_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.specs.states import ENDED, WAITING


@dataclass
class Usage:
    """`gpu_seconds` and `energy_joules` are of the attempts that are over; `open_joules` is the current one's so far.

    Energy is None where nothing told it. `held_since` (Unix seconds) is set while GPUs are held; `counters` are the readings
    at that moment, as the journal keeps them: `{uuid: {"t", "joules", "watts"}}`.
    """

    gpu_seconds: float = 0.0
    energy_joules: float | None = None
    open_joules: float | None = None
    held_since: float | None = None
    gpus: int = 0
    counters: Mapping[str, Any] = field(default_factory=dict)

    def gpu_seconds_at(self, t: float) -> float:
        """Wall seconds times GPUs held, the open attempt included."""
        return self.gpu_seconds + (0.0 if self.held_since is None else max(0.0, t - self.held_since) * self.gpus)

    @property
    def joules(self) -> float | None:
        """The energy of all attempts so far."""
        return add_joules(self.energy_joules, self.open_joules)

    def apply(self, entry: Mapping[str, Any]) -> None:
        """One journal line. The sums that an end was written with have the last word over what follows from the times."""
        state, data, t = entry.get("state"), entry.get("data"), _number(entry.get("t"))
        values: Mapping[str, Any] = data if isinstance(data, dict) else {}
        if entry.get("entry") != "state" or t is None:
            return
        if state == "starting":
            gpus, counters = values.get("gpus"), values.get("counters")
            self.gpus = len(gpus) if isinstance(gpus, list) else 0
            held_since = _number(values.get("held_since"))
            self.held_since = (t if held_since is None else held_since) if self.gpus else None
            self.counters = counters if isinstance(counters, dict) else {}
            self.open_joules = None
        elif state in ENDED or state in WAITING:
            ended_at = _number(values.get("ended_at"))
            self.close(t if ended_at is None else ended_at)
            gpu_seconds, joules = _number(values.get("gpu_seconds")), _number(values.get("energy_joules"))
            self.gpu_seconds = self.gpu_seconds if gpu_seconds is None else gpu_seconds
            self.energy_joules = self.energy_joules if joules is None else joules

    def close(self, t: float) -> None:
        """The GPUs are given back at `t`. Once more changes nothing."""
        self.gpu_seconds = self.gpu_seconds_at(t)
        self.energy_joules = self.joules
        self.drop()

    def drop(self) -> None:
        """The GPUs were never held after all, or are held no more."""
        self.open_joules, self.held_since, self.gpus, self.counters = None, None, 0, {}


def meter_file(run: RunDir, attempt: int) -> Path:
    """Where the engine notes what an attempt has used so far, while it goes on."""
    return run.attempt(attempt) / "energy.json"


def read_meter(run: RunDir, attempt: int) -> dict[str, Any]:
    """`{"joules", "counters"}` as last noted; empty where nothing was, or what stands there is damaged. Raises OSError."""
    try:
        value = read_json(meter_file(run, attempt))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def add_joules(one: float | None, other: float | None) -> float | None:
    """A sum that is known when a part of it is: an attempt that could not be measured makes it a lower bound."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
