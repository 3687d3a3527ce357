"""What a rule is: fed one point after another, it says when it fires. And the names of metrics that mean the same to all rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

Family = Literal["loss", "eval_loss", "grad_norm", "learning_rate", "data_wait", "adapter_norm"]

# Our jobs' names first; the others are what programs of the users' call them (transformers, Lightning, axolotl, torchtune).
_NAMES: dict[Family, tuple[str, ...]] = {
    "loss": ("train/loss", "loss", "train_loss", "train/train_loss"),
    "eval_loss": ("eval/loss", "eval_loss", "val/loss", "val_loss", "valid/loss", "validation/loss", "validation_loss"),
    "grad_norm": ("train/grad_norm", "grad_norm", "train/grad_norm_total"),
    "learning_rate": ("train/learning_rate", "learning_rate", "lr", "train/lr"),
    "data_wait": ("perf/data_wait_fraction",),
    "adapter_norm": ("train/adapter_norm",),
}
FAMILIES: dict[str, Family] = {name: family for family, names in _NAMES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule's word: at `step`, at `t` (Unix seconds), `value` was beyond `threshold`. `words` say it to a person in one line.

    `since` is the step at which the fault began, where that is known and earlier.
    """

    step: int
    t: float
    value: float
    threshold: float | None
    words: str
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How a rule stands now: what it watches, the last value it judged, the threshold then, and whether it is up.

    `state` is `learning` (too few points to know what is usual), `quiet` or `raised`.
    """

    state: Literal["learning", "quiet", "raised"]
    value: float | None
    threshold: float | None


class Rule(Protocol):
    """One watcher. A rule that has fired keeps silent until what it saw is over."""

    families: ClassVar[tuple[Family, ...]]

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """One point of one of its families, in the order of the run's file; NaN and infinities come only to `not_finite`."""

    def look(self) -> Look:
        """How it stands now."""


def number(value: float) -> str:
    """A value in words: four digits at most."""
    return f"{value:.4g}"
