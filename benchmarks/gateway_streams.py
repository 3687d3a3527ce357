"""Streams through the gateway on one core, everything on: bursts of 64 tokens, paced ones, 10,000 that idle, clients that hardly read.

    python benchmarks/gateway_streams.py [--quick]

Set up as gateway.py, which also says how a figure comes about on a machine that others use. Bursts: streams a CPU second of the front at
64 connections, beside nginx, an aiohttp proxy and LiteLLM in turns.

Paced: 64 streams of 50 tokens a second, begun one after another. Each token carries the clock of its writing; what is held is the 99th
percentile of by how much the gap between two tokens at the client differs from the gap at the server, and the same without a front stands
beside. Programs go ahead of others then (chrt), where this user may do that.

Idle: 10,000 streams (or as many as two descriptors each allow), one token each 20 s. Slow: 64 clients read a byte a second of answers of
4 MB while 16 others ask for JSON: their latency before and meanwhile.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway_peers import ratios, show, side_by_side
from gateway_rig import TOKENS, OurGateway, Tools

BARS: dict[str, float] = {
    "streams_per_core_second": 5000, "gap_change_p99_ms": 2.0, "rss_mib": 80, "idle_rss_mib": 1024, "nginx": 0.25, "aiohttp proxy": 2.5,
    "LiteLLM proxy": 20,
}  # fmt: skip
PACE = 50
IDLE = 10_000
SLOW = 64
SLOW_TOKENS = 22_000  # 4 MB: more than what all buffers on the way hold
SLOW_RSS_MIB = 64  # 1 MiB a client
SLOW_ADDED_MS = 1.0  # of the others' median


def paced(tools: Tools, home: Path, seconds: float) -> dict[str, Any]:
    """The gaps between tokens and how long each was under way, in ms, without a front and with ours."""
    told: dict[str, Any] = {}
    with tools.backends(rate=PACE, ahead=True) as ports:
        front = OurGateway(home / "paced", ports, ahead=True)
        try:
            for name, port in (("direct", ports[0]), ("gateway", front.port)):
                before = front.cpu_seconds()
                found = tools.load(port, [tools.stream_request], 64, seconds, 2.6, spread=TOKENS / PACE, paced=True, ahead=True)
                told[name] = {
                    "gap_change_p50_ms": found["gap_change"]["p50"] / 1000, "gap_change_p99_ms": found["gap_change"]["p99"] / 1000,
                    "under_way_p50_ms": found["transit"]["p50"] / 1000, "under_way_p99_ms": found["transit"]["p99"] / 1000,
                    "tokens": found["transit"]["count"], "cpu": (front.cpu_seconds() - before) / (seconds + 2.6),
                    "faults": found["broken"] + found["silently_cut"] + found["refused"],
                }  # fmt: skip
            told["rss_mib"] = front.rss_mib()
        finally:
            front.close()
    return told


def idle(tools: Tools, home: Path, wanted: int, seconds: float) -> dict[str, Any]:
    """So many streams at once, nearly silent: how many got their first token and broke, and the gateway's memory meanwhile."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(wanted, (hard - 200) // 2)  # a stream takes two descriptors of the gateway
    with tools.backends(rate=1 / 20) as ports:
        front = OurGateway(home / "idle", ports)
        try:
            at_rest = front.rss_mib()
            most = 0.0
            with ThreadPoolExecutor(1) as pool:
                load = pool.submit(tools.load, front.port, [tools.stream_request], count, seconds, 0, spread=seconds / 2, paced=True)
                while not load.done():
                    most = max(most, front.rss_mib())
                    time.sleep(0.1)
                found = load.result()
        finally:
            front.close()
    return {
        "streams": count, "begun": min(found["first"]["count"], found["unanswered"]), "broken": found["broken"] + found["refused"],
        "rss_mib": most, "kib_a_stream": (most - at_rest) * 1024 / count,
    }  # fmt: skip


class SlowClients:
    """Each asks for a stream and reads a byte of it a second."""

    def __init__(self, port: int, request: bytes, count: int) -> None:
        self._stop = threading.Event()
        self._sockets = []
        for _ in range(count):
            each = socket.socket()
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.connect(("127.0.0.1", port))
            each.sendall(request)
            self._sockets.append(each)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.wait(1):
            for each in self._sockets:
                each.recv(1)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for each in self._sockets:
            each.close()


def slow(tools: Tools, home: Path, seconds: float) -> dict[str, Any]:
    """JSON at 200 a second for 16 others, in ms, before and while 64 clients do not read; the gateway's memory."""
    told: dict[str, Any] = {}
    with tools.backends(tokens=SLOW_TOKENS, ahead=True) as ports:
        front = OurGateway(home / "slow", ports, ahead=True)
        try:
            for name in ("before", "while"):
                rss = front.rss_mib()
                clients = SlowClients(front.port, tools.stream_request.read_bytes(), SLOW if name == "while" else 0)
                found = tools.load(front.port, [tools.json_request], 16, seconds, 1, rate=200, ahead=True)
                told[name] = {
                    "p50_ms": found["latency"]["p50"] / 1000, "p99_ms": found["latency"]["p99"] / 1000,
                    "faults": found["broken"] + found["refused"] + found["unanswered"], "grown_mib": front.rss_mib() - rss,
                }  # fmt: skip
                clients.close()
        finally:
            front.close()
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter rounds, 2,000 idle streams, without LiteLLM")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="llmops-streams-") as place:
        home = Path(place)
        tools = Tools(home / "tools")
        gaps = paced(tools, home, 4 if quick else 20)
        held = idle(tools, home, 2000 if quick else IDLE, 6 if quick else 25)
        others = slow(tools, home, 3 if quick else 10)
        with tools.backends(ahead=True) as ports:
            without = ("LiteLLM proxy",) if quick else ()
            found, rss = side_by_side(tools, home, tools.stream_request, 0.7, 3 if quick else 10, ports, without)
    rss = max(rss, gaps["rss_mib"])
    show(found, "streams")
    print(f"\n{'64 x 50 tokens/s':18}{'gap changed p50':>18}{'p99':>12}{'under way p50':>18}{'p99':>12}")
    for name in ("direct", "gateway"):
        each = gaps[name]
        figures = (each[f"{what}_{rank}_ms"] for what in ("gap_change", "under_way") for rank in ("p50", "p99"))
        print("{:18}{:>15.3f} ms{:>9.3f} ms{:>15.3f} ms{:>9.3f} ms".format(name, *figures))
    print(f"  the gateway took {gaps['gateway']['cpu']:.0%} of its core for 3,200 tokens a second; {rss:.0f} MiB resident")
    print(
        f"{held['streams']:,} idle streams: {held['begun']:,} held, {held['broken']} broken, {held['rss_mib']:.0f} MiB resident, "
        f"{held['kib_a_stream']:.0f} KiB a stream"
    )
    print(
        f"{SLOW} clients that read a byte a second: others' p50 {others['before']['p50_ms']:.2f} -> {others['while']['p50_ms']:.2f} ms, "
        f"p99 {others['before']['p99_ms']:.2f} -> {others['while']['p99_ms']:.2f} ms, {others['while']['grown_mib']:.1f} MiB more"
    )
    ours, ratio = found["llmops-tui"], ratios(found)
    holds = (
        ours.by_core >= BARS["streams_per_core_second"]
        and gaps["gateway"]["gap_change_p99_ms"] <= BARS["gap_change_p99_ms"]
        and rss <= BARS["rss_mib"]
        and held["rss_mib"] <= BARS["idle_rss_mib"]
        and held["begun"] == held["streams"]
        and not held["broken"]
        and others["while"]["p50_ms"] - others["before"]["p50_ms"] <= SLOW_ADDED_MS
        and others["while"]["grown_mib"] <= SLOW_RSS_MIB
        and not sum(each["faults"] for each in (gaps["direct"], gaps["gateway"], others["before"], others["while"]))
        and all(value >= BARS[name] for name, value in ratio.items())
    )
    told = {
        "streams_per_core_second": round(ours.by_core), "streams_per_second": round(ours.by_wall),
        "gap_change_p99_ms": gaps["gateway"]["gap_change_p99_ms"], "under_way_p99_ms": gaps["gateway"]["under_way_p99_ms"],
        "rss_mib": round(rss, 1), "idle_streams": held["streams"], "idle_rss_mib": round(held["rss_mib"]),
        "slow_grown_mib": round(others["while"]["grown_mib"], 1), "slow_p50_ms": [others["before"]["p50_ms"], others["while"]["p50_ms"]],
    }  # fmt: skip
    peers = {name: round(each.by_core) for name, each in found.items() if name != "llmops-tui"}
    print(json.dumps({"benchmark": "gateway_streams", "ours": told, "peer": peers, "ratio": ratio, "bar": BARS, "holds": holds}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
