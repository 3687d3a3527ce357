"""The GPU ledger: whether a run may start now, and where. Pure: the same question always gets the same answer.

Memory is counted the careful way. A run of ours is charged its prediction or what it is measured to use, whichever is
more; everything else in use on a GPU is foreign and taken. A GPU is either held by one run alone (no prediction given) or
shared by runs whose predictions fit together, never both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.common import Resources

# A desktop session or a monitoring agent does not make a GPU busy; a forgotten notebook does.
FOREIGN_TOLERANCE_BYTES = 500 << 20
# The driver reports memory it keeps for itself as part of the total, so sharing never fills the last 2 %.
_HEADROOM = 0.02


@dataclass(frozen=True)
class Holding:
    """What a started run holds. `memory_bytes` is its predicted peak on each GPU; None means it has its GPUs to itself."""

    run_id: str
    gpu_uuids: list[str] = field(default_factory=list)
    memory_bytes: int | None = None
    cpu_slots: int = 0


@dataclass(frozen=True)
class Placement:
    """Start now, on these GPUs (none: on the CPU, in so many slots)."""

    gpu_uuids: list[str]
    cpu_slots: int


@dataclass(frozen=True)
class Wait:
    """Not now; `reason` is for the person who looks at the queue."""

    reason: str


@dataclass(frozen=True)
class Never:
    """Not on this box, however long it waits."""

    reason: str


@dataclass(frozen=True)
class _Account:
    """One GPU's books: who of ours is on it and how much is spoken for."""

    gpu: GpuSample
    holders: list[Holding]
    charged_bytes: int
    foreign_bytes: int

    @property
    def label(self) -> str:
        return f"GPU {self.gpu['index']}"

    @property
    def usable_bytes(self) -> int | None:
        total = self.gpu["memory_total_bytes"]
        return None if total is None else int(total * (1 - _HEADROOM))

    @property
    def free_bytes(self) -> int | None:
        usable = self.usable_bytes
        return None if usable is None else usable - self.charged_bytes - self.foreign_bytes


def resolved(resources: Resources, predicted: int | None) -> Resources:
    """With `predicted` bytes in the place of memory "auto"; None, nothing was predicted, takes the GPU exclusively."""
    if resources.gpu_memory_bytes != "auto":
        return resources
    return resources.model_copy(update={"gpu_memory_bytes": predicted})


def place(
    resources: Resources,
    gpus: Sequence[GpuSample],
    holdings: Sequence[Holding],
    cpu_slots_total: int,
    closed: Mapping[str, str] | None = None,
) -> Placement | Wait | Never:
    """Decide about one request against the GPUs as sampled and what started runs hold.

    `closed` names the GPUs, by UUID, that this request may not have whatever is free on them, and why.

    Memory of "auto" that nobody predicted (`resolved`) takes a GPU exclusively.

    `gpus="auto"` takes one GPU where the box has one that is not lost, else CPU slots. A stalled GPU is waited for: sending
    the run to the CPU because a driver was silent for some seconds would cost the user hours.
    """
    wanted = resources.gpus
    if wanted == "auto":
        wanted = 1 if any(gpu["health"] != "lost" for gpu in gpus) else 0
    if wanted == 0:
        return _place_on_cpu(resources.cpu_slots, holdings, cpu_slots_total)
    if wanted > len(gpus):
        return Never(f"asks for {_count(wanted)}; this box has {len(gpus) or 'none'}")
    need = None if resources.gpu_memory_bytes == "auto" else resources.gpu_memory_bytes
    accounts = [_account(gpu, holdings) for gpu in sorted(gpus, key=lambda gpu: (gpu["index"], gpu["uuid"]))]
    if need is not None:
        sizes = [account.usable_bytes for account in accounts]
        if sum(size is None or size >= need for size in sizes) < wanted:
            largest = max(size for size in sizes if size is not None)
            return Never(f"needs {_gib(need)} on {_count(wanted)}; the largest GPU here has {_gib(largest)} to give")
    obstacles = {account.label: (closed or {}).get(account.gpu["uuid"]) or _obstacle(account, need) for account in accounts}
    fitting = [account for account in accounts if not obstacles[account.label]]
    if len(fitting) < wanted:
        return Wait(_waiting_for(wanted, obstacles))
    order = _tightest_first if need is not None else _roomiest_first
    chosen = sorted(fitting, key=order)[:wanted]
    return Placement([account.gpu["uuid"] for account in sorted(chosen, key=lambda account: account.gpu["index"])], 0)


def _place_on_cpu(slots: int, holdings: Sequence[Holding], total: int) -> Placement | Wait | Never:
    if slots > total:
        return Never(f"asks for {slots} CPU slots; this box has {total} (engine.cpu_slots in the settings)")
    holders = [holding for holding in holdings if holding.cpu_slots]
    if slots > total - sum(holding.cpu_slots for holding in holders):
        return Wait(f"waits for {'a CPU slot' if slots == 1 else f'{slots} CPU slots'}: held by {_names(holders)}")
    return Placement([], slots)


def _account(gpu: GpuSample, holdings: Sequence[Holding]) -> _Account:
    """Charge our runs and find out what of the memory in use is not theirs."""
    holders = [holding for holding in holdings if gpu["uuid"] in holding.gpu_uuids]
    measured = {holding.run_id: 0 for holding in holders}
    strangers = 0
    for process in gpu["processes"]:
        if process["run"] in measured:
            measured[process["run"]] += process["memory_bytes"] or 0
        elif process["run"] or process["owner"]:
            strangers += process["memory_bytes"] or 0
    charged = sum(max(holding.memory_bytes or 0, measured[holding.run_id]) for holding in holders)
    # In a container the driver lists no pids, or the host's, which mean nothing here. What no known process accounts for
    # belongs to holders of ours that were not recognised, and beyond what those may use, to somebody else.
    unlisted = (gpu["memory_used_bytes"] or 0) - sum(measured.values()) - strangers
    unseen = [holding for holding in holders if not measured[holding.run_id]]
    if any(holding.memory_bytes is None for holding in unseen):
        unlisted = 0
    else:
        unlisted -= sum(holding.memory_bytes or 0 for holding in unseen)
    return _Account(gpu, holders, charged, strangers + max(0, unlisted))


def _obstacle(account: _Account, need: int | None) -> str:
    """Why this GPU cannot take the request now; empty when it can."""
    gpu = account.gpu
    if gpu["health"] != "ok":
        return f"{gpu['health']}: {gpu['reason']}" if gpu["reason"] else gpu["health"]
    exclusive = [holding for holding in account.holders if holding.memory_bytes is None]
    if exclusive:
        return f"held by {_names(exclusive)}"
    free = account.free_bytes
    if need is None or free is None:  # a GPU that does not tell its memory cannot be shared
        if account.holders:
            return f"shared by {_names(account.holders)}"
        if account.foreign_bytes > FOREIGN_TOLERANCE_BYTES:
            return f"{_gib(account.foreign_bytes)} in use by {_strangers(account)}"
        return ""
    if need > free:
        parts = [f"needs {_gib(need)}, {_gib(max(0, free))} free"]
        if account.holders:
            parts.append(f"shared by {_names(account.holders)}")
        if account.foreign_bytes > FOREIGN_TOLERANCE_BYTES:
            parts.append(f"{_gib(account.foreign_bytes)} in use by {_strangers(account)}")
        return ", ".join(parts)
    return ""


def _tightest_first(account: _Account) -> tuple[int, int]:
    """Best fit: fill the GPU with the least room, so that the roomy ones stay whole for larger runs."""
    free = account.free_bytes
    return (free if free is not None else 1 << 62, account.gpu["index"])


def _roomiest_first(account: _Account) -> tuple[int, int, int]:
    """An exclusive run told nothing about its need: the largest GPU, then the least used (in steps that noise does not cross)."""
    return (-(account.gpu["memory_total_bytes"] or 0), account.foreign_bytes // (128 << 20), account.gpu["index"])


def _waiting_for(wanted: int, obstacles: dict[str, str]) -> str:
    blocked = [(label, why) for label, why in obstacles.items() if why]
    if wanted == 1 and len(obstacles) == 1:
        label, why = blocked[0]
        return f"waits for {label}: {why}"
    return f"waits for {_count(wanted)}: " + "; ".join(f"{label} {why}" for label, why in blocked)


def _strangers(account: _Account) -> str:
    """The largest of those who use this GPU without holding it; one of our runs may be on its way out."""
    holders = {holding.run_id for holding in account.holders}
    foreign = [process for process in account.gpu["processes"] if process["run"] not in holders]
    if not foreign:
        return "a process that the driver does not list"
    largest = max(foreign, key=lambda process: (process["memory_bytes"] or 0, -process["pid"]))
    name = largest["run"] or f"{largest['owner'] or 'unknown user'}: {largest['command'][:40] or '?'}"
    others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    return f"{name} (pid {largest['pid']}){others}"


def _names(holdings: Sequence[Holding]) -> str:
    names = sorted(holding.run_id for holding in holdings)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _count(gpus: int) -> str:
    return "a GPU" if gpus == 1 else f"{gpus} GPUs"


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
