"""What a method of training is: its rows, its trainer, its held-out score. train.py does the rest for every method alike.

A method is one module of this package, named as in the spec, which gives its class as `METHOD`. Its parts are asked for in
this order: `load` (a model of another kind than a causal LM, or a second one), `encode`, `build`, then `score` as often as wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypedDict

from transformers import AutoModelForCausalLM

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.adaptation import load
from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.engine.jobs.run_trainer import Books, RunTrainer
from llmops_tui.engine.jobs.samples import Prompt
from llmops_tui.specs.train import TrainSpec

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedTokenizerBase, TrainerCallback

FactValue = str | int | float | None


@dataclass(frozen=True)
class Work:
    """One run's work, as every method is given it. `prepared` is what preflight found (engine/preflight.py)."""

    spec: TrainSpec
    prepared: Mapping[str, Any]
    run: RunDir
    reporter: Reporter
    plan: Plan
    model_path: Path
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rows:
    """What train.py wants to know of a method's rows. `facts` go into the summary; no prompts: nothing is sampled."""

    prompts: list[Prompt] = field(default_factory=list)
    facts: dict[str, FactValue] = field(default_factory=dict)


class CommonArguments(TypedDict):
    """Arguments that every trainer takes, to be handed on as they are."""

    model: Any
    processing_class: PreTrainedTokenizerBase
    peft_config: PeftConfig | None
    callbacks: list[TrainerCallback]


class HeldOutScore(Protocol):
    """How well the model does on the held-out rows."""

    @property
    def loss(self) -> float: ...
    def metrics(self) -> dict[str, float]:
        """For the chart: `eval/…` names."""

    def to_json(self) -> dict[str, Any]:
        """For the summary; `loss`, and `perplexity` and `token_accuracy` where there are such."""

    def describe(self) -> str:
        """One line for the log."""


class Method(ABC):
    """One way to train, on one run's rows."""

    # What PEFT calls the model's task.
    task_type: ClassVar[str] = "CAUSAL_LM"

    def __init__(self, work: Work) -> None:
        self.work = work

    def load(self) -> Any:
        """The model to be trained, on its device, without the adapter it may get."""
        return load(AutoModelForCausalLM, self.work.spec, self.work.plan, self.work.model_path)

    @abstractmethod
    def encode(self) -> Rows:
        """Read the rows, make them what the trainer learns from, and tell of them; kept for `build` and `score`.

        Raises UsageError or RowError for what cannot be used, before anything is trained.
        """

    @abstractmethod
    def build(self, books: Books, common: CommonArguments) -> RunTrainer:
        """The trainer. Its settings begin with `common_arguments` (methods/arguments.py)."""

    @abstractmethod
    def score(self, trainer: RunTrainer, phase: str) -> HeldOutScore | None:
        """Score the held-out rows as the model is now, in a phase of that name; None where there are none.

        Beats while it works (`Reporter.beat`), so that it may raise StoppedError.
        """


def method_named(name: str) -> type[Method]:
    """The method of a spec."""
    method: type[Method] = import_module(f"llmops_tui.engine.jobs.methods.{name}").METHOD
    return method
