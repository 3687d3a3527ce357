"""Predicted against measured peak memory of a training job on one GPU, over a grid of specs, each in a process of its own.

    python benchmarks/gpu/memory.py [--quick]

Needs an NVIDIA GPU and torch with CUDA; says "no GPU" and exits 2 without. Shapes with random weights of 135M, 1B and 8B
parameters (Llama); LoRA, QLoRA (where bitsandbytes is installed) and full; gradient checkpointing on and off; rows that fill
1,024 tokens. Measured is what the job itself reports: `torch.cuda.max_memory_allocated` (`gpu_peak_bytes`). Each spec is
predicted by a calibration that has seen all specs but that one. What the prediction says cannot fit is left out, and said.
Bar: median within 5 %.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llmops_tui.engine.estimate.calibration import Calibration, Likeness, Outcome
from llmops_tui.engine.estimate.estimate import Box, estimate
from llmops_tui.engine.estimate.facts import model_facts
from llmops_tui.engine.estimate.workload import RowFacts
from llmops_tui.specs.answers import EstimateAnswer
from llmops_tui.specs.train import TrainSpec

BAR = 0.05
LENGTH, STEPS = 1024, 3
NO_GPU_EXIT_CODE = 2
SIZES = {
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
}
GPU = """
import json
import torch
if torch.cuda.is_available():
    print(json.dumps([torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory]))
"""
# In a process of its own: 16 GB of weights must be gone before the jobs begin.
MAKE_MODEL = """
import json, sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate([*letters, "<end>", "<pad>"])}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
fast.chat_template = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
config = LlamaConfig(vocab_size=49152, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=256, eos_token_id=256,
                     pad_token_id=257, **json.loads(sys.argv[2]))
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = LlamaForCausalLM(config)
model.save_pretrained(sys.argv[1])
fast.save_pretrained(sys.argv[1])
"""


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


def main() -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the 8B shape")
    options = parser.parse_args()
    found = find_gpu()
    if found is None:
        print(json.dumps({"benchmark": "gpu_memory", "holds": False, "error": "no GPU"}))
        return NO_GPU_EXIT_CODE
    box = Box("cuda", found[0], found[1], threads=1, gpus=1)
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="gpu_memory.") as scratch:
        directory = Path(scratch)
        rows = write_rows(directory / "rows.jsonl")
        for size, shape in SIZES.items():
            if size == "8B" and options.quick:
                continue
            model = directory / size
            run_python(f"making {size}", MAKE_MODEL, str(model), json.dumps(shape))
            for point in grid(size, model, rows, box):
                measure(point, model, directory / f"run-{len(points)}")
                points.append(point)
    for point in points:
        others = [Outcome(other.likeness, other.peak_bytes / work_bytes(other), None) for other in points if other is not point]
        point.predicted_bytes = work_bytes(point) * Calibration(others).correction("memory", point.likeness).factor
    return report(points, found[0])


def find_gpu() -> tuple[str, int] | None:
    """Name and memory of the first GPU; None without torch, CUDA or a GPU."""
    if importlib.util.find_spec("torch") is None:
        return None
    output = run_python("looking for a GPU", GPU).strip()
    if not output:
        return None
    name, memory = json.loads(output.splitlines()[-1])
    return str(name), int(memory)


def grid(size: str, model: Path, rows: Path, box: Box) -> list[Point]:
    """Every combination that is predicted to fit, with its prediction."""
    ways = ["lora", "full", *(["qlora"] if importlib.util.find_spec("bitsandbytes") else [])]
    if "qlora" not in ways:
        say("bitsandbytes is not installed: no QLoRA in the grid")
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
                say(f"left out, predicted not to fit: {label}")
                continue
            points.append(Point(label, spec, formula, Likeness("cuda", way, checkpointing, facts.shape.family)))
    return points


def measure(point: Point, model: Path, run: Path) -> None:
    """One job, as the engine starts it."""
    say(point.label)
    run.mkdir()
    prepared = {"model": {"path": str(model)}, "dataset": {"path": point.spec.dataset.path, "format": "prompt_completion"}}
    (run / "spec.json").write_text(json.dumps({"id": run.name, "spec": point.spec.model_dump(), "prepared": prepared}))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": "1"}
    with open(run / "output.log", "wb") as output:
        code = subprocess.call([sys.executable, "-m", "llmops_tui.engine.jobs.train"], stdout=output, stderr=output, env=environment)
    if code:
        raise SystemExit(f"{point.label} failed with exit code {code}:\n{(run / 'output.log').read_text(errors='replace')[-3000:]}")
    point.peak_bytes = json.loads((run / "events.jsonl").read_text().splitlines()[-1])["summary"]["gpu_peak_bytes"]


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


def run_python(what: str, program: str, *arguments: str) -> str:
    """A program in a process of its own; its output."""
    say(what)
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
