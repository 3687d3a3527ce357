"""Requests a second through the gateway on one core, everything on: routing over two replicas, bearer keys, record, metrics.

    python benchmarks/gateway.py [--quick]

A C server that answers at once stands behind, a C generator with 64 kept connections in front; the front that is measured has a core of
its own, they have another. Beside ours in the same run, in turns: nginx as a plain reverse proxy with kept upstream connections and one
worker, a plain aiohttp proxy, and LiteLLM's proxy with one worker, warmed up (each where it can be installed).

Bars are held by answers a CPU second of the front: what one core gives when nothing takes part of it away; the wall stands beside. Rounds
are short and run ahead of other programs (chrt), where this user may do that; where not, the wall shows what others left.

The added latency is the median at 16 connections less that without a front, at 2,000 requests a second, each counted from when it was due;
a closed loop of 16 keeps the core full, so that its median is 16 times what a request costs; it is printed beside.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from gateway_peers import ratios, show, side_by_side
from gateway_rig import OurGateway, Tools

BARS: dict[str, float] = {"requests_per_core_second": 8000, "added_p50_ms": 1.0, "nginx": 0.25, "aiohttp proxy": 2.5, "LiteLLM proxy": 20}
RATE = 2000


def added(tools: Tools, home: Path, seconds: float) -> dict[str, Any]:
    """Latency at 16 connections without a front and with ours, in ms: at a rate, and in a closed loop that fills the core."""
    told: dict[str, Any] = {}
    with tools.backends(ahead=True) as ports:
        front = OurGateway(home / "latency", ports, ahead=True)
        try:
            for name, port in (("direct", ports[0]), ("gateway", front.port)):
                at_rate = tools.load(port, [tools.json_request], 16, seconds, 0.5, rate=RATE, ahead=True)["latency"]
                closed = tools.load(port, [tools.json_request], 16, seconds / 2, 0.5, ahead=True)["latency"]
                told[name] = {
                    "p50_ms": at_rate["p50"] / 1000, "p99_ms": at_rate["p99"] / 1000,
                    "closed_p50_ms": closed["p50"] / 1000, "closed_p99_ms": closed["p99"] / 1000,
                }  # fmt: skip
        finally:
            front.close()
    told["added_p50_ms"] = round(told["gateway"]["p50_ms"] - told["direct"]["p50_ms"], 3)
    told["added_closed_p50_ms"] = round(told["gateway"]["closed_p50_ms"] - told["direct"]["closed_p50_ms"], 3)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, without LiteLLM, which takes a minute to start")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="llmops-gateway-") as place:
        home = Path(place)
        tools = Tools(home / "tools")
        latency = added(tools, home, 2 if quick else 6)
        without = ("LiteLLM proxy",) if quick else ()
        with tools.backends(ahead=True) as ports:
            found, rss = side_by_side(tools, home, tools.json_request, 0.7, 3 if quick else 10, ports, without)
    show(found, "requests")
    print(f"\n{'16 connections':16}{f'p50 at {RATE:,}/s':>26}{'p99':>24}{'p50, closed loop':>18}")
    for name in ("direct", "gateway"):
        each = latency[name]
        print(f"{name:16}{each['p50_ms']:>23.3f} ms{each['p99_ms']:>21.3f} ms{each['closed_p50_ms']:>15.3f} ms")
    ours = found["llmops-tui"]
    ratio = ratios(found)
    holds = (
        ours.by_core >= BARS["requests_per_core_second"]
        and latency["added_p50_ms"] <= BARS["added_p50_ms"]
        and all(value >= BARS[name] for name, value in ratio.items())
    )
    print(
        json.dumps(
            {
                "benchmark": "gateway",
                "ours": {
                    "requests_per_core_second": round(ours.by_core), "requests_per_second": round(ours.by_wall),
                    "added_p50_ms": latency["added_p50_ms"], "added_closed_p50_ms": latency["added_closed_p50_ms"],
                    "rss_mib": round(rss, 1),
                },
                "peer": {name: round(each.by_core) for name, each in found.items() if name != "llmops-tui"},
                "ratio": ratio,
                "bar": BARS,
                "holds": holds,
            }
        )
    )  # fmt: skip
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
