"""The `train` job on one GPU: bfloat16, rows packed, beside the plain TRL script with its own defaults, in one run.

    python benchmarks/gpu/train.py [--quick] [--model DIR]

Needs an NVIDIA GPU and torch with CUDA; one line and exit 5 without. Without --model it makes a Llama of SmolLM2-135M's shape with random
weights and a byte tokenizer, so that nothing has to be fetched. Shown: real tokens a second of the training loop and peak GPU
memory. Holds if ours, packed, is at least 1.5 times TRL's rate, and ours packed and not packed end within 0.1 of the same
held-out loss.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shared

from llmops_tui.specs.train import DatasetChoice, TrainSpec

BARS = {"ratio": 1.5, "loss_difference": 0.1}
MAX_LENGTH = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 rows instead of 2000")
    parser.add_argument("--model", type=Path, help="model directory")
    options = parser.parse_args(arguments)

    device = shared.find_device("cuda")
    if device is None:
        return shared.refuse("gpu_train")
    with tempfile.TemporaryDirectory(prefix="gpu_train.") as scratch:
        directory = Path(scratch)
        model = options.model or shared.make_model(directory / "model", "135M", "cuda")
        shared.write_texts(directory / "rows.jsonl", 200 if options.quick else 2000)
        shared.write_texts(directory / "held_out.jsonl", 64, seed=1)
        packed, apart = (run_ours(directory, model, packing=packing) for packing in (True, False))
        plain = shared.run_plain("TRL, plain script", directory / "plain", wish(directory, model, packing=False), "cuda")
    return report(device.name, packed, apart, plain)


def wish(directory: Path, model: Path, *, packing: bool) -> TrainSpec:
    """The spec of a run on the rows written below `directory`."""
    choice = DatasetChoice(path=str(directory / "rows.jsonl"), eval_path=str(directory / "held_out.jsonl"))
    return TrainSpec(model=str(model), dataset=choice, packing=packing, max_length=MAX_LENGTH, sample_prompts=["How does a bank lend?"])


def run_ours(directory: Path, model: Path, *, packing: bool) -> dict[str, Any]:
    """The job's summary, with the rate as it is measured of the plain script too."""
    name = "packed" if packing else "apart"
    spec = wish(directory, model, packing=packing)
    formats = {spec.dataset.path: "text", str(spec.dataset.eval_path): "text"}
    events = shared.run_job(f"ours, {name}", directory / f"train-{name}-0001", spec, formats, "cuda")
    summary: dict[str, Any] = events[-1]["summary"]
    return {**summary, "tokens_per_second": shared.measured_job(name, events).rate}


def report(gpu: str, packed: dict[str, Any], apart: dict[str, Any], plain: shared.Measured) -> int:
    """The table, and the verdict as the last line."""
    print(f"{gpu}\n{'':22}{'tokens/s':>12}{'tokens':>12}{'held-out loss':>16}{'GPU memory':>14}  plan")
    for name, found in (("ours, packed", packed), ("ours, not packed", apart)):
        memory = f"{found['gpu_peak_bytes'] / 2**30:.2f} GiB"
        rate, loss = found["tokens_per_second"], found["eval_loss_after"]
        print(f"{name:22}{rate:12.0f}{found['tokens']:12}{loss:16.4f}{memory:>14}  {found['plan']}")
    print(f"{plain.name:22}{plain.rate:12.0f}{plain.tokens:12}{'':16}{plain.peak_bytes / 2**30:>10.2f} GiB")
    ratio = packed["tokens_per_second"] / plain.rate
    difference = abs(packed["eval_loss_after"] - apart["eval_loss_after"])
    sound = packed["tokens"] == apart["tokens"] and packed["eval_loss_after"] < packed["eval_loss_before"]
    holds = ratio >= BARS["ratio"] and difference <= BARS["loss_difference"] and sound
    verdict = {
        "benchmark": "gpu_train",
        "ours": round(packed["tokens_per_second"], 1),
        "peer": round(plain.rate, 1),
        "ratio": round(ratio, 3),
        "bar": BARS["ratio"],
        "holds": holds,
        "unit": "real tokens a second",
        "gpu": gpu,
        "held_out_loss": {"packed": packed["eval_loss_after"], "not packed": apart["eval_loss_after"]},
    }
    print(json.dumps(verdict))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
