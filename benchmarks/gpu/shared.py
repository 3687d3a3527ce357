"""What the scripts beside this one share: the device, models with random weights, rows, our `train` job and the plain TRL script."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.specs.train import TrainSpec

NO_GPU_EXIT_CODE = 5
# Steps that are not counted: kernels are chosen, memory is asked for.
WARM_UP_STEPS = 3
_COUNTED_STEPS = 5
_SENTENCE = "the bank may ask for a deposit before it lends and every rate has its own rule that a clerk can explain"

# Llama's shapes; the bytes of the tokenizer use few of the vocabulary, and the output layer is as large all the same.
SHAPES: dict[str, dict[str, int | bool]] = {
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 512, "tie_word_embeddings": True,
    },
    "135M": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49152, "tie_word_embeddings": True,
    },
    "1B": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256, "tie_word_embeddings": True,
    },
    "8B": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256, "tie_word_embeddings": False,
    },
}  # fmt: skip

# In processes of their own: CUDA's context and 16 GB of weights must be gone before the jobs begin.
_PROBE = """
import json, sys, time
import torch

kind = sys.argv[1]
if kind == "cuda" and not torch.cuda.is_available():
    sys.exit()
wait = torch.cuda.synchronize if kind == "cuda" else lambda: None
size, dtype = (8192, torch.bfloat16) if kind == "cuda" else (1024, torch.float32)
square, best = torch.randn(size, size, device=kind, dtype=dtype), 0.0
for _ in range(5):
    wait()
    began = time.perf_counter()
    for _ in range(4):
        square @ square
    wait()
    best = max(best, 4 * 2 * size**3 / (time.perf_counter() - began))
card = torch.cuda.get_device_properties(0) if kind == "cuda" else None
print(json.dumps([card.name if card else "CPU", card.total_memory if card else None, best]))
"""
_MAKE_MODEL = """
import json, sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

directory, shape, device = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate([*letters, "<end>", "<pad>"])}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
fast.chat_template = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token + '\\n' }}{% endfor %}"
config = LlamaConfig(max_position_embeddings=4096, bos_token_id=256, eos_token_id=256, pad_token_id=257, **shape)
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
with torch.device(device):
    model = LlamaForCausalLM(config)
model.save_pretrained(directory)
fast.save_pretrained(directory)
"""
# What a user would write, with TRL's other defaults, which keep gradient checkpointing on; weights in the precision of ours.
_PLAIN_SCRIPT = """
import json, resource, sys, time
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

wish = json.loads(sys.argv[1])
on_gpu, way = wish["device"] == "cuda", wish["way"]

class Clock(TrainerCallback):
    steps = []
    def on_log(self, args, state, control, logs, **_):
        if "loss" in logs:
            self.steps.append([time.time(), logs["num_tokens"], logs["loss"]])

options = {"dtype": "bfloat16" if on_gpu else "float32"}
if way == "qlora":
    options["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )
adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
trainer = SFTTrainer(
    model=wish["model"],
    args=SFTConfig(
        output_dir=wish["output"], use_cpu=not on_gpu, bf16=on_gpu, per_device_train_batch_size=wish["micro_batch"], num_train_epochs=1,
        max_length=wish["max_length"], packing=wish["packing"], learning_rate=wish["learning_rate"], lr_scheduler_type="cosine",
        warmup_steps=0.03, logging_steps=1, save_strategy="no", report_to="none", seed=0, model_init_kwargs=options,
    ),
    train_dataset=load_dataset("json", data_files=wish["rows"], split="train", cache_dir=wish["output"] + "/cache"),
    peft_config=None if way == "full" else adapter,
    callbacks=[Clock()],
)
trainer.train()
peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print("RESULT", json.dumps({"steps": Clock.steps, "peak_bytes": peak}))
"""


@dataclass(frozen=True)
class Device:
    """Where the jobs run. `matmul_flops`: what its own product of two large matrices reaches, bfloat16 on a GPU, float32 on a CPU."""

    kind: str
    name: str
    memory_bytes: int | None
    matmul_flops: float


class DidNotFitError(Exception):
    """A process ran out of the device's memory."""


@dataclass(frozen=True)
class Measured:
    """What one way to train did on its rows: `rate` in real tokens a second after the first steps, `loss` the last quarter's mean."""

    name: str
    rate: float
    tokens: int
    loss: float
    peak_bytes: int


def find_device(kind: str) -> Device | None:
    """The CPU, or the first GPU; None without torch, CUDA or a GPU."""
    if importlib.util.find_spec("torch") is None:
        return None
    output = run_python(f"looking at the {kind}", _PROBE, kind).strip()
    if not output:
        return None
    name, memory, flops = json.loads(output.splitlines()[-1])
    return Device(kind, name, memory, flops)


def refuse(benchmark: str) -> int:
    """Say in one line that there is no GPU; the exit code."""
    print(json.dumps({"benchmark": benchmark, "holds": False, "error": "no GPU: torch with CUDA sees none here"}))
    return NO_GPU_EXIT_CODE


def make_model(directory: Path, shape: str, device: str) -> Path:
    """A Llama of that shape with random weights and a byte tokenizer, so that nothing has to be fetched."""
    run_python(f"making a model of {shape}", _MAKE_MODEL, str(directory), json.dumps(SHAPES[shape]), device)
    return directory


def write_texts(path: Path, count: int, seed: int = 0) -> list[int]:
    """Plain texts of lengths spread as in Fiqa, median 200 tokens with a long tail; returns the tokens of each."""
    chance = random.Random(seed)
    lengths = []
    with open(path, "w") as file:
        for _ in range(count):
            words = min(180, max(5, int(chance.lognormvariate(3.7, 0.8))))
            text = " ".join(chance.choice(_SENTENCE.split()) for _ in range(words))
            lengths.append(len(text) + 1)
            file.write(json.dumps({"text": text}) + "\n")
    return lengths


def run_job(name: str, run: Path, spec: TrainSpec, formats: Mapping[str, str], device: str) -> list[dict[str, Any]]:
    """Our job, as the engine starts it: a process in a run directory. Its events, the last of which is its end.

    `formats` says how each file of rows is read. Raises DidNotFitError.
    """
    run.mkdir()
    choice = spec.dataset
    prepared: dict[str, Any] = {
        "model": {"path": spec.model},
        "dataset": {"path": choice.path, "format": formats[choice.path]},
        "eval_dataset": {"path": choice.eval_path, "format": formats[choice.eval_path]} if choice.eval_path else None,
    }
    (run / "spec.json").write_text(json.dumps({"id": run.name, "spec": spec.model_dump(), "prepared": prepared}))
    environment = {"LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": "1"}
    run_process(name, [sys.executable, "-m", "llmops_tui.engine.jobs.train"], run / "output.log", device, environment)
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def measured_job(name: str, events: Sequence[Mapping[str, Any]]) -> Measured:
    """What the events of our job say."""
    steps = [
        (float(event["t"]), int(event["values"]["train/tokens"]), float(event["values"]["train/loss"]))
        for event in events
        if event["type"] == "metric" and "train/loss" in event["values"]
    ]
    summary = events[-1]["summary"]
    return measured(name, steps, summary.get("gpu_peak_bytes") or summary["peak_rss_bytes"])


def measured(name: str, steps: Sequence[tuple[float, int, float]], peak_bytes: int) -> Measured:
    """Of steps `(Unix time at its end, tokens so far, loss)`. Raises SystemExit where too few are left after the first ones."""
    if len(steps) < WARM_UP_STEPS + _COUNTED_STEPS:
        raise SystemExit(f"{name}: {len(steps)} steps are too few to tell a rate; give it more rows")
    (began, before, _), (ended, tokens, _) = steps[WARM_UP_STEPS - 1], steps[-1]
    last = [loss for _, _, loss in steps[-max(1, len(steps) // 4) :]]
    return Measured(name, (tokens - before) / (ended - began), tokens, sum(last) / len(last), peak_bytes)


def run_plain(name: str, output: Path, spec: TrainSpec, device: str, packs: int | None = None) -> Measured:
    """The plain script on the model and rows of `spec`, in a process of its own; as `run_script`."""
    return run_script(name, [sys.executable, "-c", _PLAIN_SCRIPT], output, spec, device, packs)


def run_script(name: str, argv: Sequence[str], output: Path, spec: TrainSpec, device: str, packs: int | None = None) -> Measured:
    """A peer's script, which gets the wish as JSON and prints RESULT with its steps and its peak. Raises DidNotFitError.

    `packs`: how many packed sequences of full length make an update; None takes the rows one by one, as many as `spec` says.
    """
    output.mkdir()
    wish = {
        "model": spec.model, "rows": spec.dataset.path, "output": str(output), "way": spec.adaptation, "device": device,
        "packing": packs is not None, "micro_batch": packs or spec.micro_batch, "max_length": spec.max_length,
        "learning_rate": spec.optim.learning_rate,
    }  # fmt: skip
    text = run_process(name, [*argv, json.dumps(wish)], output / "output.log", device, {})
    found = json.loads(text.rpartition("RESULT ")[2].splitlines()[0])  # a progress bar may stand on the same line before it
    return measured(name, [(t, int(tokens), float(loss)) for t, tokens, loss in found["steps"]], found["peak_bytes"])


def run_process(name: str, argv: Sequence[str], log: Path, device: str, environment: Mapping[str, str]) -> str:
    """Run to the end; its output. Raises DidNotFitError, and SystemExit with the end of the output where it fails otherwise."""
    say(f"running: {name}")
    alone = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **alone, **environment}
    with open(log, "wb") as file:
        code = subprocess.run(argv, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    text = log.read_text(errors="replace")
    if code and "OutOfMemoryError" in text:
        raise DidNotFitError(name)
    if code:
        raise SystemExit(f"{name} failed with exit code {code}:\n{text[-3000:]}")
    return text


def run_python(what: str, program: str, *arguments: str) -> str:
    """A program in a process of its own; its output."""
    say(what)
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
