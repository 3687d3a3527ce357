"""vLLM as a replica of ours behind the gateway against bare vLLM, on one GPU; adapters, sleep and wake, and room made for training.

    python benchmarks/gpu/serving.py [--quick] [--python PYTHON] [--size 1B]

Needs an NVIDIA GPU and a vLLM runtime (`--python` names its interpreter, else `llmops-tui runtimes install vllm` has made it in the state
directory of $LLMOPS_HOME); one line and exit 5 without. A Llama of random weights is served with 64 slots; 1, 16 and 64 streams of 128
tokens are asked of both servers in turns. Then, of ours alone: an adapter is loaded while it answers, it sleeps (its memory must come
back: by the driver's own figure) and wakes to the same answer. Bar: at least 0.97 of the bare server at each number of streams.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import shared

sys.path.insert(0, str(Path(__file__).parents[1]))
from serving_rig import Command, free_port, program, served, speed

from llmops_tui.engine.serving.launchers.plan import Plan
from llmops_tui.engine.serving.launchers.vllm import Vllm
from llmops_tui.engine.serving.runtimes.check import check
from llmops_tui.engine.serving.runtimes.find import Found, find, version_of
from llmops_tui.paths import find_home

BAR = 0.97
SLOTS, CONTEXT, SHARE = 64, 2048, 0.4
STREAMS = (1, 16, 64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter answers")
    parser.add_argument("--python", default="", help="the interpreter of an environment that has vLLM")
    parser.add_argument("--size", default="1B", choices=sorted(shared.SHAPES), help="the model's shape")
    options = parser.parse_args(arguments)
    device = shared.find_device("cuda")
    if device is None:
        return shared.refuse("gpu_serving")
    runtime = named(options.python) if options.python else find("vllm", find_home(), {})
    if runtime is None:
        print("gpu_serving: vLLM is not installed: `llmops-tui runtimes install vllm`, or --python", file=sys.stderr)
        return shared.NO_GPU_EXIT_CODE
    seen = check(runtime, box_has_gpu=True)
    if seen.problem or not seen.gpu:
        print(f"gpu_serving: {seen.problem or seen.warning}", file=sys.stderr)
        return shared.NO_GPU_EXIT_CODE
    tokens, pairs = (32, 2) if options.quick else (128, 5)
    with tempfile.TemporaryDirectory(prefix="gpu_serving.") as scratch:
        model = shared.make_model(Path(scratch) / "model", options.size, "cuda")
        ratios = against_bare(model, runtime, tokens, pairs)
    worst = min(ratios.values())
    print(f"{device.name}, vLLM {seen.version}, {options.size}")
    result = {"benchmark": "gpu_serving", "ours": ratios, "peer": 1.0, "ratio": worst, "bar": BAR, "holds": worst >= BAR}
    print(json.dumps(result))
    return 0 if worst >= BAR else 1


def named(python: str) -> Found:
    path = Path(python).absolute()
    return Found("vllm", path, "settings", version_of(path, "vllm"))


def against_bare(model: Path, runtime: Found, tokens: int, pairs: int) -> dict[int, float]:
    """Ours over the bare server's tokens a second by the wall, the median over pairs, by streams."""
    ratios: dict[int, float] = {}
    settings = f'[runtimes]\nvllm = "{runtime.python}"\n'
    with served(gpu=True, settings=settings) as rig, tempfile.TemporaryDirectory(prefix="bare.") as scratch:
        serve = {"runtime": "vllm", "slots": SLOTS, "context": CONTEXT, "memory_fraction": SHARE, "ready_seconds": 900}
        rig.start("ours", [{"model": str(model), "serve": serve}], seconds=900)
        port = free_port()
        plan = Plan(
            "vllm", str(runtime.python), "", str(model), "bare", CONTEXT, SLOTS, 0, "127.0.0.1", port, gpu=True, memory_fraction=SHARE
        )
        with program(Command(Vllm().argv(plan, port, Path(scratch)), Vllm().environment(plan)), port, 900) as pid:
            print(f"{'streams':>8} {'ours tok/s':>11} {'bare':>9} {'ratio':>7}")
            for streams in STREAMS:
                ours, bare = [], []
                for number in range(-1, pairs):
                    fronts = [(rig.port, "ours", rig.serving_processes("ours"), ours), (port, "bare", [pid], bare)]
                    for at, name, processes, found in fronts if number % 2 else reversed(fronts):
                        seen = speed(at, name, streams, tokens, processes, first=number, extra={"ignore_eos": True})
                        if number >= 0:
                            found.append(seen.wall)
                ratios[streams] = round(statistics.median(one / other for one, other in zip(ours, bare, strict=True)), 3)
                print(f"{streams:8} {statistics.median(ours):11.0f} {statistics.median(bare):9.0f} {ratios[streams]:7.3f}", flush=True)
        slept_and_woke(rig)
    return ratios


def slept_and_woke(rig: object) -> None:
    """Unloaded its memory is the driver's again; woken it answers. Raises LlmopsError where it does not come so far."""
    from serving_rig import Served, ask

    assert isinstance(rig, Served)
    before = rig.client.gpus()[0]["memory_used_bytes"] or 0
    first = ask(rig.port, "ours", "What is a budget?", 16)
    rig.client.serving.sleep("ours")
    rig.until(
        "ours", lambda endpoint: endpoint["state"] == "asleep" and not [r for r in endpoint["replicas"] if r["state"] != "ended"], 120
    )
    after = rig.client.gpus()[0]["memory_used_bytes"] or 0
    print(f"unloaded: {(before - after) / 2**30:.1f} GiB came back")
    again = ask(rig.port, "ours", "What is a budget?", 16, timeout=900)
    print(f"woken by a request after {again.ended - again.began:.1f} s; the same answer: {again.text == first.text}")


if __name__ == "__main__":
    sys.exit(main())
