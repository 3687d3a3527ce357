"""How much of the perplexity that pruning costs comes back by 200 steps of distillation from the unpruned model, in one run.

    python benchmarks/prune_distill.py [--quick] [--no-peer] [--steps N] [--threads N] [--model DIR] [--data FILE] [--other FILE]

SmolLM2-135M-Instruct loses 8 of its 30 layers (a quarter, rounded up), those of least block influence over 32 rows, and learns
from its unpruned self on rows of Fiqa cut at 96 tokens, four a step: the job `prune` in a run directory, as the engine starts it,
float32 on the CPU. Perplexity is of the answers' tokens in held-out rows, cut alike (the prompt's are the same few in every row, and would
come back first): before, pruned, and of the files that were written. The peer is the same pruned model after as many steps of plain
fine-tuning on the same rows (weight 0: no teacher).

    recovered = (pruned − healed) / (pruned − before)        of the perplexity, and once more of its logarithm

The bar is on the perplexity lost. Above 1 the healed model predicts these rows better than the unpruned one did: the rows are of one
kind, and a model that learns on them fits them. So the same four models are scored on text of another kind that none learnt: passages of
BoolQ, cut alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_rows import boolq

from llmops_tui.commands.demo_assets import prepare
from llmops_tui.data.safetensors_header import read_safetensors_header
from llmops_tui.paths import find_home
from llmops_tui.specs.common import Resources
from llmops_tui.specs.prune import HealChoice, PruneSpec
from llmops_tui.specs.train import DatasetChoice

BAR = 0.6
ALL_WAYS = (2, 0, 1)  # of the three runs: pruned, ours, the peer
MAX_LENGTH = 96
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Result:
    """One way to heal: the three perplexities, and what healing took."""

    name: str
    before: float
    pruned: float
    healed: float
    seconds: float
    tokens: int
    cpu_seconds: float
    layers: list[int]
    model: Path

    @property
    def recovered(self) -> float:
        """Share of the perplexity lost that came back."""
        return recovered(self.before, self.pruned, self.healed)

    @property
    def recovered_log(self) -> float:
        """The same of the logarithm, which is the loss."""
        return recovered(math.log(self.before), math.log(self.pruned), math.log(self.healed))


def recovered(before: float, pruned: float, healed: float) -> float:
    """Share of the way back; nan where nothing was lost."""
    return (pruned - healed) / (pruned - before) if pruned != before else math.nan


def main() -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 steps on 8 held-out rows, without the peer: some two minutes of CPU")
    parser.add_argument("--no-peer", action="store_true", help="only ours")
    parser.add_argument("--steps", type=int, default=200, help="steps of healing (default: 200)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads of torch (default: all cores)")
    parser.add_argument("--model", type=Path, help="model directory; the demo's where not given")
    parser.add_argument("--data", type=Path, help="questions and answers as JSON lines; the demo's Fiqa where not given")
    parser.add_argument("--other", type=Path, help="text of another kind: BoolQ as JSON lines; fetched where not given")
    options = parser.parse_args()
    held_out = 32
    if options.quick:
        options.steps, held_out = 60, 8
    model, data = options.model, options.data
    if model is None or data is None:
        assets = prepare(find_home().cache, say)
        model, data = model or assets.model, data or assets.data

    with tempfile.TemporaryDirectory(prefix="prune_distill.") as scratch:
        ways = [("ours, distilled from the unpruned model", options.steps, 1.0)]
        if not (options.quick or options.no_peer):
            ways += [("the rows alone, plain fine-tuning", options.steps, 0.0), ("pruned, not healed", 0, 0.0)]
        results = [
            run_prune(Path(scratch) / f"prune-{number}", name, model, data, steps, weight, held_out, options.threads)
            for number, (name, steps, weight) in enumerate(ways, 1)
        ]
        elsewhere = []
        if len(results) == len(ALL_WAYS):
            passages = options.other or boolq(find_home().cache, say)
            elsewhere = perplexities(passages, [model, *(results[place].model for place in ALL_WAYS)], options.threads)
    return report(results[:2], elsewhere, options.steps)


def run_prune(directory: Path, name: str, model: Path, data: Path, steps: int, weight: float, held_out: int, threads: int) -> Result:
    """The job, in a process of its own."""
    say(f"running: {name}")
    spec = PruneSpec(
        model=str(model),
        dataset=DatasetChoice(path=str(data), eval_fraction=0.1, eval_limit=held_out),
        sparsity=0.25,
        max_length=MAX_LENGTH,
        heal=HealChoice(steps=steps, learning_rate=3e-4, batch=4, weight=weight),
        threads=threads,
        resources=Resources(gpus=0),
    )
    directory.mkdir()
    header = read_safetensors_header(model / "model.safetensors")
    dtype = max(header.elements, key=lambda kind: header.elements[kind])
    told = {"path": str(model), "dtype": dtype, "parameters": sum(header.elements.values()), "licence": ""}
    prepared = {"model": told, "dataset": {"path": str(data), "format": "auto"}, "eval_dataset": None, "warnings": []}
    (directory / "artifacts").mkdir()
    (directory / "spec.json").write_text(json.dumps({"id": directory.name, "spec": spec.model_dump(), "prepared": prepared}))
    environment = {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": str(threads), "LLMOPS_RUN_DIR": str(directory), "LLMOPS_ATTEMPT": "1"}
    log = directory / "output.log"
    with open(log, "wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "llmops_tui.engine.jobs.prune"], stdout=file, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{name} failed with exit code {child.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
    summary: dict[str, Any] = json.loads((directory / "events.jsonl").read_text().splitlines()[-1])["summary"]
    return Result(
        name, summary["perplexity_before"], summary["perplexity_pruned"], summary["perplexity_after"], summary.get("heal_seconds", 0.0),
        summary.get("heal_tokens", 0), usage.ru_utime + usage.ru_stime, summary["layers_removed"], directory / "artifacts" / "model",
    )  # fmt: skip


def perplexities(passages: Path, models: list[Path], threads: int) -> list[float]:
    """Of each model, over every token of 32 passages as plain text."""
    from llmops_tui.engine.jobs import hardware
    from llmops_tui.engine.jobs.labels import RowEncoder
    from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet
    from llmops_tui.engine.jobs.scoring import score_rows
    from llmops_tui.specs.evaluate import EvaluateSpec

    quiet()
    tokenizer = load_tokenizer(models[0])
    encoder = RowEncoder(tokenizer, MAX_LENGTH)
    texts = list(dict.fromkeys(json.loads(line)["passage"] for line in passages.read_text().splitlines()))[:32]
    rows = [encoder.encode({"text": text}) for text in texts]
    plan = hardware.plan_evaluation(EvaluateSpec(model="-", dataset=DatasetChoice(path="-"), threads=threads, resources=Resources(gpus=0)))
    hardware.apply(plan)
    found = []
    for path in models:
        say(f"scoring on other text: {path.parent.parent.name}")
        model = load_causal_model(path, plan)
        found.append(
            score_rows(model, rows, pad_id=tokenizer.pad_token_id, rows_a_pass=8, token_budget=512, progress=lambda *_: None).perplexity
        )
    return found


def report(results: list[Result], elsewhere: list[float], steps: int) -> int:
    """The table, and the verdict as the last line."""
    say(f"layers removed, counted from 0: {', '.join(map(str, results[0].layers))}")
    print(f"{'perplexity, held out':42}{'before':>9}{'pruned':>9}{'healed':>9}{'recovered':>11}{'of the log':>12}{'cpu-s':>8}")
    for result in results:
        print(
            f"{result.name:42}{result.before:9.2f}{result.pruned:9.2f}{result.healed:9.2f}{result.recovered:11.1%}"
            f"{result.recovered_log:12.1%}{result.cpu_seconds:8.0f}"
        )
    if elsewhere:
        before, pruned, *healed = elsewhere
        print("on text of another kind, not learnt")
        for result, value in zip(results, healed, strict=True):
            back = recovered(before, pruned, value), recovered(math.log(before), math.log(pruned), math.log(value))
            print(f"{result.name:42}{before:9.2f}{pruned:9.2f}{value:9.2f}{back[0]:11.1%}{back[1]:12.1%}")
    ours = results[0]
    if ours.pruned <= ours.before:
        raise SystemExit("pruning cost no perplexity on these rows: there is nothing to recover")
    peer = results[1] if len(results) > 1 else None
    holds = ours.recovered >= BAR
    verdict = {
        "benchmark": "prune_distill",
        "ours": round(ours.recovered, 4),
        "peer": None if peer is None else round(peer.recovered, 4),
        "ratio": None if peer is None or peer.recovered <= 0 else round(ours.recovered / peer.recovered, 3),
        "bar": BAR,
        "holds": holds,
        "unit": "share of the perplexity lost that was recovered",
        "steps": steps,
        "tokens": ours.tokens,
        "perplexity": {"before": round(ours.before, 3), "pruned": round(ours.pruned, 3), "healed": round(ours.healed, 3)},
        "recovered_log": round(ours.recovered_log, 4),
        "other_text": dict(zip(("before", "pruned", "ours", "peer"), (round(value, 3) for value in elsewhere), strict=False)),
        "layers_removed": ours.layers,
        "heal_seconds": ours.seconds,
    }
    print(json.dumps(verdict))
    return 0 if holds else 1


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
