"""Lines of the header, the host and GPU panel, the event list and the foot: pure functions from answers to coloured lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from llmops_tui import __version__
from llmops_tui.keys import page_keys
from llmops_tui.screens.palette import STATE_ROLES, STATE_SIGNS
from llmops_tui.screens.widgets.axes import bytes_text, duration_text, value_text
from llmops_tui.screens.widgets.lines import Run, fit, spaced
from llmops_tui.screens.widgets.strips import bar, history_strip

if TYPE_CHECKING:
    from llmops_tui.screens.state import ViewState
    from llmops_tui.specs.answers import EngineEvent, GpuSample, RunSummary

BADGES = {"LIVE": "badge-good", "CONNECTING": "badge-warn", "RECONNECTING": "badge-bad", "SILENT": "badge-bad", "PAST": "badge-warn"}
_PAGE_TITLES = {"pulse": "Pulse", "runs": "Runs", "queue": "Queue", "gpus": "GPUs", "inbox": "Inbox", "serve": "Serve"}
_TABS_BESIDE_NOTICE = 120
_WARM, _HOT = 0.7, 0.9
_GPU_EVENT_ROLES = {"gpu.back": "good", "gpu.throttled": "warn"}
_UNLISTED_BYTES = 500 << 20  # the ledger's tolerance: a driver alone takes some
_FULL = 0.97  # a GPU is there to be filled: only the last percents are worth a colour


def header(state: ViewState, width: int) -> list[Run]:
    """Where one is, what answers, what is unread, whether it is live or which moment it shows, and the time."""
    word = state.connection
    clock = time.strftime("%H:%M:%S" if state.moment is None else "%m-%d %H:%M:%S", time.localtime(state.clock()))
    slow: list[Run] = [(" slow line ", "warn")] if state.slow else []
    right: list[Run] = [*slow, (" ", "text"), (f" {word} ", BADGES[word]), (f"  {clock} ", "muted")]
    where: list[Run] = [(" llmops-tui ", "title"), *place(state)]
    if state.status is None:
        return spaced(where, right, width)
    engine, counts = state.status["engine"], state.status["counts"]
    other = state.other_version()
    version: Run = (f"  engine {engine['version']}" + (f", console {__version__}" if other else ""), "warn" if other else "muted")
    running, waiting = counts.get("running", 0), counts.get("queued", 0) + counts.get("blocked", 0)
    told: list[Run] = [("  ", "text"), (f"{running} running", "accent" if running else "muted"), (f"  {waiting} waiting", "muted")]
    told += serving_alarm(state)
    if unread := state.unread():
        told.append((f"  {unread} unread", "warn"))
    told += rights(state)
    problem = engine["ingest"] if engine["ingest"] != "ok" else next(iter(engine["warnings"]), "")
    if problem:
        told.append((f"  {problem}", "warn"))
    # Where there is little room, what is never news gives way first.
    for left in ([*where, version, *told], [*where, *told], [*where[1:], *told]):
        if sum(cell_len(text) for text, _ in [*left, *right]) <= width:
            break
    return spaced([*where, version, *told] if other else left, right, width)


def serving_alarm(state: ViewState) -> list[Run]:
    """What of the endpoints does not answer as it should; nothing where all do."""
    serving = state.status.get("serving") if state.status else None  # an engine of before tells none, nor does the past
    ill = serving["unhealthy"] if serving else 0
    return [(f"  ✗ {ill} endpoint{'s' if ill > 1 else ''} unhealthy", "bad")] if ill else []


def serving_lines(state: ViewState) -> list[list[Run]]:
    """The endpoints in one line; none where nothing is served."""
    serving = state.status.get("serving") if state.status else None
    if not serving or not serving["endpoints"]:
        return []
    count, ill, asleep = serving["endpoints"], serving["unhealthy"], serving["asleep"]
    key = dict(page_keys()).get("serve", "")
    line: list[Run] = [(" serving", "muted"), (f" {count} endpoint{'s' if count > 1 else ''}", "accent")]
    line.append((f" · ✗ {ill} unhealthy", "bad") if ill else (" · ✓ healthy", "good"))
    if asleep:
        line.append((f" · {asleep} asleep", "muted"))
    return [[*line, (f"   {key} shows them", "muted")]]


def rights(state: ViewState) -> list[Run]:
    """On an engine that others share: for whom it is, and what one may do there; on one's own only whether nothing may be changed."""
    engine = state.status["engine"] if state.status else None
    you = engine.get("you") if engine else None
    if engine is None or you is None:
        return []
    told: list[Run] = [(f"  @{engine['group']}, you are {you['role']}", "muted")] if engine["shared"] else []
    return [*told, ("  read only", "warn")] if you["read_only"] else told


def place(state: ViewState) -> list[Run]:
    """The box one is at: its name, and of one behind ssh also its own name for itself where that is another."""
    if not state.remote:
        return [(f" {state.host}", "bright")]
    told = state.status["engine"].get("host", "") if state.status else ""  # an older engine does not say
    known = state.host.rpartition("@")[2].partition(".")[0]
    own: list[Run] = [(f" ({told})", "muted")] if told and told.partition(".")[0] != known else []
    return [(" ssh ", "muted"), (state.host, "bright"), *own]


def level_role(fraction: float | None) -> str:
    """Green, yellow, red by how full something is."""
    if fraction is None:
        return "muted"
    return "good" if fraction < _WARM else "warn" if fraction < _HOT else "bad"


def host_panel(state: ViewState, width: int, ascii_only: bool) -> list[list[Run]]:
    """CPU, memory and disk, a line each with its last minutes."""
    if state.status is None:
        return [[(" waiting for the engine's first answer", "muted")]]
    host = state.status["host"]
    used, free = host["memory_used_bytes"], host["disk_free_bytes"]
    memory = None if used is None else used / max(1, host["memory_total_bytes"])
    disk = None if free is None else 1 - free / max(1, host["disk_total_bytes"])
    slots = f"{host['cpu_slots_free']} of {host['cpu_slots']} slots free"
    room = max(8, min(60, width - 60))
    rows = (
        ("cpu", host["cpu"], "host/cpu", f"{host['cpu_cores']} cores · load {_load_text(host['load_1m'])} · {slots}"),
        ("memory", memory, "host/memory", f"{bytes_text(used)} of {bytes_text(host['memory_total_bytes'])}"),
        ("disk", disk, "", f"{bytes_text(free)} free of {bytes_text(host['disk_total_bytes'])}"),
    )
    lines: list[list[Run]] = []
    for name, fraction, history, note in rows:
        strip = history_strip(list(state.history.get(history, ())), room, ascii_only) if history else bar(fraction or 0.0, room, ascii_only)
        role = level_role(fraction)
        share = "   -" if fraction is None else f"{fraction:>4.0%}"
        lines.append([(f" {name:<7}", "muted"), (strip, role), (f" {share}  ", role), (note, "muted")])
    return lines


def _load_text(load: float | None) -> str:
    return "-" if load is None else f"{load:.2f}" if load < 100 else f"{load:.0f}"


def gpu_panel(state: ViewState, gpus: Sequence[GpuSample], width: int, ascii_only: bool) -> list[list[Run]]:
    """A row a GPU: load, memory, power, temperature, health, and who is on it."""
    return [_gpu_row(state, gpu, width, ascii_only) for gpu in gpus]


def _gpu_row(state: ViewState, gpu: GpuSample, width: int, ascii_only: bool) -> list[Run]:
    used, total = gpu["memory_used_bytes"], gpu["memory_total_bytes"]
    memory = used / total if used is not None and total else None
    load = gpu["utilisation"]
    power, limit = gpu["power_watts"], gpu["power_limit_watts"]
    heat = gpu["temperature_celsius"]
    strip = history_strip(list(state.history.get(f"gpu/{gpu['index']}/utilisation", ())), max(6, min(40, width - 66)), ascii_only)
    percent = "   -" if load is None else f"{load:4.0%}"
    watts = f"{'-' if power is None else f'{power:.0f}'}/{'-' if limit is None else f'{limit:.0f}'} W"
    healthy = gpu["health"] == "ok" and not gpu["throttle_reasons"]
    health = gpu["health"] if gpu["health"] != "ok" else "throttled" if gpu["throttle_reasons"] else "ok"
    memory_text = f"{_gib(used)}/{'-' if total is None else f'{total / 2**30:.0f}'} GiB"
    line: list[Run] = [
        (f" {gpu['index']:<2}", "bright"),
        (strip, "accent"),
        (f"{percent} ", "accent"),
        (fit(memory_text, 11, right=True) + " ", "warn" if memory is not None and memory > _FULL else "text"),
        (fit(watts, 10, right=True) + " ", "text"),
        (f"{'-' if heat is None else f'{heat:.0f}'}°C ".rjust(6), "text" if heat is None or heat < 80 else "warn" if heat < 88 else "bad"),
        (fit(health, 9) + " ", "good" if healthy else "bad" if gpu["health"] != "ok" else "warn"),
    ]
    slowed = ", ".join(gpu["throttle_reasons"]).replace("_", " ")
    return [*line, (gpu_owner(gpu), "accent" if gpu["held_by"] else "muted"), (f"  {slowed}" if slowed else "", "warn")]


def _gib(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 2**30:.1f}" if 0 < count < 10 * 2**30 else f"{count / 2**30:.0f}"


def gpu_owner(gpu: GpuSample) -> str:
    """Our run, else the foreign process with the most memory, else that somebody unseen holds some."""
    if gpu["held_by"]:
        return ", ".join(gpu["held_by"])
    if gpu["reason"] and gpu["health"] != "ok":
        return gpu["reason"]
    foreign = [process for process in gpu["processes"] if not process["run"]]
    if not foreign:
        # As a container's processes are to those outside of it; the queue does not hand out such a GPU either.
        return "unlisted process" if (gpu["memory_used_bytes"] or 0) > _UNLISTED_BYTES else "free"
    largest = max(foreign, key=lambda process: process["memory_bytes"] or 0)
    program, _, rest = largest["command"].partition(" ")
    command = f"{program.rsplit('/', 1)[-1]} {rest}".rstrip() or f"pid {largest['pid']}"
    owner = f"{largest['owner']}: " if largest["owner"] else ""
    return f"{owner}{command} ({bytes_text(largest['memory_bytes'])})"


def state_run(state: str) -> Run:
    """A state's sign and word in its colour: never the colour alone."""
    return f"{STATE_SIGNS.get(state, '?')} {state.replace('_', ' ')}", STATE_ROLES.get(state, "text")


def progress_run(run: RunSummary, width: int, ascii_only: bool) -> Run:
    """A bar, the phase's count where the total is unknown, or the phase; nothing where all is done or nothing has begun."""
    progress = run["progress"]
    if progress is None or run["state"] in ("queued", "blocked", "succeeded"):
        return "", "muted"
    total = progress["total"]
    if not total:
        return f"{progress['done']:g} {progress['unit']}" if progress["done"] else progress["phase"][:width], "muted"
    fraction = progress["done"] / total
    role = STATE_ROLES.get(run["state"], "accent")
    return f"{bar(fraction, width - 5, ascii_only)} {min(1.0, fraction):>4.0%}", role


def elapsed_seconds(run: RunSummary, now: float) -> float | None:
    """From start to end or now; of a waiting run how long it waits."""
    begin = run["started_at"] or run["submitted_at"]
    return max(0.0, (run["ended_at"] or now) - begin)


def loss_of(run: RunSummary) -> str:
    """The newest training loss, else the newest evaluation loss."""
    latest = run["latest"]
    value = latest.get("train/loss", latest.get("eval/loss"))
    return value_text(value) if value is not None else ""


def eta_of(run: RunSummary) -> str:
    """What is left, of a run that runs."""
    progress = run["progress"]
    if run["state"] not in ("starting", "running") or progress is None:
        return ""
    return duration_text(progress["eta_seconds"])


def event_line(event: EngineEvent) -> list[Run]:
    """One event as a sentence."""
    data = event["data"]
    clock = time.strftime("%H:%M:%S", time.localtime(event["t"]))
    line: list[Run] = [(f" {clock} ", "muted"), (event["run"] or "", "text"), (" " if event["run"] else "", "text")]
    kind = event["type"]
    if kind == "run.state" and isinstance(data.get("state"), str):
        line.append(state_run(data["state"]))
        if data.get("reason"):
            line.append((f" {data['reason']}", "muted"))
    elif kind == "run.checkpoint":
        line.append((f"checkpoint at step {data.get('step', '?')}", "good"))
    elif kind == "run.control":
        at = f" at step {data['step']}" if data.get("step") is not None else ""
        line.append((f"{data.get('command', '?')}{at}: {data.get('outcome', '')}", "text"))
    elif kind == "run.submitted":
        line.append(("submitted", "muted"))
    elif kind.startswith("gpu."):
        reasons = data.get("reasons")
        why = ", ".join(map(str, reasons)).replace("_", " ") if isinstance(reasons, list) else data.get("meaning") or data.get("reason")
        what = f"Xid {data.get('xid', '?')}" if kind == "gpu.xid" else kind.removeprefix("gpu.")
        line.append((f"GPU {data.get('gpu', '?')} {what}" + (f": {why}" if why else ""), _GPU_EVENT_ROLES.get(kind, "bad")))
    else:
        told = " ".join(str(data[name]) for name in ("message", "reason", "name") if data.get(name))
        line.append((f"{kind} {told}".rstrip(), "text"))
    return line


def worth_telling(event: EngineEvent) -> bool:
    """Progress is on the screen already."""
    return event["type"] not in ("run.progress", "run.sample", "stream.reset")


def foot(hints: Sequence[tuple[str, str]], notice: str, notice_role: str, width: int, page: str = "") -> list[Run]:
    """The keys of this screen, or the notice while there is one; on one of the `PAGES` these as tabs, with the keys that go there."""
    tabs: list[Run] = []
    for name, key in page_keys() if page else ():
        role = "badge-good" if name == page else "muted"
        tabs += [(f" {key} {_PAGE_TITLES[name]} ", role)]
    if notice:
        return spaced([(f" {notice}", notice_role)], tabs if width >= _TABS_BESIDE_NOTICE else [], width)
    line: list[Run] = []
    room = width - sum(len(text) for text, _ in tabs)
    sizes = {hint: len(hint[0]) + len(hint[1]) + 3 for hint in hints}
    asking = next((hint for hint in hints if hint[1] == "help"), None)
    room -= sizes[asking] if asking else 0  # the way to all others is always there
    for key, word in hints:
        if (key, word) != asking:
            room -= sizes[key, word]
        if room >= 0 or (key, word) == asking:
            line += [(f" {key} ", "key"), (f"{word} ", "muted")]
    return spaced(line, tabs, width)
