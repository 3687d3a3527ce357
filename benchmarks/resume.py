"""Stopped at random steps and resumed: is the loss of every step what the uninterrupted run had? Beside plain TRL's own resume.

    python benchmarks/resume.py [--quick] [--seed N] [--steps N] [--stops N] [--model DIR] [--data FILE]

SmolLM2-135M-Instruct, LoRA with dropout (so that the random state matters), real rows, float32, one thread, two passes over the rows
(so that a stop falls into the middle of one). Ours is the job itself, paused as a user pauses it, each time in a new process; the peer
is the plain TRL script that saves and stops at the same steps and goes on by `resume_from_checkpoint`. The figure is the largest
difference of a step's loss and learning rate between the uninterrupted and the interrupted run, of one process and of two ranks (gloo)
that share each update. The bar: 1e-5; 0 is exact.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from train_vs_trl import ENVIRONMENT, say, wait_for, write_jsonl

from llmops_tui.commands.demo_assets import prepare
from llmops_tui.data.checkpoints import newest_complete
from llmops_tui.data.rundir import RunDir, append_line
from llmops_tui.engine.jobs.corpus import read_split
from llmops_tui.engine.jobs.launch import job_argv
from llmops_tui.paths import find_home
from llmops_tui.specs.common import Resources
from llmops_tui.specs.train import DatasetChoice, LoraChoice, TrainSpec
from llmops_tui.specs.train_processes import ProcessesChoice

BAR = 1e-5
MAX_LENGTH = 96
MICRO_BATCH = 2
DROPOUT = 0.1
# `(step, loss, learning rate)` by step.
Series = dict[int, tuple[float, float]]

PLAIN_SCRIPT = """
import json, sys
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

model, rows, output, steps, stop_at = sys.argv[1:6]

class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == int(stop_at):
            control.should_save = control.should_training_stop = True
        return control
    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:
            print("STEP", json.dumps([state.global_step, logs["loss"], logs["learning_rate"]]), flush=True)

torch.set_num_threads(1)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=output, use_cpu=True, bf16=False, per_device_train_batch_size=2, max_steps=int(steps), max_length=96, learning_rate=2e-4,
        lr_scheduler_type="cosine", logging_steps=1, save_strategy="no", report_to="none", seed=0, gradient_checkpointing=False,
        logging_nan_inf_filter=False,
    ),
    train_dataset=load_dataset("json", data_files=rows, split="train", cache_dir=output + "/cache"),
    peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM"),
    callbacks=[Stop()],
)
import glob
trainer.train(resume_from_checkpoint=True if glob.glob(output + "/checkpoint-*") else None)
"""


def main() -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 steps, one stop, without the peer: about two minutes of one core")
    parser.add_argument("--seed", type=int, default=None, help="of the stops; a new one each time where not given, and printed")
    parser.add_argument("--steps", type=int, default=12, help="updates")
    parser.add_argument("--stops", type=int, default=2, help="how often it is stopped")
    parser.add_argument("--model", type=Path, help="model directory; the demo's where not given")
    parser.add_argument("--data", type=Path, help="questions and answers as JSON lines; the demo's Fiqa where not given")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.stops = 4, 1
    model, data = options.model, options.data
    if model is None or data is None:
        assets = prepare(find_home().cache, say)
        model, data = model or assets.model, data or assets.data
    seed = random.SystemRandom().randrange(10_000) if options.seed is None else options.seed
    stops = sorted(random.Random(seed).sample(range(1, options.steps), options.stops))
    say(f"{options.steps} steps, stopped after {', '.join(map(str, stops))} (seed {seed})")

    choice = DatasetChoice(path=str(data), eval_fraction=0)
    learnt, _, _ = read_split(choice, {"path": str(data), "format": "auto"}, None, seed=0)
    learnt = learnt[: options.steps * MICRO_BATCH // 2]  # two passes
    with tempfile.TemporaryDirectory(prefix="resume.") as scratch:
        directory = Path(scratch)
        rows = write_jsonl(directory / "rows.jsonl", [{"messages": row} for row in learnt])
        ours, two = (
            [
                our_series(directory / f"{name}-{ranks}", model, rows, options.steps, at, ranks)
                for name, at in (("whole", []), ("stopped", stops))
            ]
            for ranks in (1, 2)
        )
        peer: list[Series] = []
        if not options.quick:
            pairs = write_jsonl(directory / "pairs.jsonl", [{"prompt": row[:-1], "completion": row[-1:]} for row in learnt])
            peer = [
                plain_series(directory / f"plain-{name}", model, pairs, options.steps, at)
                for name, at in (("whole", []), ("stopped", stops))
            ]
    return report(ours, two, peer, stops, seed)


def our_series(run: Path, model: Path, rows: Path, steps: int, stops: list[int], ranks: int) -> Series:
    """The job of so many processes as the engine starts it, paused after each of the steps and resumed in a new process."""
    run.mkdir()
    spec = TrainSpec(
        model=str(model), dataset=DatasetChoice(path=str(rows), eval_fraction=0), lora=LoraChoice(dropout=DROPOUT), max_steps=steps,
        micro_batch=MICRO_BATCH // ranks, max_length=MAX_LENGTH, threads=1, gradient_checkpointing=False, resources=Resources(gpus=0),
        processes=ProcessesChoice(count=ranks),
    )  # fmt: skip
    prepared = {"model": {"path": str(model)}, "dataset": {"path": str(rows), "format": "messages"}}
    (run / "spec.json").write_text(json.dumps({"id": run.name, "spec": spec.model_dump(), "prepared": prepared}))
    kept = RunDir(run)
    for attempt, stop in enumerate([*stops, None], 1):
        resume = newest_complete(kept)
        environment = {
            "LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": str(attempt),
            "LLMOPS_CONTROL_BYTES": str(kept.control.stat().st_size if kept.control.exists() else 0),
            **({"LLMOPS_RESUME_FROM": str(resume)} if resume else {}),
        }  # fmt: skip
        say(f"ours, {run.name}, attempt {attempt}")
        run_ours(kept, job_argv(spec, kept), environment, stop)
    points: Series = {}
    for event in events_of(kept):
        if event["type"] == "metric" and "train/loss" in event["values"]:
            if event["step"] in points:
                raise SystemExit(f"step {event['step']} was trained twice")
            points[event["step"]] = (float(event["values"]["train/loss"]), float(event["values"]["train/learning_rate"]))
    return points


def run_ours(run: RunDir, argv: list[str], environment: dict[str, str], stop: int | None) -> None:
    """One attempt; asked to pause while the update `stop` is under way, so that it ends with that one."""
    with open(run.log, "ab") as log:
        child = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **ENVIRONMENT, **environment})
    watcher = threading.Thread(target=pause_in, args=(run, stop, child), daemon=True)
    if stop is not None:
        watcher.start()
    if child.wait():
        raise SystemExit(f"ours failed:\n{run.log.read_text(errors='replace')[-3000:]}")


def pause_in(run: RunDir, stop: int, child: subprocess.Popen[bytes]) -> None:
    """Ask for the pause once the step before it was told (at once for the first)."""
    while child.poll() is None:
        told = [event for event in events_of(run) if event["type"] in ("metric", "phase")]
        begun = any(event["type"] == "phase" and event["phase"] == "training" for event in told)
        if begun and (stop == 1 or any(event["type"] == "metric" and event["step"] == stop - 1 for event in told)):
            append_line(run.control, {"t": time.time(), "command": "pause", "mode": "free", "who": "the benchmark"}, durable=True)
            return
        time.sleep(0.02)


def events_of(run: RunDir) -> list[dict[str, Any]]:
    """Every whole event so far."""
    if not run.events.exists():
        return []
    return [json.loads(line) for line in run.events.read_bytes().split(b"\n")[:-1] if line]


def plain_series(output: Path, model: Path, rows: Path, steps: int, stops: list[int]) -> Series:
    """The plain script, stopped and resumed by its own means."""
    output.mkdir()
    script = output / "plain.py"
    script.write_text(PLAIN_SCRIPT)
    points: Series = {}
    for stop in [*stops, 0]:
        argv = [sys.executable, str(script), str(model), str(rows), str(output), str(steps), str(stop)]
        text, _ = wait_for(f"plain TRL, {output.name}", argv, output, {})
        for line in text.splitlines():
            if "STEP [" in line:
                step, loss, rate = json.loads(line.rpartition("STEP ")[2])
                points[step] = (loss, rate)
    return points


def largest_difference(series: list[Series]) -> float:
    """Of loss and learning rate, over all steps."""
    whole, stopped = series
    if set(whole) != set(stopped):
        raise SystemExit(f"steps {sorted(set(whole) ^ set(stopped))} are in one of the two runs only")
    return max(abs(one - other) for step in whole for one, other in zip(whole[step], stopped[step], strict=True))


def report(ours: list[Series], two: list[Series], peer: list[Series], stops: list[int], seed: int) -> int:
    """The table, and the verdict as the last line."""
    print(
        f"{'step':>6}{'whole':>14}{'resumed':>14}{'2 ranks':>14}{'resumed':>14}" + (f"{'TRL whole':>14}{'TRL resumed':>14}" if peer else "")
    )
    for step in sorted(ours[0]):
        cells = [f"{each.get(step, (float('nan'),))[0]:14.7f}" for each in (*ours, *two, *peer)]
        print(f"{step:>6}{''.join(cells)}{'   stopped here' if step in stops else ''}")
    difference, of_two = largest_difference(ours), largest_difference(two)
    beside = largest_difference(peer) if peer else None
    verdict = {
        "benchmark": "resume",
        "ours": difference,
        "peer": beside,
        "ratio": None if beside is None else 1.0 if difference == beside else difference / beside if beside else None,
        "bar": BAR,
        "holds": max(difference, of_two) <= BAR,
        "unit": "largest difference of a step's loss or learning rate",
        "exact": difference == 0,
        "two_ranks": of_two,
        "steps": len(ours[0]),
        "stops": stops,
        "seed": seed,
    }
    print(json.dumps(verdict))
    return 0 if verdict["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
