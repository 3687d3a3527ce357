"""Real tokens a CPU second of our `train` job, beside the plain TRL script a user would write, on two sets of rows in one run.

    python benchmarks/train_vs_trl.py [--quick] [--only fiqa|boolq] [--rows N] [--model DIR] [--data FILE] [--boolq FILE]

Same model (SmolLM2-135M-Instruct), rows, LoRA (r 16, all linear layers), tokens (one pass over the same rows), micro
batch (4), precision (float32), device (CPU), one thread each. Ours is the job itself in a run directory; the peers are the
script below with TRL's other defaults, which keep gradient checkpointing on, and once more with it off. Of Fiqa the answers are
learnt; of BoolQ every token, as TRL learns conversations by default: its yes and no alone would leave two labels a row, too few to tell
one loss from another. CPU seconds are user and system time of the training loop, ours with the checkpoint it writes; peak RSS is that of
the whole process, by wait4. All adapters are then scored on the same held-out rows by one scorer. The bars: twice the plain script's rate
on Fiqa and 1.5 times on BoolQ; on both the held-out loss equal within 0.02 and no higher peak RSS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_rows import boolq, boolq_conversations

from llmops_tui.commands.demo_assets import prepare
from llmops_tui.engine.jobs import hardware
from llmops_tui.engine.jobs.corpus import encode_rows, read_split
from llmops_tui.engine.jobs.labels import EncodedRow, RowEncoder
from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet
from llmops_tui.engine.jobs.scoring import score_rows
from llmops_tui.paths import find_home
from llmops_tui.specs.evaluate import EvaluateSpec
from llmops_tui.specs.train import DatasetChoice, TrainSpec

BARS = {"loss_difference": 0.02, "rss_ratio": 1.0}
MAX_LENGTH = 1024
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}

PLAIN_SCRIPT = """
import json, sys, time
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

model, rows, output, checkpointing = sys.argv[1:5]

class Clock(TrainerCallback):
    def on_train_begin(self, *_, **__):
        self.began = time.process_time()
    def on_train_end(self, args, state, control, **_):
        tokens = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        print("RESULT", json.dumps({"cpu_seconds": time.process_time() - self.began, "tokens": tokens[-1] if tokens else 0}))

torch.set_num_threads(1)
options = {} if checkpointing == "default" else {"gradient_checkpointing": False}
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=output, use_cpu=True, bf16=False, per_device_train_batch_size=4, num_train_epochs=1, max_length=1024,
        learning_rate=2e-4, lr_scheduler_type="cosine", warmup_steps=0.03, logging_steps=1, save_strategy="no", report_to="none",
        seed=0, **options,
    ),
    train_dataset=load_dataset("json", data_files=rows, split="train", cache_dir=output + "/cache"),
    peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"),
    callbacks=[Clock()],
)
trainer.train()
trainer.save_model(output)
"""


@dataclass(frozen=True)
class Case:
    """One set of rows: what is learnt of it, and how many times the plain script's rate is asked for."""

    name: str
    assistant_only: bool
    bar: float


CASES = (Case("fiqa", True, 2.0), Case("boolq", False, 1.5))


@dataclass
class Result:
    """One way to train: CPU seconds of the loop, the process's peak, and what came out."""

    name: str
    cpu_seconds: float
    peak_rss_bytes: int
    adapter: Path
    tokens: int
    held_out_loss: float = 0.0

    @property
    def rate(self) -> float:
        """Real tokens a CPU second."""
        return self.tokens / self.cpu_seconds


def main() -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Fiqa with 8 rows, and the plain script with its defaults alone: two minutes")
    parser.add_argument("--only", choices=[case.name for case in CASES], help="one set of rows")
    parser.add_argument("--rows", type=int, default=32, help="rows to learn from, of each set")
    parser.add_argument("--held-out", type=int, default=32, help="rows scored afterwards, of each set")
    parser.add_argument("--model", type=Path, help="model directory; the demo's where not given")
    parser.add_argument("--data", type=Path, help="questions and answers as JSON lines; the demo's Fiqa where not given")
    parser.add_argument("--boolq", type=Path, help="BoolQ as JSON lines; fetched where not given")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.held_out, options.only = 8, 8, options.only or "fiqa"
    cases = [case for case in CASES if options.only in (None, case.name)]
    model = options.model or prepare(find_home().cache, say).model

    quiet()
    verdicts = {}
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="train_vs_trl.") as scratch:
            data = source(case, options.data, options.boolq, Path(scratch))
            verdicts[case.name] = compare(case, Path(scratch), model, data, options.rows, options.held_out, 1 if options.quick else 2)
    return verdict(verdicts)


def source(case: Case, fiqa: Path | None, boolq_rows: Path | None, directory: Path) -> Path:
    """The rows of a case as a file of ours."""
    if case.name == "fiqa":
        return fiqa or prepare(find_home().cache, say).data
    return write_jsonl(directory / "boolq.jsonl", list(boolq_conversations(boolq_rows or boolq(find_home().cache, say))))


def compare(case: Case, directory: Path, model: Path, data: Path, rows: int, held_out: int, peers: int) -> dict[str, Any]:
    """Train every way on the rows of a case, score them alike, and print the table; the case's verdict."""
    choice = DatasetChoice(path=str(data), eval_fraction=0.1, eval_limit=held_out)
    learnt, scored, _ = read_split(choice, {"path": str(data), "format": "auto"}, None, seed=0)
    learnt = learnt[:rows]
    encoder = RowEncoder(load_tokenizer(model), MAX_LENGTH, assistant_only=case.assistant_only)
    tokens = encode_rows(encoder, learnt, lambda done, total: None).count
    scored_rows = encode_rows(encoder, scored, lambda done, total: None).rows
    say(f"{case.name}: {len(learnt)} rows, {tokens} real tokens; {len(scored_rows)} held-out rows; one thread each")

    conversations = write_jsonl(directory / "rows.jsonl", [{"messages": row} for row in learnt])
    plain = conversations
    if case.assistant_only:
        plain = write_jsonl(directory / "pairs.jsonl", [{"prompt": row[:-1], "completion": row[-1:]} for row in learnt])
    results = [run_ours(directory, model, conversations, tokens, assistant_only=case.assistant_only)]
    for name, checkpointing in [("TRL, plain script", "default"), ("TRL, gradient checkpointing off", "off")][:peers]:
        results.append(run_plain(directory, name, model, plain, checkpointing, tokens))
    for result in results:
        say(f"scoring: {result.name}")
        result.held_out_loss = held_out_loss(result.adapter, scored_rows)
    return report(case, results, tokens)


def run_ours(directory: Path, model: Path, rows: Path, tokens: int, *, assistant_only: bool) -> Result:
    """The job, as the engine starts it: a process in a run directory."""
    run = directory / "train-benchmark-0001"
    run.mkdir()
    spec = TrainSpec(
        model=str(model), dataset=DatasetChoice(path=str(rows), eval_fraction=0), micro_batch=4, max_length=MAX_LENGTH, threads=1,
        assistant_only=assistant_only,
    )  # fmt: skip
    prepared = {"model": {"path": str(model)}, "dataset": {"path": str(rows), "format": "messages"}}
    (run / "spec.json").write_text(json.dumps({"id": run.name, "spec": spec.model_dump(), "prepared": prepared}))
    _, peak = wait_for(
        "ours", [sys.executable, "-m", "llmops_tui.engine.jobs.train"], directory, {"LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": "1"}
    )
    summary = json.loads((run / "events.jsonl").read_text().splitlines()[-1])["summary"]
    if summary["tokens"] != tokens:
        raise SystemExit(f"ours saw {summary['tokens']} tokens, not {tokens}")
    return Result("ours", summary["training_cpu_seconds"], peak, run / summary["adapter"], tokens)


def run_plain(directory: Path, name: str, model: Path, rows: Path, checkpointing: str, tokens: int) -> Result:
    """The plain script, in a process of its own."""
    script = directory / "plain.py"
    script.write_text(PLAIN_SCRIPT)
    output = directory / f"plain-{checkpointing}"
    text, peak = wait_for(name, [sys.executable, str(script), str(model), str(rows), str(output), checkpointing], directory, {})
    # A progress bar may stand on the same line before it.
    found = json.loads(text.rpartition("RESULT ")[2].splitlines()[0])
    if found["tokens"] != tokens:
        raise SystemExit(f"{name} saw {found['tokens']} tokens, not {tokens}")
    return Result(name, found["cpu_seconds"], peak, output, tokens)


def wait_for(name: str, argv: list[str], directory: Path, environment: dict[str, str]) -> tuple[str, int]:
    """Run to the end; its output, and its peak RSS in bytes."""
    say(f"running: {name}")
    log = directory / "output.log"
    with open(log, "wb") as file:
        child = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **ENVIRONMENT, **environment})
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    if child.returncode:
        raise SystemExit(f"{name} failed with exit code {child.returncode}:\n{text[-3000:]}")
    return text, usage.ru_maxrss * 1024


def held_out_loss(adapter: Path, rows: list[EncodedRow]) -> float:
    """The common scorer: mean loss a labelled token."""
    plan = hardware.plan_evaluation(EvaluateSpec(model=str(adapter), dataset=DatasetChoice(path="-")))
    model = load_causal_model(adapter, plan)
    score = score_rows(
        model, rows, pad_id=load_tokenizer(adapter).pad_token_id, rows_a_pass=8, token_budget=512, progress=lambda done, total: None
    )
    return score.loss


def report(case: Case, results: list[Result], tokens: int) -> dict[str, Any]:
    """The table of a case; its part of the verdict."""
    learnt = "the answers learnt" if case.assistant_only else "every token learnt"
    print(
        f"{f'{case.name}, {tokens} tokens, {learnt}':40}{'tokens/cpu-s':>14}{'cpu-s':>9}{'held-out loss':>15}{'peak RSS':>11}", flush=True
    )
    for result in results:
        rss = f"{result.peak_rss_bytes / 2**30:.2f} GiB"
        print(f"  {result.name:38}{result.rate:14.1f}{result.cpu_seconds:9.1f}{result.held_out_loss:15.4f}{rss:>11}", flush=True)
    ours, peer = results[0], results[1]
    ratio, difference = ours.rate / peer.rate, ours.held_out_loss - peer.held_out_loss
    rss_ratio = ours.peak_rss_bytes / peer.peak_rss_bytes
    return {
        "ours": round(ours.rate, 2),
        "peer": round(peer.rate, 2),
        "ratio": round(ratio, 3),
        "bar": case.bar,
        "holds": ratio >= case.bar and abs(difference) <= BARS["loss_difference"] and rss_ratio <= BARS["rss_ratio"],
        "tokens": tokens,
        "held_out_loss": {result.name: round(result.held_out_loss, 4) for result in results},
        "peak_rss_bytes": {result.name: result.peak_rss_bytes for result in results},
        "ratios": {result.name: round(ours.rate / result.rate, 3) for result in results[1:]},
    }


def verdict(cases: dict[str, dict[str, Any]]) -> int:
    """The last line: the case with the least to spare, whether all hold, and each."""
    tightest = min(cases, key=lambda name: cases[name]["ratio"] / cases[name]["bar"])
    holds = all(case["holds"] for case in cases.values())
    head = {name: cases[tightest][name] for name in ("ours", "peer", "ratio", "bar")}
    said = {"benchmark": "train_vs_trl", **head, "holds": holds, "unit": "real tokens a CPU second", "of": tightest}
    print(json.dumps({**said, "bars": BARS, "cases": cases}))
    return 0 if holds else 1


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
