"""Each method of training on a real model and real rows, through the job as the engine starts it: does what it is to learn get better?

    python benchmarks/methods.py [--quick] [--only METHOD …] [--threads N] [--model DIR] [--fiqa FILE]

SmolLM2-135M-Instruct, LoRA r 8, float32 on the CPU, one thread, a few steps each; every wish goes through the engine's own checks.
What counts is measured on rows that were held out, before and after:

    sft       Fiqa's questions and answers                                        loss of the answers' tokens, lower
    distill   the same rows; the teacher is the model with sft's adapter           loss of the answers' tokens, lower
    dpo, orpo, reward   pairs of film reviews (IMDB), see below                   reward margin, higher
    kto       the same reviews one by one, called good or bad                     reward margin, higher
    grpo      word problems (ASDiv) to be answered "with the number alone"        share of answers that begin with one, higher

A pair is a good and a bad review, the last sentences of each, drawn once: a model that is to write favourably should prefer the
former, as in the experiment on sentiment of Rafailov et al. 2023 (section 6). The labels are those of the reviews' own stars.
What grpo's reward asks for the model does now and then by itself; to solve these problems is beyond one of 135M parameters, whose
answers all earn nothing then, and nothing is learnt.
There is no peer: the trainers are TRL's, and train_vs_trl.py compares their speed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_rows import asdiv, imdb

from llmops_tui.commands import demo_assets
from llmops_tui.engine.preflight import prepare
from llmops_tui.paths import Home, find_home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings

METHODS = ("sft", "distill", "dpo", "orpo", "kto", "reward", "grpo")
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "passive"}
_SEED = 20260101
_REVIEW_CHARACTERS = 220
_HELD_OUT_PAIRS = 16
_PROMPT = "Write the last sentences of a review of a film."
_REWARD = """
import re

def number_first(completion):
    '''1 where the answer begins with a number, as it was asked to.'''
    return float(re.match(r"\\s*[$]?\\d", completion) is not None)
"""


@dataclass(frozen=True)
class Result:
    """One method: its measure on held-out rows before and after, its own loss in the first and last steps, and what it took."""

    method: str
    measure: str
    before: float
    after: float
    interval: tuple[float, float] | None
    first_loss: float
    last_loss: float
    steps: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def improved(self) -> bool:
        """In the direction that is better."""
        return self.after < self.before if self.measure == "loss" else self.after > self.before


def main() -> int:
    """Exit code 0 only where every method improved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sft and dpo alone, half the steps: some two minutes of CPU")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), help="these methods (distill needs sft)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: 1)")
    parser.add_argument("--model", type=Path, help="model directory; the demo's where not given")
    parser.add_argument("--fiqa", type=Path, help="questions and answers as JSON lines; the demo's Fiqa where not given")
    options = parser.parse_args()
    cache = find_home().cache
    model, fiqa = options.model, options.fiqa
    if model is None or fiqa is None:
        assets = demo_assets.prepare(cache, say)
        model, fiqa = model or assets.model, fiqa or assets.data
    wanted = ["sft", "dpo"] if options.quick else [method for method in METHODS if method in options.only]
    with tempfile.TemporaryDirectory(prefix="methods.") as scratch:
        place = Path(scratch)
        reviews, problems = imdb(cache, say), asdiv(cache, say)
        files = {
            "fiqa": fiqa,
            # One prompt for all, whose rows the job would keep together: the split is made here.
            **{f"pairs-{part}": write_rows(place / f"pairs-{part}.jsonl", rows) for part, rows in halves(pairs_of(reviews))},
            **{f"judged-{part}": write_rows(place / f"judged-{part}.jsonl", judged(rows)) for part, rows in halves(pairs_of(reviews))},
            "problems": write_rows(place / "problems.jsonl", problems_of(problems)),
        }
        (place / "reward.py").write_text(_REWARD)
        results = []
        for method in wanted:
            wish = wish_of(method, model, files, place)
            if options.quick:
                wish["max_steps"] //= 2
            results.append(run_job(place, method, {**wish, "threads": options.threads}))
    return report(results)


def pairs_of(reviews: Path) -> list[dict[str, Any]]:
    """A good and a bad review each."""
    good, bad = _endings(reviews, "1"), _endings(reviews, "0")
    return [{"prompt": _PROMPT, "chosen": one, "rejected": other} for one, other in zip(good, bad, strict=False)]


def halves(pairs: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """What is learnt, and the pairs that are held out."""
    return [("learnt", pairs[:-_HELD_OUT_PAIRS]), ("held-out", pairs[-_HELD_OUT_PAIRS:])]


def judged(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same reviews one by one."""
    return [{"prompt": _PROMPT, "completion": pair[side], "label": side == "chosen"} for pair in pairs for side in ("chosen", "rejected")]


def problems_of(problems: Path) -> list[dict[str, Any]]:
    """Those whose answer is one number, as a prompt and an answer."""
    rows = [json.loads(line) for line in problems.read_text().splitlines()]
    found = [row for row in rows if re.fullmatch(r"\d+( [a-z]+)?", row["answer"])]
    return [
        {"prompt": f"{row['passage']} {row['question'].strip()} Answer with the number alone.", "answer": row["answer"].split()[0]}
        for row in found
    ]


def _endings(reviews: Path, label: str) -> list[str]:
    """The last sentences of the reviews of one label, shuffled once."""
    with open(reviews, newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file) if row["label"] == label]
    random.Random(_SEED).shuffle(texts)
    return [_ending(re.sub(r"<br ?/?>|\s+", " ", text)) for text in texts]


def _ending(text: str) -> str:
    end = text[-_REVIEW_CHARACTERS:]
    return end.split(". ", 1)[-1].strip() if len(text) > _REVIEW_CHARACTERS else end.strip()


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wish_of(method: str, model: Path, files: dict[str, Path], place: Path) -> dict[str, Any]:
    """The spec, as a user would write it."""
    common = {
        "kind": "train", "method": method, "model": str(model), "lora": {"r": 8, "alpha": 16}, "micro_batch": 4, "max_length": 96,
        "sample_tokens": 1, "sample_prompts": ["Hello"], "resources": {"gpus": 0},
    }  # fmt: skip
    if method in ("sft", "distill"):
        rows = {"path": str(files["fiqa"]), "eval_fraction": 0.05, "eval_limit": 16}
        teacher = {"teacher": str(place / "sft" / "artifacts" / "adapter")} if method == "distill" else {}
        return {**common, "dataset": rows, "max_steps": 24, "optim": {"learning_rate": 1e-3}, "distill": teacher}
    if method == "grpo":
        rows = {"path": str(files["problems"]), "eval_fraction": 0.05, "eval_limit": 24}
        grpo = {"rewards": [f"{place / 'reward.py'}:number_first"], "group": 8, "completion_tokens": 8}
        return {
            **common, "dataset": rows, "max_steps": 14, "micro_batch": 8, "max_length": 128, "grpo": grpo,
            "optim": {"learning_rate": 5e-4, "schedule": "constant"},
        }  # fmt: skip
    kind = "judged" if method == "kto" else "pairs"
    rows = {"path": str(files[f"{kind}-learnt"]), "eval_path": str(files[f"{kind}-held-out"])}
    return {**common, "dataset": rows, "max_steps": 12, "optim": {"learning_rate": 5e-4}}


def run_job(place: Path, method: str, wish: dict[str, Any]) -> Result:
    """The engine's checks, then the job in a process of its own."""
    say(f"running: {method}")
    home = Home(place / "home", explicit=True)
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}})
    spec = parse_spec(wish)
    directory = place / method
    (directory / "artifacts").mkdir(parents=True)
    record = {"id": method, "schema": 1, "spec": spec.model_dump(), "prepared": prepare(spec, home, settings, place)}
    (directory / "spec.json").write_text(json.dumps(record))
    threads = str(wish["threads"])
    environment = {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": threads, "LLMOPS_RUN_DIR": str(directory), "LLMOPS_ATTEMPT": "1"}
    log = directory / "output.log"
    with open(log, "wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "llmops_tui.engine.jobs.train"], stdout=file, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{method} failed with exit code {child.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
    events = [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]
    return result_of(method, events, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def result_of(method: str, events: list[dict[str, Any]], cpu_seconds: float, peak_bytes: int) -> Result:
    """From what the run told."""
    summary = events[-1]["summary"]
    measure = "loss" if method in ("sft", "distill") else "reward" if method == "grpo" else "reward_margin"
    before, after = summary["before"], summary["after"]
    losses = [event["values"]["train/loss"] for event in events if "train/loss" in event.get("values", {})]
    few = max(1, len(losses) // 4)
    return Result(
        method, measure, before[measure], after[measure], after.get(f"{measure}_interval"), sum(losses[:few]) / few,
        sum(losses[-few:]) / few, summary["steps"], events[-1]["t"] - events[0]["t"], cpu_seconds, peak_bytes,
    )  # fmt: skip


def report(results: list[Result]) -> int:
    """The table, and the verdict as the last line."""
    print(f"{'method':10}{'held-out measure':18}{'before':>9}{'after':>9}{'95 % interval':>20}{'loss, first and last quarter':>32}", end="")
    print(f"{'steps':>7}{'seconds':>9}{'cpu-s':>7}{'peak RSS':>11}")
    for result in results:
        interval = "" if result.interval is None else f"{result.interval[0]:.3f} to {result.interval[1]:.3f}"
        losses = f"{result.first_loss:.3f} → {result.last_loss:.3f}"
        sign = " " if result.improved else "!"
        print(
            f"{result.method:10}{result.measure.replace('_', ' '):18}{result.before:9.3f}{result.after:9.3f}{sign}{interval:>19}"
            f"{losses:>32}{result.steps:7d}{result.seconds:9.0f}{result.cpu_seconds:7.0f}{result.peak_bytes / 2**30:7.2f} GiB"
        )
    better = sum(result.improved for result in results)
    verdict = {
        "benchmark": "methods",
        "ours": better,
        "peer": None,
        "ratio": None,
        "bar": len(results),
        "holds": better == len(results),
        "unit": "methods whose held-out measure got better",
        "measures": {result.method: [round(result.before, 4), round(result.after, 4)] for result in results},
        "cpu_seconds": round(sum(result.cpu_seconds for result in results), 1),
    }
    print(json.dumps(verdict))
    return 0 if better == len(results) else 1


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
