"""Real tokens a CPU second of our `train` job, beside the plain TRL script a user would write, in one run.

    python benchmarks/train_vs_trl.py [--quick] [--rows N] [--model DIR] [--data FILE]

Same model (SmolLM2-135M-Instruct), rows (Fiqa), LoRA (r 16, all linear layers), tokens (one pass over the same rows), micro
batch (4), precision (float32), device (CPU), one thread each. Ours is the job itself in a run directory; the peers are the
script below with TRL's other defaults, which keep gradient checkpointing on, and once more with it off. CPU seconds are user and system
time of the training loop, ours with the checkpoint it writes; peak RSS is that of the whole process, by wait4. Both adapters are then
scored on the same held-out rows by one scorer. The bar: twice the plain script's rate, held-out loss equal within 0.02, no higher peak RSS.
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

from llmops_tui.commands.demo_assets import prepare
from llmops_tui.engine.jobs import hardware
from llmops_tui.engine.jobs.corpus import encode_rows, read_split
from llmops_tui.engine.jobs.labels import EncodedRow, RowEncoder
from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet
from llmops_tui.engine.jobs.scoring import score_rows
from llmops_tui.paths import find_home
from llmops_tui.specs.evaluate import EvaluateSpec
from llmops_tui.specs.train import DatasetChoice, TrainSpec

BARS = {"ratio": 2.0, "loss_difference": 0.02, "rss_ratio": 1.0}
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
    parser.add_argument("--quick", action="store_true", help="8 rows, and the plain script with its defaults alone: about two minutes")
    parser.add_argument("--rows", type=int, default=32, help="rows to learn from")
    parser.add_argument("--held-out", type=int, default=32, help="rows scored afterwards")
    parser.add_argument("--model", type=Path, help="model directory; the demo's where not given")
    parser.add_argument("--data", type=Path, help="questions and answers as JSON lines; the demo's Fiqa where not given")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.held_out = 8, 8
    model, data = options.model, options.data
    if model is None or data is None:
        model, data = demo_assets(model, data)

    quiet()
    choice = DatasetChoice(path=str(data), eval_fraction=0.1, eval_limit=options.held_out)
    learnt, held_out, _ = read_split(choice, {"path": str(data), "format": "auto"}, None, seed=0)
    learnt = learnt[: options.rows]
    encoder = RowEncoder(load_tokenizer(model), MAX_LENGTH)
    tokens = encode_rows(encoder, learnt, lambda done, total: None).count
    held_out_rows = encode_rows(encoder, held_out, lambda done, total: None).rows
    say(f"{len(learnt)} rows, {tokens} real tokens; {len(held_out_rows)} held-out rows; one thread each")

    with tempfile.TemporaryDirectory(prefix="train_vs_trl.") as scratch:
        directory = Path(scratch)
        rows = write_jsonl(directory / "rows.jsonl", [{"messages": row} for row in learnt])
        pairs = write_jsonl(directory / "pairs.jsonl", [{"prompt": row[:-1], "completion": row[-1:]} for row in learnt])
        results = [run_ours(directory, model, rows, tokens)]
        for name, checkpointing in [("TRL, plain script", "default"), ("TRL, gradient checkpointing off", "off")][
            : 1 if options.quick else 2
        ]:
            results.append(run_plain(directory, name, model, pairs, checkpointing, tokens))
        for result in results:
            say(f"scoring: {result.name}")
            result.held_out_loss = held_out_loss(result.adapter, held_out_rows)
    return report(results, tokens)


def demo_assets(model: Path | None, data: Path | None) -> tuple[Path, Path]:
    """What the demo uses, fetched and converted once."""
    assets = prepare(find_home().cache, say)
    return model or assets.model, data or assets.data


def run_ours(directory: Path, model: Path, rows: Path, tokens: int) -> Result:
    """The job, as the engine starts it: a process in a run directory."""
    run = directory / "train-benchmark-0001"
    run.mkdir()
    spec = TrainSpec(
        model=str(model), dataset=DatasetChoice(path=str(rows), eval_fraction=0), micro_batch=4, max_length=MAX_LENGTH, threads=1
    )
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


def report(results: list[Result], tokens: int) -> int:
    """The table, and the verdict as the last line."""
    print(f"{'':34}{'tokens/cpu-s':>14}{'cpu-s':>10}{'held-out loss':>16}{'peak RSS':>12}")
    for result in results:
        rss = f"{result.peak_rss_bytes / 2**30:.2f} GiB"
        print(f"{result.name:34}{result.rate:14.1f}{result.cpu_seconds:10.1f}{result.held_out_loss:16.4f}{rss:>12}")
    ours, peer = results[0], results[1]
    ratio, difference = ours.rate / peer.rate, ours.held_out_loss - peer.held_out_loss
    rss_ratio = ours.peak_rss_bytes / peer.peak_rss_bytes
    holds = ratio >= BARS["ratio"] and abs(difference) <= BARS["loss_difference"] and rss_ratio <= BARS["rss_ratio"]
    verdict = {
        "benchmark": "train_vs_trl",
        "ours": round(ours.rate, 2),
        "peer": round(peer.rate, 2),
        "ratio": round(ratio, 3),
        "bar": BARS["ratio"],
        "holds": holds,
        "unit": "real tokens a CPU second",
        "tokens": tokens,
        "held_out_loss": {result.name: round(result.held_out_loss, 4) for result in results},
        "peak_rss_bytes": {result.name: result.peak_rss_bytes for result in results},
        "ratios": {result.name: round(ours.rate / result.rate, 3) for result in results[1:]},
        "bars": BARS,
    }
    print(json.dumps(verdict))
    return 0 if holds else 1


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
