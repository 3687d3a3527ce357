"""What the fake engine knows of specs, models and datasets: real forms and real checks of specs, a made-up registry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_tui.errors import EngineUnavailableError, LlmopsError, NotFoundError
from llmops_tui.specs.answers import (
    DatasetInfo,
    EstimateAnswer,
    Measured,
    ModelInfo,
    Preview,
    PreviewPiece,
    PreviewRow,
    PreviewText,
    RunSummary,
    SpecForm,
    Submission,
)
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.form import spec_form
from llmops_tui.specs.parse import parse_spec

if TYPE_CHECKING:
    from threading import Event

TRAIN = {
    "kind": "train", "name": "fiqa", "model": "smollm2@v1", "dataset": {"path": "fiqa@v2"}, "epochs": 3.0,
    "optim": {"learning_rate": 1e-4}, "tags": ["nightly"],
}  # fmt: skip


def model(name: str, version: int | None, **changes: Any) -> ModelInfo:
    """A registered model, or with no version one found on disk."""
    row: dict[str, Any] = {
        "name": name, "version": version, "aliases": [], "format": "full", "path": f"/models/{name}", "bytes": 270 << 20, "complete": True,
        "source": "", "architecture": "LlamaForCausalLM", "parameters": 134_500_000, "dtype": "bfloat16", "context_length": 8192,
        "licence": "Apache-2.0", "sha256": "", "base": "", "run": "", "created_at": 1.0 * (version or 0), "problems": [], **changes,
    }  # fmt: skip
    return row  # type: ignore[return-value]


def a_preview(path: str, rows: int) -> Preview:
    """Pairs: the first broken, the second cut on one side."""
    question = "Is the night sky dark because the universe is expanding, or because stars are few?"
    head = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"

    def text(title: str, said: str, cut: int = 0) -> PreviewText:
        pieces = [PreviewPiece(text=head, learnt=False), PreviewPiece(text=f"{said}<|im_end|>", learnt=True)]
        return PreviewText(title=title, pieces=pieces, tokens=60 + len(said) // 4, learnt_tokens=len(said) // 4, cut_tokens=cut)

    good, bad = "Yes: light of far stars is stretched until no eye sees it, and of the others there has not been time.", "Nobody knows."
    found = [PreviewRow(row="1", problem="`rejected` is missing", texts=[])]
    found += [
        PreviewRow(row=str(n), problem="", texts=[text("chosen", good, 12 * (n == 2)), text("rejected", bad)]) for n in range(2, rows + 1)
    ]
    why = "all 200 sampled rows have `chosen` and `rejected`"
    return Preview(dataset=path, format="preference", why=why, model="/models/smollm2", max_length=1024, method="dpo", rows=found)


def dataset(name: str, version: int, rows: int) -> DatasetInfo:
    """A registered dataset."""
    row: dict[str, Any] = {
        "name": name, "version": version, "path": f"/data/{name}.jsonl", "format": "messages", "rows": rows, "bytes": rows * 600,
        "sha256": "", "licence": "", "source": "", "created_at": float(version),
    }  # fmt: skip
    return row  # type: ignore[return-value]


def an_estimate(**changes: Any) -> EstimateAnswer:
    """What a LoRA fine-tune of SmolLM2 takes on a CPU, with a band of 20 %."""
    peak = int(changes.get("memory_bytes", 3 << 30))
    row: dict[str, Any] = {
        "parameters": 134_515_008, "trainable": 4_884_480, "device": "cpu", "device_name": "16 threads", "adaptation": "lora",
        "checkpointing": False, "architecture": "LlamaForCausalLM", "capacity_bytes": 60 << 30, "memory_bytes": peak,
        "memory_low": peak * 4 // 5, "memory_high": peak * 6 // 5,
        "parts": {"weights": 538_060_032, "activations": peak // 3, "loss": 69_206_016, "framework": 470_000_000},
        "seconds": 1100.0, "seconds_low": 570.0, "seconds_high": 2270.0, "steps": 1238, "tokens": 940_500, "energy_joules": None,
        "cost": None, "disk_bytes": 237 << 20, "fits": "yes", "largest_micro_batch": 4096, "largest_max_length": 7040,
        "basis": "corrected by 3 runs like it on this box; tokens: 4,950 rows read, 4 characters a token",
        "formula": {"version": 1, "family": "llama", "work_bytes": peak - 470_000_000, "training_seconds": 1000.0}, **changes,
    }  # fmt: skip
    return row  # type: ignore[return-value]


@dataclass
class FormAnswers:
    """`submitted` are the specs that were queued, `checked` those of dry runs; `refusal` is what the next checks answer.

    `before_answer` is waited for before a launch is answered; `lose_answer` queues the run and then fails like a lost engine.
    """

    submitted: list[tuple[dict[str, Any], str]] = field(default_factory=list, kw_only=True)
    checked: list[dict[str, Any]] = field(default_factory=list, kw_only=True)
    estimated: list[dict[str, Any]] = field(default_factory=list, kw_only=True)
    predicted: EstimateAnswer | None = field(default=None, kw_only=True)
    measured: Measured | None = field(default=None, kw_only=True)
    refusal: LlmopsError | None = field(default=None, kw_only=True)
    before_answer: Event | None = field(default=None, kw_only=True)
    lose_answer: bool = field(default=False, kw_only=True)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict, kw_only=True)

    def _check(self) -> None:
        raise NotImplementedError

    def queue_run(self, run_id: str) -> RunSummary:
        """Let the run wait."""
        raise NotImplementedError

    def spec_form(self, kind: str, /) -> SpecForm:
        self._check()
        return spec_form(kind)

    def models(self) -> list[ModelInfo]:
        self._check()
        return [
            model("fiqa-adapter", 3, format="adapter", created_at=9.0), model("smollm2", 1, aliases=["champion"]),
            model("qwen3-4b", 2, parameters=4_000_000_000), model("found-on-disk", None),
        ]  # fmt: skip

    def preview(self, spec: Mapping[str, Any], /, cwd: str | None = None, rows: int = 3) -> Preview:
        self._check()
        return a_preview(spec["dataset"]["path"], rows)

    def datasets(self) -> list[DatasetInfo]:
        self._check()
        return [dataset("fiqa", 1, 5000), dataset("fiqa", 2, 5500), dataset("boolq", 1, 9427)]

    def estimate(self, spec: Mapping[str, Any], /, cwd: str | None = None) -> EstimateAnswer:
        self._check()
        self.estimated.append(dict(spec))
        batch, length = int(spec.get("micro_batch", 4)), int(spec.get("max_length", 1024))
        return an_estimate(memory_bytes=(1 << 30) + batch * length * (200 << 10), fits="yes" if batch < 64 else "no")

    def submit(self, spec: Mapping[str, Any], /, cwd: str | None = None, dry_run: bool = False) -> Submission:
        self._check()
        checked = parse_spec(spec)
        if self.refusal is not None:
            raise self.refusal
        if getattr(checked, "model", "") == "nowhere":
            raise NotFoundError(
                "model: there is no model 'nowhere'", "see `llmops-tui models list`", [_fault("model", "no model 'nowhere'")]
            )
        values = checked.model_dump(mode="json")
        prepared: dict[str, Any] = {"rows": {"learnt": 4950, "held_out": 64}, "disk_bytes": 12 << 20, "disk_free_bytes": 300 << 30}
        if checked.kind == "command":
            prepared = {"program": f"/usr/bin/{values['argv'][0]}", "cwd": "/home/ada/work", "disk_bytes": 0}
        warnings = ["the licence of the dataset is not known: set it when importing"] if checked.kind == "train" else []
        if dry_run:
            self.checked.append(dict(spec))
            return Submission(id="", summary=None, spec=values, prepared=prepared, warnings=warnings)
        if self.before_answer is not None:
            self.before_answer.wait(30)
        self.submitted.append((dict(spec), cwd or ""))
        run_id = self._queue(checked, values)
        if self.lose_answer:
            self.lose_answer = False
            raise EngineUnavailableError("the engine went away", "start it with `llmops-tui engine start`")
        return Submission(id=run_id, summary=None, spec=values, prepared=prepared, warnings=warnings)

    def _queue(self, spec: RunSpec, values: dict[str, Any]) -> str:
        name = spec.name or spec.default_name()
        run_id = f"{spec.kind}-{name}-{100 + len(self.submitted):04d}"
        self.specs[run_id] = {**values, "name": name}
        row = self.queue_run(run_id)
        row["submitted_at"] = time.time()
        return run_id


def _fault(name: str, message: str) -> dict[str, str]:
    return {"field": name, "message": message}
