"""The `train` job on one GPU: bfloat16, rows packed, beside the plain TRL script with its own defaults, in one run.

    python benchmarks/gpu/train.py [--quick] [--model DIR]

Needs an NVIDIA GPU and torch with CUDA; exit 5 without. Without --model it makes a Llama of SmolLM2-135M's shape with random
weights and a byte tokenizer, so that nothing has to be fetched. Shown: real tokens a second of the training loop and peak GPU
memory. Holds if ours, packed, is at least 1.5 times TRL's rate, and ours packed and not packed end within 0.1 of the same
held-out loss.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llmops_tui.specs.train import DatasetChoice, TrainSpec

BARS = {"ratio": 1.5, "loss_difference": 0.1}
MAX_LENGTH = 1024
SENTENCE = "the bank may ask for a deposit before it lends and every rate has its own rule that a clerk can explain"

PLAIN_SCRIPT = """
import json, sys, time
from datasets import load_dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

model, rows, output = sys.argv[1:4]

class Clock(TrainerCallback):
    def on_train_begin(self, *_, **__):
        self.began = time.monotonic()
    def on_train_end(self, args, state, control, **_):
        tokens = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        print("RESULT", json.dumps({"seconds": time.monotonic() - self.began, "tokens": tokens[-1]}))

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=output, per_device_train_batch_size=4, num_train_epochs=1, max_length=1024, learning_rate=2e-4,
        lr_scheduler_type="cosine", warmup_steps=0.03, logging_steps=1, save_strategy="no", report_to="none", seed=0,
    ),
    train_dataset=load_dataset("json", data_files=rows, split="train", cache_dir=output + "/cache"),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    callbacks=[Clock()],
)
trainer.train()
"""


def main() -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 rows instead of 2000")
    parser.add_argument("--model", type=Path, help="model directory")
    options = parser.parse_args()

    import torch

    if not torch.cuda.is_available():
        print(json.dumps({"benchmark": "gpu_train", "holds": False, "error": "torch sees no GPU"}))
        return 5
    with tempfile.TemporaryDirectory(prefix="gpu_train.") as scratch:
        directory = Path(scratch)
        model = options.model or make_model(directory / "model")
        rows = write_rows(directory / "rows.jsonl", 200 if options.quick else 2000)
        held_out = write_rows(directory / "held_out.jsonl", 64, seed=1)
        packed = run_ours(directory, "packed", model, rows, held_out, packing=True)
        apart = run_ours(directory, "apart", model, rows, held_out, packing=False)
        plain = run_plain(directory, model, rows)
    return report(torch.cuda.get_device_name(), packed, apart, plain)


def run_ours(directory: Path, name: str, model: Path, rows: Path, held_out: Path, *, packing: bool) -> dict[str, Any]:
    """The job, as the engine starts it; its summary, and the metrics of its last step."""
    run = directory / f"train-{name}-0001"
    run.mkdir()
    choice = DatasetChoice(path=str(rows), eval_path=str(held_out))
    spec = TrainSpec(model=str(model), dataset=choice, packing=packing, max_length=MAX_LENGTH, sample_prompts=["How does a bank lend?"])
    prepared = {
        "model": {"path": str(model)},
        "dataset": {"path": str(rows), "format": "text"},
        "eval_dataset": {"path": str(held_out), "format": "text"},
    }
    (run / "spec.json").write_text(json.dumps({"id": run.name, "spec": spec.model_dump(), "prepared": prepared}))
    environment = {"LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": "1"}
    wall = run_process(f"ours, {name}", [sys.executable, "-m", "llmops_tui.engine.jobs.train"], directory, environment)[1]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    summary: dict[str, Any] = events[-1]["summary"]
    memory = [event["values"]["gpu/0/memory_bytes"] for event in events if "gpu/0/memory_bytes" in event.get("values", {})]
    return {**summary, "wall_seconds": round(wall, 1), "gpu_memory_bytes": max(memory)}


def run_plain(directory: Path, model: Path, rows: Path) -> dict[str, Any]:
    """The plain script, in a process of its own."""
    script = directory / "plain.py"
    script.write_text(PLAIN_SCRIPT)
    text, wall = run_process(
        "TRL, plain script", [sys.executable, str(script), str(model), str(rows), str(directory / "plain")], directory, {}
    )
    found: dict[str, Any] = json.loads(text.rpartition("RESULT ")[2].splitlines()[0])
    return {**found, "tokens_per_second": found["tokens"] / found["seconds"], "wall_seconds": round(wall, 1)}


def run_process(name: str, argv: list[str], directory: Path, environment: dict[str, str]) -> tuple[str, float]:
    """Run to the end; its output and wall seconds."""
    print(f"running: {name}", file=sys.stderr, flush=True)
    log, began = directory / "output.log", time.monotonic()
    with open(log, "wb") as file:
        code = subprocess.run(
            argv, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1", **environment}, check=False
        ).returncode
    text = log.read_text(errors="replace")
    if code:
        raise SystemExit(f"{name} failed with exit code {code}:\n{text[-3000:]}")
    return text, time.monotonic() - began


def report(gpu: str, packed: dict[str, Any], apart: dict[str, Any], plain: dict[str, Any]) -> int:
    """The table, and the verdict as the last line."""
    print(f"{gpu}\n{'':22}{'tokens/s':>12}{'tokens':>12}{'held-out loss':>16}{'GPU memory':>14}  plan")
    for name, found in (("ours, packed", packed), ("ours, not packed", apart)):
        memory = f"{found['gpu_memory_bytes'] / 2**30:.2f} GiB"
        rate, loss = found["tokens_per_second"], found["eval_loss_after"]
        print(f"{name:22}{rate:12.0f}{found['tokens']:12}{loss:16.4f}{memory:>14}  {found['plan']}")
    print(f"{'TRL, plain script':22}{plain['tokens_per_second']:12.0f}{plain['tokens']:12.0f}")
    ratio = packed["tokens_per_second"] / plain["tokens_per_second"]
    difference = abs(packed["eval_loss_after"] - apart["eval_loss_after"])
    sound = packed["tokens"] == apart["tokens"] and packed["eval_loss_after"] < packed["eval_loss_before"]
    holds = ratio >= BARS["ratio"] and difference <= BARS["loss_difference"] and sound
    verdict = {
        "benchmark": "gpu_train",
        "ours": round(packed["tokens_per_second"], 1),
        "peer": round(plain["tokens_per_second"], 1),
        "ratio": round(ratio, 3),
        "bar": BARS["ratio"],
        "holds": holds,
        "unit": "real tokens a second",
        "gpu": gpu,
        "held_out_loss": {"packed": packed["eval_loss_after"], "not packed": apart["eval_loss_after"]},
    }
    print(json.dumps(verdict))
    return 0 if holds else 1


def write_rows(path: Path, count: int, seed: int = 0) -> Path:
    """Plain texts of lengths spread as in Fiqa: median 200 tokens, a long tail."""
    chance = random.Random(seed)
    with open(path, "w") as file:
        for _ in range(count):
            words = min(180, max(5, int(chance.lognormvariate(3.7, 0.8))))
            file.write(json.dumps({"text": " ".join(chance.choice(SENTENCE.split()) for _ in range(words))}) + "\n")
    return path


def make_model(directory: Path) -> Path:
    """SmolLM2-135M's layers over a vocabulary of bytes, random weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate([*letters, "<|end|>"])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", unk_token="<|end|>")
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,  # as SmolLM2's, of which the bytes use few: the output layer is as large
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        eos_token_id=256,
        pad_token_id=256,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    return directory


if __name__ == "__main__":
    sys.exit(main())
