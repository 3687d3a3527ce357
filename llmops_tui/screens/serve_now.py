"""One version's last minute, five minutes and hour beside each other, what its servers say of themselves, and what it costs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmops_tui.screens.serve_cells import failed_cell
from llmops_tui.screens.widgets.axes import value_text
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.table import Column, Row

if TYPE_CHECKING:
    from llmops_tui.specs.answers_requests import EndpointLive, VersionLive

WINDOWS = ((60, "last minute"), (300, "five minutes"), (3600, "last hour"))
NOW_COLUMNS = (
    Column("p50·p95·p99, ms", 18),
    *(Column(title, 0, right=True, least=19, rank=0 if seconds == 300 else 2 if seconds == 60 else 1) for seconds, title in WINDOWS),
)
_LATENCIES = (("ttft", "first token"), ("itl", "between tokens"), ("total", "whole answer"), ("queue", "queue"))


def now_rows(live: EndpointLive | None, version: str, slo: Mapping[str, float]) -> list[Row]:
    """Empty while nothing is known."""
    if live is None:
        return []
    of = live["versions"].get(version)
    windows = [(of["windows"].get(str(seconds), {}) if of else {}, seconds) for seconds, _ in WINDOWS]
    rows = [_row("requests/s", [_number(window.get("requests", 0) / seconds) for window, seconds in windows])]
    rows.append(_row("tokens/s", [_number(window.get("tokens_per_second", 0)) for window, _ in windows]))
    rows.append(_row("failed", [failed_cell(window.get("requests", 0), window.get("errors", 0)) for window, _ in windows]))
    rows += [_row(words, [_quantiles(window, name) for window, _ in windows]) for name, words in _LATENCIES]
    if any(slo.values()):
        rows.append(_row("good (SLO)", [_good(window) for window, _ in windows]))
        rows.append(_fact("asked of it", slo_words(slo)))
    rows.append(Row("!load", (("its servers now", "title"),), title=True))
    rows += _load_rows(of)
    rows += _cost_rows(of, live)
    return rows


def slo_words(slo: Mapping[str, float]) -> str:
    """What a good answer keeps to."""
    names = (("ttft_ms", "first token"), ("itl_ms", "between tokens"), ("total_ms", "whole answer"))
    return ", ".join(f"{words} ≤ {slo[name]:g} ms" for name, words in names if slo.get(name))


def slo_of(spec: Mapping[str, Any] | None) -> dict[str, float]:
    """From an endpoint's spec; nothing asked where it is not known."""
    found = spec.get("slo") if spec else None
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)} if isinstance(found, dict) else {}


def _load_rows(of: VersionLive | None) -> list[Row]:
    load = of["load"] if of else None
    if load is None or all(value is None for value in load.values()):
        return [_fact("load", "they say nothing of it")]
    counts = [f"{load[name]:.0f} {words}" for name, words in (("running", "running"), ("waiting", "waiting")) if load[name] is not None]  # type: ignore[literal-required]
    rows = [_fact("requests", " · ".join(counts))] if counts else []
    shares = (("kv_cache_fraction", "KV cache used"), ("prefix_hit_fraction", "prefix hits"))
    rows += [_fact(words, f"{load[name]:.0%}") for name, words in shares if load[name] is not None]  # type: ignore[literal-required]
    if load["generated_tokens_per_second"] is not None:
        rows.append(_fact("generate", f"{value_text(round(load['generated_tokens_per_second'], 1))} tokens/s"))
    return rows


def _cost_rows(of: VersionLive | None, live: EndpointLive) -> list[Row]:
    joules, cost = (of["joules_per_1k_tokens"], of["cost_per_1k_tokens"]) if of else (None, None)
    known = f"{value_text(round(joules, 1))} J for 1,000 tokens" if joules is not None else "not known"
    rows = [_fact("energy", f"{known}; {live['energy_basis']}" if live["energy_basis"] else known)]
    if cost is not None:
        many = 1 if cost >= 0.001 or not cost else 1000  # a small model's thousand tokens cost too little to be read
        rows.append(_fact("money", f"{value_text(many * cost)} {live['currency']} for {1000 * many:,} tokens".replace("  ", " ")))
    return rows


def _row(name: str, cells: list[Run]) -> Row:
    return Row(name, ((name, "muted"), *cells))


def _fact(name: str, words: str) -> Row:
    """A word over the whole line."""
    return Row(f"fact.{name}", ((f"{name:<19}{words}", "text"),), wide=0)


def _number(value: float) -> Run:
    return value_text(round(value, 2)), "text" if value else "muted"


def _quantiles(window: Mapping[str, float], name: str) -> Run:
    values = [window.get(f"{name}_{rank}") for rank in ("p50", "p95", "p99")]
    if all(value is None for value in values):
        return "-", "muted"
    return " · ".join(_short(value) for value in values), "text"


def _short(value: float | None) -> str:
    """At most five characters, so that three stand in a cell."""
    if value is None:
        return "-"
    if value >= 999.5:
        return f"{value / 1000:.3g}s"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _good(window: Mapping[str, float]) -> Run:
    requests = window.get("requests", 0)
    if not requests:
        return "-", "muted"
    share = window.get("good", 0) / requests
    return f"{share:.1%}", "good" if share >= 0.99 else "warn" if share >= 0.9 else "bad"
