"""The box and its GPUs at a past moment, from what was sampled then; what was not sampled is None. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.sample_codes import gpu_indexes, gpu_state, host_totals
from llmops_tui.specs.answers import GpuHolder, GpuSample, HostSample
from llmops_tui.specs.states import ACTIVE

_SINGLE_PRECISION = 1e-6
_NOT_SAMPLED = "the engine took no sample then"


def host_at(values: Mapping[str, float], t: float, present: HostSample, runs: Iterable[LiveRun]) -> HostSample:
    """The host at `t`. `values` are `Samples.at(t)`, `runs` the runs as they stood; sizes that were not noted are today's."""
    totals = host_totals(values)
    slots = totals.get("cpu_slots", present["cpu_slots"])
    held = sum(run.cpu_slots for run in runs if run.state in ACTIVE)
    return HostSample(
        t=t,
        cpu=values.get("host/cpu"),
        cpu_cores=totals.get("cpu_cores", present["cpu_cores"]),
        load_1m=values.get("host/load_1m"),
        memory_used_bytes=_whole(values.get("host/memory_used_bytes")),
        memory_total_bytes=_same_size(totals.get("memory_total_bytes"), present["memory_total_bytes"]),
        disk_free_bytes=_whole(values.get("host/disk_free_bytes")),
        disk_total_bytes=_same_size(totals.get("disk_total_bytes"), present["disk_total_bytes"]),
        cpu_slots=slots,
        cpu_slots_free=max(0, slots - held),
    )


def gpus_at(values: Mapping[str, float], present: Sequence[GpuSample], runs: Iterable[LiveRun]) -> list[GpuSample]:
    """Every GPU that was sampled, or today's without readings where nothing was; held by the runs that held them."""
    now = {gpu["index"]: gpu for gpu in present}
    active = [run for run in runs if run.state in ACTIVE]
    return [_gpu_at(values, index, now.get(index), active) for index in gpu_indexes(values) or sorted(now)]


def _gpu_at(values: Mapping[str, float], index: int, present: GpuSample | None, active: Sequence[LiveRun]) -> GpuSample:
    noted = gpu_state(values, index)
    uuid = noted.uuid or (present["uuid"] if present else "")
    same = present if present is not None and present["uuid"] == uuid else None
    sampled = f"gpu/{index}/" if any(name.startswith(f"gpu/{index}/") for name in values) else ""
    # A GPU that is lost has no readings, and the tick that says so has those of the host.
    health = (noted.health or "ok" if sampled else noted.health) if sampled or "host/cpu" in values else None
    holders = sorted(
        (
            GpuHolder(run=run.id, owner=run.owner, since=run.usage.held_since or run.started_at or run.submitted_at)
            for run in active
            if uuid in run.gpu_uuids
        ),
        key=lambda holder: holder["run"],
    )

    def reading(name: str) -> float | None:
        return values.get(f"gpu/{index}/{name}")

    return GpuSample(
        index=index,
        uuid=uuid,
        name=noted.name or (same["name"] if same else "") or f"GPU {index}",
        health=health or "unknown",
        reason="" if health == "ok" else f"it was {health} then" if health else _NOT_SAMPLED,
        utilisation=reading("utilisation"),
        memory_used_bytes=_whole(reading("memory_used_bytes")),
        memory_total_bytes=_known_size(noted.memory_total_bytes, same["memory_total_bytes"] if same else None),
        power_watts=reading("power_watts"),
        power_limit_watts=noted.power_limit_watts if noted.power_limit_watts is not None else same["power_limit_watts"] if same else None,
        temperature_celsius=reading("temperature_celsius"),
        sm_clock_mhz=_whole(reading("sm_clock_mhz")),
        memory_clock_mhz=None,
        throttle_reasons=noted.throttle_reasons if sampled else [],
        pcie_rx_bytes_per_second=None,
        pcie_tx_bytes_per_second=None,
        pcie_generation=same["pcie_generation"] if same else None,
        pcie_width=same["pcie_width"] if same else None,
        ecc_uncorrected=None,
        energy_joules=None,
        xid=[],
        processes=[],
        held_by=[holder["run"] for holder in holders],
        holders=holders,
        held_since=min((holder["since"] for holder in holders), default=None),
        idle_seconds=None,
        hidden_bytes=None,
        reserved_by=None,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _known_size(noted: float | None, present: int | None) -> int | None:
    if noted is None or present is None:
        return present if noted is None else int(noted)
    return _same_size(noted, present)


def _same_size(noted: float | None, present: int) -> int:
    """Samples keep seven digits: a size that is today's but for those is today's."""
    return present if noted is None or abs(noted - present) <= _SINGLE_PRECISION * present else int(noted)
