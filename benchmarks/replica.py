"""A replica of ours behind the gateway against the bare llama.cpp server, and against `transformers serve`: tokens a second, real model.

All answer the same questions of SmolLM2-135M-Instruct on this CPU (ours and the bare server the same GGUF, transformers the same
weights unquantized in float32, as it must), with as many threads; streamed chat completions at 1 and 8 streams at a time. `transformers
serve` is started as its manual says; with continuous batching, which we ask it for where it has several slots, it is shown beside.
Ours and the bare server are asked in turns, one right after the other, and the ratio is the median over all pairs.

Each figure comes by the wall and by the CPU seconds of everything that takes part in answering (ours: gateway and server). On a machine
that others use too the wall says how busy they were, so the bars are held by the CPU seconds: with one thread, as here on two cores, they
are what the wall would show if nobody took any. What the replica's keeper takes by the second, asked or not, is told beside it.
Bars: at least 0.97 of the bare server, at least 3 times `transformers serve`.

    python benchmarks/replica.py [--quick] [--gguf FILE --model DIRECTORY]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from serving_rig import Command, Speed, bare_llamacpp, cpu_seconds, free_port, model_files, program, served, speed

from llmops_tui.engine.serving.launchers.plan import Plan
from llmops_tui.engine.serving.launchers.transformers_serve import TransformersServe

BAR_BARE, BAR_TRANSFORMERS = 0.97, 3.0
SLOTS, CONTEXT = 8, 512
STREAMS = (1, 8)


def main() -> int:
    """Exit code 0 only where both bars hold at both numbers of streams."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter answers")
    parser.add_argument("--gguf", default="", help="the model as GGUF; fetched where left out")
    parser.add_argument("--model", default="", help="the same as a directory of safetensors")
    options = parser.parse_args()
    gguf, directory = model_files(options.gguf, options.model)
    tokens, pairs, slow_tokens = (24, 4, 12) if options.quick else (96, 12, 24)
    threads = max(1, len(os.sched_getaffinity(0)) - 1)
    with served() as rig, bare_llamacpp(gguf, SLOTS, CONTEXT, threads) as (bare_port, bare_pid):
        rig.start("ours", [{"model": str(gguf), "serve": {"slots": SLOTS, "context": CONTEXT, "threads": threads}}])
        ours: dict[int, list[Speed]] = {n: [] for n in STREAMS}
        bare: dict[int, list[Speed]] = {n: [] for n in STREAMS}
        fronts = [(rig.port, "ours", rig.serving_processes("ours"), ours), (bare_port, "bare", [bare_pid], bare)]
        keepers = rig.keepers("ours")
        begun, kept = time.monotonic(), cpu_seconds(keepers)
        for streams in STREAMS:
            for number in range(-1, pairs):  # the first pair warms both up
                for port, model, processes, found in fronts if number % 2 else reversed(fronts):
                    seen = speed(port, model, streams, tokens, processes, first=number)
                    if number >= 0:
                        found[streams].append(seen)
        share = (cpu_seconds(keepers) - kept) / (time.monotonic() - begun)
    slow = transformers(directory, threads, slow_tokens, STREAMS[:1] if options.quick else STREAMS)
    batching = {} if options.quick else transformers(directory, threads, slow_tokens, STREAMS[-1:], slots=SLOTS)
    print(f"{'streams':>8} {'':5} {'ours tok/s':>11} {'bare':>8} {'of the bare':>12} {'transformers':>13} {'times it':>9}")
    of_bare: dict[str, float] = {}
    times: dict[str, float] = {}
    for by in ("cpu", "wall"):
        for streams in STREAMS:
            mine, theirs = ([getattr(one, by) for one in found[streams]] for found in (ours, bare))
            ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
            of_bare[by] = min(ratio, of_bare.get(by, ratio))
            line = f"{streams:8} {by:5} {statistics.median(mine):11.1f} {statistics.median(theirs):8.1f} {ratio:12.3f}"
            if streams in slow:
                faster = statistics.median(mine) / getattr(slow[streams], by)
                times[by] = min(faster, times.get(by, faster))
                line += f" {getattr(slow[streams], by):13.1f} {faster:8.1f}×"
            print(line)
    for streams, seen in batching.items():
        ratio = statistics.median(one.cpu for one in ours[streams]) / seen.cpu
        print(f"{streams:8} cpu   `transformers serve` with continuous batching: {seen.cpu:.1f} tok/s, ours {ratio:.1f}× it")
    print(f"the keeper took {share:.2%} of a core")
    holds = of_bare["cpu"] >= BAR_BARE and times["cpu"] >= BAR_TRANSFORMERS
    result = {
        "benchmark": "replica",
        "ours": {n: round(statistics.median(one.cpu for one in ours[n]), 1) for n in STREAMS},
        "peer": {
            "bare": {n: round(statistics.median(one.cpu for one in bare[n]), 1) for n in STREAMS},
            "transformers": {n: round(one.cpu, 1) for n, one in slow.items()},
            "transformers, batching": {n: round(one.cpu, 1) for n, one in batching.items()},
        },
        "ratio": {"bare": round(of_bare["cpu"], 3), "transformers": round(times["cpu"], 1), "bare by the wall": round(of_bare["wall"], 3)},
        "bar": {"bare": BAR_BARE, "transformers": BAR_TRANSFORMERS},
        "holds": holds,
    }
    print(json.dumps(result))
    return 0 if holds else 1


def transformers(directory: Path, threads: int, tokens: int, numbers: tuple[int, ...], slots: int = 1) -> dict[int, Speed]:
    """`transformers serve` by itself: its speed by streams. With several slots it batches continuously, its memory capped."""
    port = free_port()
    plan = Plan(
        "transformers", sys.executable, "", str(directory), "transformers", CONTEXT, slots, threads, "127.0.0.1", port, memory_fraction=0.2
    )
    launcher = TransformersServe()
    with tempfile.TemporaryDirectory(prefix="transformers.") as scratch:
        workspace = Path(scratch)
        name = launcher.upstream_name(plan, workspace)
        with program(Command(launcher.argv(plan, port, workspace), launcher.environment(plan)), port) as pid:
            speed(port, name, 1, 4, [pid])  # the first answer prepares its cache
            return {streams: speed(port, name, streams, tokens, [pid]) for streams in numbers}


if __name__ == "__main__":
    sys.exit(main())
