"""What is sampled as numbers though it is none, and what changes too seldom to be sampled every second.

These series (`box/…`) are noted when they change and once a minute: so a past panel names the GPU that was there, how it was,
and why it was slow, at little more than no bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

from llmops_tui.specs.answers import GpuSample, HostSample

# Stored by their place: only ever append.
_HEALTH = ("ok", "lost", "stalled", "error")
_THROTTLES = (
    "applications_clocks", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake",
    "display_clocks", "board_limit", "reliability",
)  # fmt: skip
_HOST = ("cpu_cores", "memory_total_bytes", "disk_total_bytes", "cpu_slots")
_GPU = ("memory_total_bytes", "power_limit_watts")


class GpuState(NamedTuple):
    """What the slow series tell of one GPU; None where they do not."""

    uuid: str | None
    name: str | None
    health: str | None
    throttle_reasons: list[str]
    memory_total_bytes: float | None
    power_limit_watts: float | None


def slow_values(host: HostSample, gpus: Iterable[GpuSample]) -> dict[str, float]:
    """The slow series of one tick."""
    values = {f"box/host/{name}": float(value) for name in _HOST if isinstance(value := host.get(name), int | float)}
    for gpu in gpus:
        family = f"box/gpu/{gpu['index']}"
        values[f"{family}/is/{quote(gpu['uuid'], safe='')}/{quote(gpu['name'], safe='')}"] = 1.0
        if gpu["health"] in _HEALTH:
            values[f"{family}/health"] = float(_HEALTH.index(gpu["health"]))
        values[f"{family}/throttle"] = float(sum(1 << _THROTTLES.index(name) for name in gpu["throttle_reasons"] if name in _THROTTLES))
        values.update({f"{family}/{name}": float(value) for name in _GPU if isinstance(value := gpu.get(name), int | float)})
    return values


def host_totals(values: Mapping[str, float]) -> dict[str, int]:
    """Sizes of the box by their names in `HostSample`, as far as they were noted."""
    return {name: int(values[f"box/host/{name}"]) for name in _HOST if f"box/host/{name}" in values}


def gpu_state(values: Mapping[str, float], index: int) -> GpuState:
    """One GPU's slow series read back."""
    family = f"box/gpu/{index}"
    uuid = name = None
    for series in values:
        if series.startswith(f"{family}/is/"):
            uuid, name = (unquote(part) for part in series.removeprefix(f"{family}/is/").split("/", 1))
    health, throttle = values.get(f"{family}/health"), int(values.get(f"{family}/throttle", 0))
    return GpuState(
        uuid,
        name,
        _HEALTH[int(health)] if health is not None and 0 <= health < len(_HEALTH) else None,
        [reason for bit, reason in enumerate(_THROTTLES) if throttle >> bit & 1],
        values.get(f"{family}/memory_total_bytes"),
        values.get(f"{family}/power_limit_watts"),
    )


def gpu_indexes(values: Iterable[str]) -> list[int]:
    """The GPUs that any of these series is about."""
    parts = (name.removeprefix("box/").split("/") for name in values)
    return sorted({int(part[1]) for part in parts if part[0] == "gpu" and len(part) > 1 and part[1].isdecimal()})
