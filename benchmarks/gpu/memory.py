"""Predicted against measured peak memory of a training job on one GPU, over a grid of specs, each in a process of its own.

    python benchmarks/gpu/memory.py [--quick]

Needs an NVIDIA GPU and torch with CUDA; one line and exit 5 without. Shapes with random weights of 135M, 1B and 8B
parameters (Llama); LoRA, QLoRA (where bitsandbytes is installed) and full; gradient checkpointing on and off; rows that fill
1,024 tokens. Measured is what the job itself reports: `torch.cuda.max_memory_allocated` (`gpu_peak_bytes`). Each spec is
predicted by a calibration that has seen all specs but that one. What the prediction says cannot fit is left out, and said.
Bar: median within 5 %.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shared

from llmops_tui.engine.estimate.calibration import Calibration, Likeness, Outcome
from llmops_tui.engine.estimate.estimate import Box, estimate
from llmops_tui.engine.estimate.facts import model_facts
from llmops_tui.engine.estimate.workload import RowFacts
from llmops_tui.specs.answers import EstimateAnswer
from llmops_tui.specs.train import TrainSpec

BAR = 0.05
LENGTH, STEPS = 1024, 3
SIZES = ("135M", "1B", "8B")


@dataclass
class Point:
    """One spec, the prediction of the formula, and what was measured."""

    label: str
    spec: TrainSpec
    formula: EstimateAnswer
    likeness: Likeness
    peak_bytes: int = 0
    predicted_bytes: float = 0.0

    @property
    def error(self) -> float:
        return self.predicted_bytes / self.peak_bytes - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the 8B shape")
    options = parser.parse_args(arguments)
    device = shared.find_device("cuda")
    if device is None:
        return shared.refuse("gpu_memory")
    box = Box("cuda", device.name, device.memory_bytes, threads=1, gpus=1)
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="gpu_memory.") as scratch:
        directory = Path(scratch)
        rows = write_rows(directory / "rows.jsonl")
        for size in SIZES[: 2 if options.quick else 3]:
            model = shared.make_model(directory / size, size, "cuda")
            for point in grid(size, model, rows, box):
                run = directory / f"run-{len(points)}"
                try:
                    events = shared.run_job(point.label, run, point.spec, {str(rows): "prompt_completion"}, "cuda")
                except shared.DidNotFitError:
                    raise SystemExit(f"{point.label} was predicted to fit, and did not") from None
                point.peak_bytes = events[-1]["summary"]["gpu_peak_bytes"]
                points.append(point)
    for point in points:
        others = [Outcome(other.likeness, other.peak_bytes / work_bytes(other), None) for other in points if other is not point]
        point.predicted_bytes = work_bytes(point) * Calibration(others).correction("memory", point.likeness).factor
    return report(points, device.name)


def grid(size: str, model: Path, rows: Path, box: Box) -> list[Point]:
    """Every combination that is predicted to fit, with its prediction."""
    ways = ["lora", "full", *(["qlora"] if importlib.util.find_spec("bitsandbytes") else [])]
    if "qlora" not in ways:
        shared.say("bitsandbytes is not installed: no QLoRA in the grid")
    points = []
    for way in ways:
        for checkpointing in (False, True):
            spec = TrainSpec.model_validate(
                {
                    "model": str(model), "dataset": {"path": str(rows), "eval_fraction": 0}, "adaptation": way, "max_length": LENGTH,
                    "micro_batch": 4, "packing": False, "max_steps": STEPS, "gradient_checkpointing": checkpointing,
                }
            )  # fmt: skip
            facts = model_facts(model)
            formula = estimate(spec, facts, RowFacts(64, 0, float(LENGTH), LENGTH, "made for this"), box)
            label = f"{size} {way}, {'checkpointing' if checkpointing else 'no checkpointing'}"
            if formula["fits"] == "no":
                shared.say(f"left out, predicted not to fit: {label}")
                continue
            points.append(Point(label, spec, formula, Likeness("cuda", way, checkpointing, facts.shape.family)))
    return points


def work_bytes(point: Point) -> int:
    """What torch allocates by the formula: without the context."""
    return int(point.formula["formula"]["work_bytes"])


def report(points: list[Point], gpu: str) -> int:
    """The table, and the verdict as the last line."""
    print(f"{gpu:44}{'measured':>12}{'ours':>9}{'formula':>9}")
    for point in points:
        alone = work_bytes(point) / point.peak_bytes - 1
        print(f"{point.label:44}{point.peak_bytes / 2**30:>8.2f} GiB{point.error:>+9.1%}{alone:>+9.1%}")
    median = statistics.median(abs(point.error) for point in points)
    alone = statistics.median(abs(work_bytes(point) / point.peak_bytes - 1) for point in points)
    verdict = {
        "benchmark": "gpu_memory", "ours": round(median, 4), "peer": round(alone, 4), "ratio": round(alone / max(median, 1e-9), 2),
        "bar": BAR, "holds": median <= BAR, "unit": "median absolute error of the peak, leave one out; peer: the formula alone",
        "gpu": gpu, "points": {point.label: [point.peak_bytes, round(point.predicted_bytes)] for point in points},
    }  # fmt: skip
    print(json.dumps(verdict))
    return 0 if verdict["holds"] else 1


def write_rows(path: Path) -> Path:
    """Rows longer than the cut for a byte tokenizer, about half of each to be learnt."""
    words = "the bank may lend at a fair rate " * (LENGTH // 8)
    rows = ({"prompt": words[: LENGTH // 2], "completion": f"{words[: 2 * LENGTH]} {number}"} for number in range(16))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


if __name__ == "__main__":
    sys.exit(main())
