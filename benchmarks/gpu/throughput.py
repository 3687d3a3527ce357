"""Real tokens a second, model FLOP utilisation and peak memory of our `train` job on one GPU, beside plain TRL and Unsloth, in one run.

    python benchmarks/gpu/throughput.py [--quick] [--shape 1B|8B|135M|tiny] [--device cuda|cpu] [--no-unsloth]

Needs an NVIDIA GPU and torch with CUDA; one line and exit 5 without. Llama's shapes of 1B and 8B parameters with random weights, each by
LoRA (r 16, all linear layers), QLoRA (where bitsandbytes is installed) and in full where that is predicted to fit. All learn the same rows
once, of lengths as in Fiqa, eight rows an update or as many tokens, bfloat16. Ours packs rows; the peers are the plain TRL script with its
own defaults, the same with TRL's packing, and Unsloth's with packing in an environment of its own, where it can be installed. The rate
leaves out the first steps. MFU is the products the model itself needs for that rate (4 FLOP a frozen weight and token, 6 a trained one, and
attention; nothing for what is computed twice) over the maker's dense bfloat16 peak; over this device's own matrix product where no data
sheet is known. Holds if ours is at least 1.5 times plain TRL in every row of the table. `--device cpu --shape tiny` goes the same way
without a GPU, to see that it works: its figures say nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import shared

from llmops_tui.engine.estimate.adapters import adapted
from llmops_tui.engine.estimate.estimate import Box, estimate
from llmops_tui.engine.estimate.facts import ModelFacts, model_facts
from llmops_tui.engine.estimate.memory import Setup
from llmops_tui.engine.estimate.speed import data_sheet_flops, flops_a_token
from llmops_tui.engine.estimate.workload import RowFacts, workload
from llmops_tui.specs.train import TrainSpec

sys.path.insert(1, str(Path(__file__).parents[1]))
from peer_environment import peer_python

BAR = 1.5
PLAIN = "TRL, plain script"
UNSLOTH = "unsloth==2026.10.9"
MAX_LENGTH, MICRO_BATCH = 1024, 8
ROWS = {"tiny": 72, "135M": 2000, "1B": 1200, "8B": 400}

UNSLOTH_SCRIPT = """
import json, sys, time
from unsloth import FastLanguageModel
import torch
from datasets import load_dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

wish = json.loads(sys.argv[1])

class Clock(TrainerCallback):
    steps = []
    def on_log(self, args, state, control, logs, **_):
        if "loss" in logs:
            self.steps.append([time.time(), state.num_input_tokens_seen, logs["loss"]])

full = wish["way"] == "full"
model, tokenizer = FastLanguageModel.from_pretrained(
    wish["model"], max_seq_length=wish["max_length"], dtype=torch.bfloat16, load_in_4bit=wish["way"] == "qlora", full_finetuning=full
)
if not full:
    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=32, lora_dropout=0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    args=SFTConfig(
        output_dir=wish["output"], bf16=True, per_device_train_batch_size=wish["micro_batch"], num_train_epochs=1,
        max_length=wish["max_length"], packing=wish["packing"], learning_rate=wish["learning_rate"], lr_scheduler_type="cosine",
        logging_steps=1, save_strategy="no", report_to="none", seed=0, include_num_input_tokens_seen="non_padding",
        dataset_text_field="text",
    ),
    train_dataset=load_dataset("json", data_files=wish["rows"], split="train", cache_dir=wish["output"] + "/cache"),
    callbacks=[Clock()],
)
trainer.train()
print("RESULT", json.dumps({"steps": Clock.steps, "peak_bytes": torch.cuda.max_memory_allocated()}))
"""


@dataclass
class Row:
    """One shape trained one way, by each that did not run out of memory. `token_flops` are the model's own of one real token."""

    label: str
    token_flops: float
    ours: shared.Measured | None = None
    peers: list[shared.Measured] = field(default_factory=list)
    did_not_fit: list[str] = field(default_factory=list)

    @property
    def plain(self) -> shared.Measured | None:
        return next((peer for peer in self.peers if peer.name == PLAIN), None)

    @property
    def ratio(self) -> float | None:
        """Ours over the plain script; None where one of them did not fit."""
        return None if self.ours is None or self.plain is None else self.ours.rate / self.plain.rate

    @property
    def holds(self) -> bool:
        """Where the plain script does not fit, ours must."""
        if self.ours is None:
            return self.plain is None and not self.peers
        return self.ratio is None or self.ratio >= BAR


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rows, LoRA alone, without Unsloth")
    parser.add_argument(
        "--shape", choices=list(ROWS), action="append", help="this shape (more than once: these); 1B and 8B where not given"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to see that it works")
    parser.add_argument("--no-unsloth", action="store_true", help="do not make an environment for Unsloth")
    options = parser.parse_args(arguments)
    device = shared.find_device(options.device)
    if device is None:
        return shared.refuse("gpu_throughput")
    wanted = device.kind == "cuda" and not options.quick and not options.no_unsloth
    unsloth = unsloth_python() if wanted else None
    table: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="gpu_throughput.") as scratch:
        for shape in options.shape or ["1B", "8B"]:
            directory = Path(scratch) / shape
            directory.mkdir()
            model = shared.make_model(directory / "model", shape, device.kind)
            lengths = shared.write_texts(directory / "rows.jsonl", ROWS[shape] // (4 if options.quick else 1))
            for way in ["lora"] if options.quick else ways(device):
                row = train_all(shape, way, model, directory, lengths, device, unsloth)
                table += [] if row is None else [row]
    return report(device, table)


def ways(device: shared.Device) -> list[str]:
    """What can be trained on this device."""
    if device.kind == "cuda" and importlib.util.find_spec("bitsandbytes") is None:
        shared.say("bitsandbytes is not installed: no QLoRA")
        return ["lora", "full"]
    return ["lora", "qlora", "full"] if device.kind == "cuda" else ["lora", "full"]


def unsloth_python() -> Path | None:
    """The interpreter of Unsloth's environment; None where it cannot be made or does not start here."""
    try:
        python = peer_python("unsloth", [UNSLOTH])
        subprocess.run([str(python), "-c", "import unsloth"], check=True, capture_output=True)
    except subprocess.CalledProcessError as problem:
        shared.say(f"without Unsloth: {UNSLOTH} cannot be installed or imported here (exit code {problem.returncode})")
        return None
    return python


def train_all(
    shape: str, way: str, model: Path, directory: Path, lengths: list[int], device: shared.Device, unsloth: Path | None
) -> Row | None:
    """Ours, then the peers, on the same rows; None where it is predicted not to fit."""
    spec = TrainSpec.model_validate(
        {
            "model": str(model), "dataset": {"path": str(directory / "rows.jsonl"), "eval_fraction": 0}, "adaptation": way,
            "max_length": MAX_LENGTH, "micro_batch": MICRO_BATCH, "packing": True,
            "optim": {"learning_rate": 1e-5 if way == "full" else 2e-4},
        }
    )  # fmt: skip
    facts = model_facts(model)
    rows = RowFacts(len(lengths), 0, sum(lengths) / len(lengths), max(lengths), "written for this")
    row = Row(f"{shape} {way}", model_flops_a_token(spec, facts, rows))
    if estimate(spec, facts, rows, Box(device.kind, device.name, device.memory_bytes, threads=1, gpus=1))["fits"] == "no":
        shared.say(f"left out, predicted not to fit: {row.label}")
        return None
    try:
        name = f"{row.label}: ours, packed"
        events = shared.run_job(name, directory / f"train-{way}-0001", spec, {spec.dataset.path: "text"}, device.kind)
        row.ours = shared.measured_job("ours, packed", events)
    except shared.DidNotFitError:
        row.did_not_fit.append("ours, packed")
    packs = max(1, round(MICRO_BATCH * sum(lengths) / len(lengths) / MAX_LENGTH))  # as many tokens an update
    peers = [(PLAIN, None, None), ("TRL, packing", packs, None)]
    if unsloth is not None:
        peers.append(("Unsloth, packing", packs, unsloth))
    for number, (name, packed, python) in enumerate(peers):
        shared.say(row.label)
        output = directory / f"{way}-{number}"
        try:
            if python is None:
                row.peers.append(shared.run_plain(name, output, spec, device.kind, packed))
            else:
                row.peers.append(shared.run_script(name, [str(python), "-c", UNSLOTH_SCRIPT], output, spec, device.kind, packed))
        except shared.DidNotFitError:
            row.did_not_fit.append(name)
    if row.ours and row.plain and row.ours.tokens != row.plain.tokens:
        raise SystemExit(f"{row.label}: ours learnt from {row.ours.tokens} tokens, {PLAIN} from {row.plain.tokens}")
    return row


def model_flops_a_token(spec: TrainSpec, facts: ModelFacts, rows: RowFacts) -> float:
    """Of one real token in training, without what is computed twice; every token of a text has a label."""
    setup = Setup("cuda", spec.adaptation, 2, False, spec.lora.r, facts.file_bytes, facts.file_item_bytes)
    load = workload(spec, rows, device="cuda", packed=True, own_loss=True)
    return flops_a_token(facts.shape, adapted(facts.shape, spec.lora.target_modules), setup, load, 1.0)[0]


def report(device: shared.Device, table: Sequence[Row]) -> int:
    """The table, and the verdict as the last line: the row with the smallest ratio, and whether all hold."""
    known = data_sheet_flops(device.name) if device.kind == "cuda" else None
    peak, basis = (known, "data sheet") if known else (device.matmul_flops, "own matrix product")
    print(f"{device.name}, {peak / 1e12:.3g} TFLOP/s by its {basis}; {device.matmul_flops / 1e12:.3g} measured")
    print(f"{'':30}{'tokens/s':>12}{'MFU':>8}{'loss':>9}{'peak memory':>14}{'ours / it':>11}")
    for row in table:
        print(row.label)
        for found in [*([row.ours] if row.ours else []), *row.peers]:
            ratio = f"{row.ours.rate / found.rate:10.2f}×" if row.ours and found is not row.ours else ""
            share, memory = found.rate * row.token_flops / peak, f"{found.peak_bytes / 2**30:.2f} GiB"
            print(f"  {found.name:28}{found.rate:12.0f}{share:8.1%}{found.loss:9.3f}{memory:>14}{ratio:>11}")
        for name in row.did_not_fit:
            print(f"  {name:28}{'did not fit':>12}")
    compared = [row for row in table if row.ratio is not None]
    tightest = min(compared, key=lambda row: row.ratio or 0.0, default=None)
    holds = bool(compared) and all(row.holds for row in table)
    head = {"ours": None, "peer": None, "ratio": None}
    if tightest and tightest.ours and tightest.plain and tightest.ratio:
        head = {"ours": round(tightest.ours.rate, 1), "peer": round(tightest.plain.rate, 1), "ratio": round(tightest.ratio, 3)}
    rows = {
        row.label: {
            found.name: {
                "tokens_per_second": round(found.rate, 1), "mfu": round(found.rate * row.token_flops / peak, 4),
                "loss": round(found.loss, 4), "peak_bytes": found.peak_bytes,
            }
            for found in [*([row.ours] if row.ours else []), *row.peers]
        }
        for row in table
    }  # fmt: skip
    said = {"benchmark": "gpu_throughput", **head, "bar": BAR, "holds": holds, "unit": "real tokens a second", "device": device.name}
    print(json.dumps({**said, "peak_flops": peak, "peak_basis": basis, "rows": rows}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
