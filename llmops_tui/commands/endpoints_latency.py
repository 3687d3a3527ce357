"""`endpoints latency`: the last minutes of an endpoint, or its history."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.output import MISSING, duration, number, one_line, percent, print_json, print_table, say
from llmops_tui.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmops_tui.specs.answers_requests import EndpointLive, LatencyHistory, LatencyPoint

_MEASURES = ("ttft", "itl", "total", "queue")
_HEADS = ("TTFT", "BETWEEN TOKENS", "TOTAL", "QUEUE")


def latency(args: argparse.Namespace) -> int:
    """Now by default; with `--since` the history."""
    if args.until is not None and args.since is None:
        raise UsageError("--until ends a history that --since begins", "give --since too")
    if args.since is not None and args.until is not None and args.until <= args.since:
        raise UsageError("--until is not after --since", "give a later one")
    serving = connect(args).serving
    if args.since is None:
        live = serving.live(args.name)
        if args.json:
            print_json(live)
        else:
            _print_live(live)
        return 0
    history = serving.latency(args.name, since=args.since, until=args.until, points=args.points)
    if args.json:
        print_json(history)
    else:
        _print_history(history)
    return 0


def _print_live(live: EndpointLive) -> None:
    if rows := live_rows(live):
        print_table(["VERSION", "LAST", "REQUESTS", "ERRORS", "GOOD", *(f"{head} p50/p95/p99" for head in _HEADS)], rows, right=range(2, 9))
        print()
    else:
        say(f"{live['endpoint']} was asked nothing in the last hour")
    print_table(
        ["VERSION", "RUNNING", "WAITING", "KV CACHE", "PREFIX HITS", "TOKENS/S", "J/1K TOKENS", f"{live['currency'] or 'COST'}/1K TOKENS"],
        load_rows(live),
        right=range(1, 8),
    )
    if live["energy_basis"]:
        say(f"energy: {one_line(live['energy_basis'])}")


def _print_history(history: LatencyHistory) -> None:
    now = time.time()
    rows = [
        [
            clock(point["t"], now), version or MISSING, str(point["requests"]), str(point["errors"]), good_text(point),
            *(quantiles(point, measure) for measure in _MEASURES),
        ]
        for version, points in history["versions"].items()
        for point in points
    ]  # fmt: skip
    if not rows:
        say(f"{history['endpoint']} was asked nothing then")
        return
    say(f"a line for each {duration(history['seconds'])} with requests; exact over those of that time")
    print_table(["FROM", "VERSION", "REQUESTS", "ERRORS", "GOOD", *(f"{head} p50/p95/p99" for head in _HEADS)], rows, right=range(2, 9))


def live_rows(live: EndpointLive) -> list[list[str]]:
    """One line a version and window that had requests."""
    return [
        [
            version, duration(float(seconds)), number(window.get("requests")), number(window.get("errors")), good_text(window),
            *(quantiles(window, measure) for measure in _MEASURES),
        ]
        for version, told in live["versions"].items()
        for seconds, window in sorted(told["windows"].items(), key=lambda item: float(item[0]))
        if window.get("requests")
    ]  # fmt: skip


def load_rows(live: EndpointLive) -> list[list[str]]:
    """One line a version: what its servers say, energy and money."""
    return [
        [
            version, number(told["load"]["running"]), number(told["load"]["waiting"]), percent(told["load"]["kv_cache_fraction"]),
            percent(told["load"]["prefix_hit_fraction"]), number(told["load"]["generated_tokens_per_second"]),
            number(told["joules_per_1k_tokens"]), number(told["cost_per_1k_tokens"]),
        ]
        for version, told in live["versions"].items()
    ]  # fmt: skip


def good_text(values: Mapping[str, object] | LatencyPoint) -> str:
    """The share of requests within the SLO."""
    good, requests = values.get("good"), values.get("requests")
    return percent(good / requests) if isinstance(good, int | float) and isinstance(requests, int | float) and requests else MISSING


def quantiles(values: Mapping[str, object] | LatencyPoint, measure: str) -> str:
    """`57/68/70 ms`, in seconds from ten on."""
    found = [values.get(f"{measure}_{rank}") for rank in ("p50", "p95", "p99")]
    numbers = [value for value in found if isinstance(value, int | float)]
    if len(numbers) < len(found):
        return MISSING
    if max(numbers) >= 10_000:
        return "/".join(f"{value / 1000:.3g}" for value in numbers) + " s"
    return "/".join(f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in numbers) + " ms"
