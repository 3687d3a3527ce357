"""Endpoints, their versions and servers, the gateway and the last minutes as lines and table cells. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmops_tui.screens.serve_verdict import Comparison
from llmops_tui.screens.weight_split import Split, share_text, split_words
from llmops_tui.screens.widgets.axes import bytes_text, duration_text, value_text
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.strips import bar
from llmops_tui.screens.widgets.table import Column, Row

if TYPE_CHECKING:
    from llmops_tui.specs.answers_requests import EndpointLive
    from llmops_tui.specs.answers_serving import EndpointSummary, GatewayInfo, ReplicaState, VersionState

SIGNS = {
    "ready": ("●", "good"), "remote": ("●", "accent"), "starting": ("◔", "accent"), "waiting": ("◌", "muted"), "degraded": ("◑", "warn"),
    "draining": ("◑", "warn"), "asleep": ("◌", "muted"), "cold": ("◌", "muted"), "broken": ("✗", "bad"), "unhealthy": ("✗", "bad"),
    "ended": ("○", "muted"),
}  # fmt: skip
"""Sign and colour of each state of an endpoint, a version, a server."""
UNHEALTHY = ("broken", "degraded")
_BAR_CELLS = 8
ENDPOINT_COLUMNS = (
    Column("endpoint", 14, middle=True),
    Column("state", 10),
    Column("req/s", 6, right=True),
    Column("ttft p50", 8, right=True, rank=3),
    Column("p95", 8, right=True),
    Column("slower", 6, right=True),
    Column("tok/s", 6, right=True, rank=4),
    Column("failed", 6, right=True),
    Column("servers", 7, right=True, rank=5),
    Column("", 0, least=12),
)
_PART_COLUMNS = (
    Column("version, its servers", 20, middle=True),
    Column("share", 14),
    Column("state", 11),
    Column("now", 4, right=True),
    Column("requests", 8, right=True, rank=3),
    Column("failed", 6, right=True, rank=2),
    Column("", 0, least=12),
)


def part_columns(moving: bool) -> tuple[Column, ...]:
    """`moving`: the shares are about to be others, and the old ones are told too."""
    share = replace(_PART_COLUMNS[1], width=22 if moving else _PART_COLUMNS[1].width)
    return (_PART_COLUMNS[0], share, *_PART_COLUMNS[2:])


def state_cell(state: str) -> Run:
    """Sign and word: never the colour alone."""
    sign, role = SIGNS.get(state, ("?", "text"))
    return f"{sign} {state}", role


def gateway_line(gateway: GatewayInfo | None) -> list[Run]:
    """The process in front of all: where, whether it wants keys, how much goes through it."""
    if gateway is None:
        return [(" gateway  asking the engine…", "muted")]
    state = gateway["state"]
    sign, role = {"running": ("●", "good"), "starting": ("◔", "accent"), "failed": ("✗", "bad")}.get(state, ("○", "muted"))
    line: list[Run] = [(" gateway ", "muted"), (f"{sign} {state}  ", role)]
    if state == "off":
        return [*line, ("no endpoint needs it: a starts one from a model", "muted")]
    if gateway["problem"]:
        return [*line, (gateway["problem"], "bad")]
    line += [(gateway["url"], "bright"), ("  keys needed" if gateway["auth"] == "keys" else "  no keys on this box", "muted")]
    told = (
        ("connections", gateway["connections"]), ("in flight", gateway["in_flight"]), ("requests", gateway["requests_total"]),
    )  # fmt: skip
    line += [(f" · {value:,} {name}", "text") for name, value in told if value is not None]
    if gateway["rss_bytes"] is not None:
        line.append((f" · {bytes_text(gateway['rss_bytes'])}", "muted"))
    if gateway["uptime_seconds"] is not None:
        line.append((f" · up {duration_text(gateway['uptime_seconds'])}", "muted"))
    return [*line, *((f" · {warning}", "warn") for warning in gateway["warnings"][:1])]


def leader_of(endpoint: EndpointSummary) -> str:
    """The version with the most requests."""
    return max(endpoint["versions"], key=lambda version: version["share"])["name"] if endpoint["versions"] else ""


def window_of(live: EndpointLive | None, version: str, seconds: int) -> Mapping[str, float]:
    """What the last so many seconds of a version were like; empty where there was nothing."""
    versions = live["versions"] if live else {}
    return versions[version]["windows"].get(str(seconds), {}) if version in versions else {}


def endpoint_row(endpoint: EndpointSummary, live: EndpointLive | None, comparison: Comparison | None, now: float) -> Row:
    """Rates are those of all versions in the last five minutes, latencies of the one with the most requests."""
    windows = [window_of(live, version["name"], 300) for version in endpoint["versions"]]
    requests, errors = sum(w.get("requests", 0) for w in windows), sum(w.get("errors", 0) for w in windows)
    tokens = sum(w.get("tokens_per_second", 0) for w in windows)
    first = window_of(live, leader_of(endpoint), 300)
    served = [
        version for version in endpoint["versions"] if version["weight"] > 0 and not version["provider"] and not version["adapter_of"]
    ]
    ready, wished = sum(version["ready"] for version in served), sum(version["replicas"] for version in served)
    cells: tuple[Run, ...] = (
        (endpoint["name"], "bright"),
        state_cell(endpoint["state"]),
        (value_text(round(requests / 300, 2)) if live else "-", "accent" if requests else "muted"),
        milliseconds(first.get("ttft_p50")),
        milliseconds(first.get("ttft_p95", first.get("total_p95"))),
        change_cell(comparison),
        (value_text(round(tokens, 1)) if live else "-", "text" if tokens else "muted"),
        failed_cell(requests, errors),
        (f"{ready}/{wished}", "text" if ready >= wished else "warn"),
        note_of(endpoint, now),
    )
    return Row(endpoint["name"], cells)


def change_cell(comparison: Comparison | None) -> Run:
    """How the p95 stands to the hour it is compared with; only what is not chance has a colour."""
    if comparison is None or comparison.change is None:
        return "-", "muted"
    words = f"{comparison.change:+.0%}" if abs(comparison.change) < 9.995 else f"×{comparison.change + 1:.0f}"
    return words, {"slower": "bad", "faster": "good", "same": "text"}.get(comparison.word, "muted")


def failed_cell(requests: float, errors: float) -> Run:
    """The part that failed."""
    if not requests:
        return "-", "muted"
    share = errors / requests
    if not errors:
        return "0", "muted"
    return f"{share:.2%}" if share < 0.001 else f"{share:.1%}" if share < 0.1 else f"{share:.0%}", "bad" if share >= 0.01 else "warn"


def milliseconds(value: float | None) -> Run:
    """A latency, in three digits."""
    if value is None:
        return "-", "muted"
    return (f"{value:.3g} ms" if value < 999.5 else f"{value / 1000:.3g} s"), "text"


def note_of(endpoint: EndpointSummary, now: float) -> Run:
    """What is going on, else what is wrong, else how it is kept."""
    pending = endpoint["pending"]
    if pending is not None:
        return pending_words(endpoint, now), "accent"
    if endpoint["state"] in UNHEALTHY:
        cause = next((replica["cause"] for replica in endpoint["replicas"] if replica["cause"]), "")
        return ": ".join(part for part in (endpoint["reason"], cause) if part), "bad" if endpoint["state"] == "broken" else "warn"
    if endpoint["reason"]:
        return endpoint["reason"], "muted"
    return " · ".join(kept_words(endpoint)), "muted"


def kept_words(endpoint: EndpointSummary) -> list[str]:
    """How it is kept: pinned, on demand, unloaded when idle; whom it falls back to."""
    words = ["pinned"] if endpoint["pinned"] else []
    words += ["on demand"] if endpoint["on_demand"] else []
    if endpoint["idle_unload_seconds"] and not endpoint["pinned"]:
        words.append(f"unloads after {duration_text(endpoint['idle_unload_seconds'])}")
    words += [f"falls back to {', '.join(endpoint['fallbacks'])}"] if endpoint["fallbacks"] else []
    words += [f"also called {', '.join(endpoint['aliases'])}"] if endpoint["aliases"] else []
    return words


def pending_words(endpoint: EndpointSummary, now: float) -> str:
    """A change that waits for its servers, and how far those are."""
    pending = endpoint["pending"]
    if pending is None:
        return ""
    coming = [replica for replica in endpoint["replicas"] if replica["version"] in pending["weights"]]
    wished = sum(version["replicas"] for version in endpoint["versions"] if version["name"] in pending["weights"])
    ready = sum(replica["state"] == "ready" for replica in coming)
    why = next((replica["cause"] for replica in coming if replica["cause"] and replica["state"] != "ready"), "")
    state = next((replica["state"] for replica in coming if replica["state"] != "ready"), "") if not why else ""
    how = f"{ready} of {wished} servers ready" + (f", {why}" if why else f", {state}" if state else "")
    return f"{pending['what']} to {split_words(pending['weights'])}: {how}, {duration_text(now - pending['since'])}"


def part_rows(endpoint: EndpointSummary, draft: Split | None, now: float, ascii_only: bool) -> list[Row]:
    """Each version, its servers under it."""
    rows: list[Row] = []
    shown: set[str] = set()
    for version in endpoint["versions"]:
        rows.append(Row(f"v:{version['name']}", _version_cells(version, draft, now, ascii_only)))
        for replica in endpoint["replicas"]:
            if replica["version"] == version["name"]:
                shown.add(replica["run"])
                rows.append(Row(f"r:{replica['run']}", _replica_cells(replica, now)))
    strays = [replica for replica in endpoint["replicas"] if replica["run"] not in shown]
    return [*rows, *(Row(f"r:{replica['run']}", _replica_cells(replica, now)) for replica in strays)]


def _version_cells(version: VersionState, draft: Split | None, now: float, ascii_only: bool) -> tuple[Run, ...]:
    share = 100 * version["share"]
    shown = share if draft is None else draft.get(version["name"], 0.0)
    changed = draft is not None and abs(shown - share) >= 0.005
    words = f"{bar(shown / 100, _BAR_CELLS, ascii_only)} {share_text(shown):>5}"
    if changed:
        words += f" was {share:.0f}"
    elif version["target_weight"] is not None and bool(version["target_weight"]) != bool(version["weight"]):
        words += " → all" if version["target_weight"] else " → 0"
    return (
        (version["name"], "bright"),
        (words, "warn" if changed else "accent" if shown else "muted"),
        state_cell(version["state"]),
        (str(version["in_flight"] or ""), "text"),
        (f"{version['requests']:,}", "text" if version["requests"] else "muted"),
        failed_cell(version["requests"], version["errors"]),
        (_version_about(version, now), "bad" if version["state"] == "broken" else "muted"),
    )


def _version_about(version: VersionState, now: float) -> str:
    what = f"provider {version['provider']}" if version["provider"] else version["model"]
    parts = [version["reason"]] if version["reason"] else []
    parts.append(f"adapter on {version['adapter_of']}: {what}" if version["adapter_of"] else what)
    if version["mirror"]:
        parts.append(f"copies of {version['mirror']:.0%}")
    if version["warm_until"] is not None:
        parts.append(f"warm for {duration_text(max(0.0, version['warm_until'] - now))}")
    return " · ".join(parts)


def _replica_cells(replica: ReplicaState, now: float) -> tuple[Run, ...]:
    about = [replica["runtime"] or "", f"{replica['slots']} × {replica['context']:,}" if replica["slots"] else ""]
    about += [f":{replica['port']}" if replica["port"] else "", f"adapters {', '.join(replica['adapters'])}" if replica["adapters"] else ""]
    about += [f"breaker {replica['breaker']}"] if replica["breaker"] not in ("", "closed") else []
    if replica["started_at"] is not None and replica["state"] == "ready":
        about.append(f"up {duration_text(now - replica['started_at'])}")
    ill = replica["state"] in ("unhealthy", "ended")
    words = " · ".join(part for part in about if part)
    return (
        (f"  {replica['run']}", "text"),
        ("", "muted"),
        state_cell(replica["state"]),
        (str(replica["outstanding"] or ""), "text"),
        ("", "muted"),
        ("", "muted"),
        (f"{replica['cause']} · {words}" if replica["cause"] else words, "bad" if ill else "muted"),
    )


def health_line(endpoints: Sequence[EndpointSummary], gateway: GatewayInfo | None) -> list[Run]:
    """Whether all that is served answers; what does not, and why."""
    if gateway is not None and gateway["state"] == "failed":
        return [(" ✗ nothing can be asked: ", "bad"), (gateway["problem"] or "the gateway does not run", "bad")]
    ill = [endpoint for endpoint in endpoints if endpoint["state"] in UNHEALTHY]
    asleep = sum(endpoint["state"] == "asleep" for endpoint in endpoints)
    starting = [endpoint["name"] for endpoint in endpoints if endpoint["state"] == "starting"]
    if ill:
        first = ill[0]
        cause = note_of(first, 0.0)[0]
        more = f" (and {len(ill) - 1} more)" if len(ill) > 1 else ""
        return [(f" ✗ {first['name']} is {first['state']}: ", "bad"), (f"{cause}{more}", "text")]
    if starting:
        rest = "; all else answers" if len(endpoints) > len(starting) else ""
        return [(f" ◔ {', '.join(starting)} start{'s' if len(starting) == 1 else ''}{rest}", "accent")]
    words = f"all {len(endpoints)} endpoints answer" if len(endpoints) > 1 else "it answers"
    return [(" ✓ healthy: ", "good"), (words + (f", {asleep} when asked first: asleep" if asleep else ""), "text")]


def speed_lines(name: str, comparison: Comparison | None, wide: bool) -> list[list[Run]]:
    """Whether an endpoint is as fast as it was, with the counts behind it: in one line where there is room, else in two."""
    if comparison is None:
        return [[(f" ◌ {name}: asking how fast it was…", "muted")]]
    now, then = comparison.now, comparison.then
    if now is None or not now.requests:
        return [[(f" ◌ {name}: no request in the last hour", "muted")]]
    what = "first token" if comparison.quantity == "ttft" else "whole answer"
    of = f"{name} {comparison.version}"
    ours = f"{what} p95 {milliseconds(now.p95[comparison.quantity])[0]} of {now.requests:,} requests"
    if then is None or not then.requests:
        return _spread([(f" ◌ {of} has nothing to be compared with yet: ", "muted")], [(ours, "muted")], wide)
    numbers = f"{ours}, then {milliseconds(then.p95[comparison.quantity])[0]} of {then.requests:,}"
    beside = comparison.beside
    head, role = {
        "slower": (f"▲ {of} is slower than {beside}: {comparison.change or 0.0:+.0%}", "bad"),
        "faster": (f"▼ {of} is faster than {beside}: {comparison.change or 0.0:+.0%}", "good"),
        "same": (f"✓ {of} is as fast as {beside}", "good"),
    }.get(comparison.word, (f"◌ {of}: too few requests to tell, beside {beside}", "muted"))
    chance = [(" (by chance less than 1 look of 100)", "muted")] if comparison.word in ("slower", "faster") else []
    return _spread([(f" {head}", role)], [(numbers, "text"), *chance], wide)


def _spread(head: list[Run], rest: list[Run], wide: bool) -> list[list[Run]]:
    return [[*head, ("   ", "text"), *rest]] if wide else [head, [("   ", "text"), *rest]]
