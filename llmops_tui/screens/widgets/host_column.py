"""One box among several: how it is reached, its GPUs or CPU, what runs there, waits and has ended; pure lines from its state."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from llmops_tui import __version__
from llmops_tui.screens.widgets.axes import bytes_text
from llmops_tui.screens.widgets.lines import Run, fit, fit_middle
from llmops_tui.screens.widgets.panels import BADGES, eta_of, level_role, loss_of, progress_run, state_run
from llmops_tui.screens.widgets.strips import history_strip

if TYPE_CHECKING:
    from llmops_tui.screens.state import ViewState
    from llmops_tui.specs.answers import GpuSample, RunSummary

_PROGRESS_CELLS = 14
_LONGEST_STRIP = 30
_REASON_LINES = 4


def host_column(state: ViewState, width: int, height: int, ascii_only: bool) -> list[list[Run]]:
    """At most `height` lines of `width` cells; what does not fit is counted."""
    word = state.connection
    lines: list[list[Run]] = [[(" ", "text"), (f" {word} ", BADGES[word]), *_counts(state)]]
    if not state.live and state.reason:
        lines += [[(f" {line}", "warn")] for line in wrap(state.reason, max(10, width - 2))[:_REASON_LINES]]
    if state.status is None:
        return lines[:height]
    box = _gpus(state, state.status["gpus"], width, ascii_only) or _host(state, width, ascii_only)
    runs = [line for run in state.status["running"] for line in _run(run, width, ascii_only)]
    runs += [_line(run, width) for run in state.status["waiting"]]
    room = max(0, height - len(lines))
    box = _most(box, max(1, room // 2) if runs else room, "GPUs")
    runs = _most(runs, room - len(box), "lines")
    ended = [_line(run, width) for run in state.status["recent"]]
    return [*lines, *box, *runs, *ended][:height]


def _counts(state: ViewState) -> list[Run]:
    status = state.status
    if status is None:
        return []
    counts, engine = status["counts"], status["engine"]
    running, waiting = counts.get("running", 0), counts.get("queued", 0) + counts.get("blocked", 0)
    told: list[Run] = [(f" {running} running", "accent" if running else "muted"), (f"  {waiting} waiting", "muted")]
    if unread := state.unread():
        told.append((f"  {unread} unread", "warn"))
    if engine["version"] != __version__:
        told.append((f"  engine {engine['version']}", "warn"))
    problem = engine["ingest"] if engine["ingest"] != "ok" else next(iter(engine["warnings"]), "")
    told.append((f"  {engine.get('host', '')}" if state.remote else "", "muted"))
    return [*told, (f"  {problem}" if problem else "", "warn")]


def _gpus(state: ViewState, gpus: Sequence[GpuSample], width: int, ascii_only: bool) -> list[list[Run]]:
    lines: list[list[Run]] = []
    for gpu in gpus:
        used, total, load = gpu["memory_used_bytes"], gpu["memory_total_bytes"], gpu["utilisation"]
        strip = history_strip(list(state.history.get(f"gpu/{gpu['index']}/utilisation", ())), _strip_cells(width, 24), ascii_only)
        memory = f"{'-' if used is None else f'{used / 2**30:.0f}'}/{'-' if total is None else f'{total / 2**30:.0f}'} GiB"
        line: list[Run] = [(f" {gpu['index']:<2}", "bright"), (strip, "accent"), ("   -" if load is None else f"{load:4.0%}", "accent")]
        line.append((f" {memory:>10} ", "text"))
        bad = gpu["health"] != "ok"
        word = gpu["health"] if bad else "throttled" if gpu["throttle_reasons"] else ""
        lines.append([*line, (word, "bad" if bad else "warn")])
    return lines


def _host(state: ViewState, width: int, ascii_only: bool) -> list[list[Run]]:
    if state.status is None:
        return []
    host = state.status["host"]
    used, total = host["memory_used_bytes"], host["memory_total_bytes"]
    rows = (
        ("cpu", host["cpu"], "host/cpu", f"{host['cpu_cores']} cores"),
        ("mem", None if used is None else used / max(1, total), "host/memory", bytes_text(total)),
    )
    lines: list[list[Run]] = []
    for name, share, history, note in rows:
        strip = history_strip(list(state.history.get(history, ())), _strip_cells(width, 22), ascii_only)
        role = level_role(share)
        lines.append([(f" {name} ", "muted"), (strip, role), ("   -" if share is None else f"{share:4.0%}", role), (f" {note}", "muted")])
    return lines


def _strip_cells(width: int, beside: int) -> int:
    return max(4, min(_LONGEST_STRIP, width - beside))


def _run(run: RunSummary, width: int, ascii_only: bool) -> list[list[Run]]:
    sign, role = state_run(run["state"])
    loss, eta = loss_of(run), eta_of(run)
    told: list[Run] = [
        progress_run(run, _PROGRESS_CELLS, ascii_only),
        (f"loss {loss}" if loss else "", "bad" if loss in ("nan", "inf", "-inf") else "text"),
        (eta if eta != "-" else "", "muted"),
    ]
    second: list[Run] = [("   ", "text")]
    for text, kind in told:
        second += [(text, kind), ("  ", "text")] if text else []
    return [[(f" {sign[:1]} ", role), (fit_middle(run["id"], max(10, width - 4)), "bright")], second]


def _line(run: RunSummary, width: int) -> list[Run]:
    """A run that waits, or has ended."""
    sign, role = state_run(run["state"])
    return [(f" {sign[:1]} ", role), (fit(f"{run['id']} {run['reason']}".rstrip(), max(10, width - 4)), "muted")]


def _most(lines: list[list[Run]], most: int, what: str) -> list[list[Run]]:
    """The lines, or as many as there is room for and how many there are beyond."""
    if len(lines) <= most:
        return lines
    kept = lines[: max(0, most - 1)]
    return [*kept, [(f" … {len(lines) - len(kept)} more {what}", "muted")]][: max(0, most)]
