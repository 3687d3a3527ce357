"""GPUs and who is on them as table cells; pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops_tui.screens.widgets.axes import bytes_text, duration_text
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.strips import bar

if TYPE_CHECKING:
    from llmops_tui.specs.answers import GpuSample, RunSummary, Status

_IDLE_SECONDS = 60.0  # a held GPU pauses between batches: shorter than this is nothing to talk about
_MEMORY_BAR = 10


@dataclass(frozen=True)
class Holder:
    """Somebody's memory on a GPU: a run of ours, a foreign process, or memory that no process in sight accounts for."""

    key: str
    gpu: int
    memory_bytes: int | None
    run: str | None
    owner: str
    what: str
    since: float | None
    idle_seconds: float | None
    role: str


def holders(status: Status) -> list[Holder]:
    """Who holds GPU memory or a GPU without using memory yet, the most memory first."""
    runs = {run["id"]: run for run in [*status["running"], *status["waiting"], *status["recent"]]}
    found: list[Holder] = []
    for gpu in status["gpus"]:
        by_run: dict[str, int | None] = {}
        for process in gpu["processes"]:
            if process["run"]:
                by_run[process["run"]] = (by_run.get(process["run"]) or 0) + (process["memory_bytes"] or 0)
            else:
                key = f"{gpu['index']} pid {process['pid']}"
                program, _, rest = process["command"].partition(" ")
                what = f"{program.rsplit('/', 1)[-1]} {rest}".strip() or f"pid {process['pid']}"
                words = f"{what} (pid {process['pid']})"
                found.append(Holder(key, gpu["index"], process["memory_bytes"], None, process["owner"], words, None, None, "text"))
        for holder in gpu["holders"]:
            run = runs.get(holder["run"])
            idle = gpu["idle_seconds"]
            found.append(
                Holder(
                    f"{gpu['index']} {holder['run']}", gpu["index"], by_run.pop(holder["run"], None), holder["run"], holder["owner"],
                    run["name"] if run else "", holder["since"], idle if idle and idle >= _IDLE_SECONDS else None, "accent",
                )
            )  # fmt: skip
        for name, memory in by_run.items():  # a run's process that outlived its hold
            found.append(Holder(f"{gpu['index']} {name}", gpu["index"], memory, name, "", "ended, still there", None, None, "warn"))
        if gpu["hidden_bytes"]:
            words = "used with no process in sight (another container, or memory a dead one left)"
            found.append(Holder(f"{gpu['index']} hidden", gpu["index"], gpu["hidden_bytes"], None, "", words, None, None, "warn"))
    return sorted(found, key=lambda holder: (-(holder.memory_bytes or 0), holder.gpu, holder.key))


def holder_cells(holder: Holder, now: float, you: str) -> tuple[Run, ...]:
    """gpu, memory, run or process, owner, since, idle."""
    mine = holder.owner == you and holder.run is not None
    return (
        (str(holder.gpu), "text"),
        (bytes_text(holder.memory_bytes), "text"),
        (holder.run or holder.what, holder.role),
        (holder.owner or "-", "bright" if mine else "muted"),
        ("" if holder.since is None else duration_text(now - holder.since), "muted"),
        ("" if holder.idle_seconds is None else f"idle {duration_text(holder.idle_seconds)}", "warn"),
    )


def gpu_cells(gpu: GpuSample, strip: str, now: float, ascii_only: bool) -> tuple[Run, ...]:
    """index, load, %, memory bar, memory, power, temperature, health, state."""
    used, total = gpu["memory_used_bytes"], gpu["memory_total_bytes"]
    share = used / total if used is not None and total else None
    heat, load = gpu["temperature_celsius"], gpu["utilisation"]
    ill = gpu["health"] not in ("ok", "unknown")
    return (
        (str(gpu["index"]), "bright"),
        (strip, "accent"),
        ("-" if load is None else f"{load:.0%}", "accent"),
        (bar(share or 0.0, _MEMORY_BAR, ascii_only), "text"),
        (f"{_gib(used)}/{_gib(total)} GiB", "text"),
        (f"{_number(gpu['power_watts'])}/{_number(gpu['power_limit_watts'])} W", "text"),
        (f"{_number(heat)}°C", "text" if heat is None or heat < 80 else "warn" if heat < 88 else "bad"),
        (health_text(gpu), "bad" if ill else "warn" if gpu["throttle_reasons"] else "good"),
        use_of(gpu, now),
    )


def health_text(gpu: GpuSample) -> str:
    """One or a few words: ok, what slows it, or what is wrong."""
    if gpu["health"] != "ok":
        return gpu["health"]
    return ", ".join(gpu["throttle_reasons"]).replace("_", " ") or "ok"


def use_of(gpu: GpuSample, now: float) -> Run:
    """Who has it: held, reserved, foreign, hidden or free; an ill one is nobody's."""
    if gpu["held_by"]:
        idle = gpu["idle_seconds"]
        words = ", ".join(gpu["held_by"])
        return (f"{words}  idle {duration_text(idle)}", "warn") if idle and idle >= _IDLE_SECONDS else (words, "accent")
    if reserved := gpu["reserved_by"]:
        note = f": {reserved['note']}" if reserved["note"] else ""
        return f"reserved by {reserved['owner']} for {duration_text(reserved['until'] - now)}{note}", "warn"
    if gpu["health"] not in ("ok", "unknown"):
        return gpu["reason"] or "not usable", "bad"
    foreign = [process for process in gpu["processes"] if not process["run"]]
    if foreign:
        names = sorted({process["owner"] or f"pid {process['pid']}" for process in foreign})
        return f"foreign: {', '.join(names)}", "muted"
    return (f"hidden memory {bytes_text(gpu['hidden_bytes'])}", "warn") if gpu["hidden_bytes"] else ("free", "good")


def detail_lines(gpu: GpuSample, now: float) -> list[list[Run]]:
    """What the table has no room for: clocks, link, errors, energy."""
    link = "-" if gpu["pcie_generation"] is None else f"gen {gpu['pcie_generation']} x{gpu['pcie_width'] or '?'}"
    traffic = f"in {bytes_text(gpu['pcie_rx_bytes_per_second'])}/s, out {bytes_text(gpu['pcie_tx_bytes_per_second'])}/s"
    energy = "-" if gpu["energy_joules"] is None else f"{gpu['energy_joules'] / 3.6e6:.2f} kWh since the driver's start"
    errors = gpu["ecc_uncorrected"]
    rows = (
        ("name", gpu["name"], "bright"),
        ("uuid", gpu["uuid"], "muted"),
        ("clocks", f"SM {_number(gpu['sm_clock_mhz'])} MHz, memory {_number(gpu['memory_clock_mhz'])} MHz", "text"),
        ("PCIe", f"{link}, {traffic}", "text"),
        ("ECC", "-" if errors is None else f"{errors} uncorrected", "bad" if errors else "text"),
        ("Xid", ", ".join(map(str, gpu["xid"])) or "none", "bad" if gpu["xid"] else "text"),
        ("energy", energy, "text"),
        ("held", "-" if gpu["held_since"] is None else f"for {duration_text(now - gpu['held_since'])}", "text"),
    )
    return [[(f" {name:<8}", "muted"), (words, role)] for name, words, role in rows]


def heaviest_of_mine(found: list[Holder], you: str) -> str | None:
    """The key of one's own run that holds the most memory; of the heaviest holder where one holds none."""
    mine = [holder for holder in found if holder.owner == you and holder.run]
    return next((holder.key for holder in [*mine, *found]), None)


def slot_rows(runs: list[RunSummary]) -> list[RunSummary]:
    """Running runs without a GPU: they hold CPU slots."""
    return [run for run in runs if not run["gpus"]]


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**30:.1f}" if count < 10 * 2**30 else f"{count / 2**30:.0f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
