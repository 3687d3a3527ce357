"""The wish to search for the best settings of a training run: many trials under one parent, poor ones ended early."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from llmops_tui.specs.common import BASIC, MOST_TOKENS, Resources, RunSpec, StrictModel
from llmops_tui.specs.metric_sense import least_wins
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.wording import named_faults

Setting = bool | int | float | str | None

_MOST_TRIALS = 10_000
_MOST_POINTS = 100_000
USUAL_TRIALS = 20
# What belongs to the sweep itself, or would make every trial wait for another run.
_NOT_TO_BE_VARIED = ("kind", "name", "tags", "notes", "after_ok", "after_any", "env", "dataset.fold", "dataset.folds")
_KEY = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")


class SpaceChoice(StrictModel):
    """The values one setting may take: `choices`, or `low` to `high`. A plain list means choices."""

    choices: list[Setting] = Field(default_factory=list, max_length=1000, description="These values, and no others")
    low: int | float | None = Field(None, description="Least value; whole numbers on both ends give whole numbers")
    high: int | float | None = Field(None, description="Greatest value")
    log: bool = Field(False, description="Even on a logarithmic scale, as rates are")
    step: int | float | None = Field(None, gt=0, description="Distance of the values from low to high")
    points: int | None = Field(None, ge=2, le=1000, description="Values of a range in a grid, evenly spread")

    @model_validator(mode="after")
    def _one_or_the_other(self) -> SpaceChoice:
        if self.choices:
            if self.low is not None or self.high is not None or self.log or self.step is not None or self.points is not None:
                raise ValueError("give choices, or low and high, not both")
            if len({(type(value), value) for value in self.choices}) < len(self.choices):
                raise ValueError("names a choice twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give choices, or low and high")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        if self.log and self.step is not None:
            raise ValueError("give log or step, not both")
        return self

    @property
    def whole(self) -> bool:
        """Whether a range gives whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int) and (self.step is None or isinstance(self.step, int))

    def corners(self) -> list[Setting]:
        """Values that together show whether the setting takes what this gives: every choice, or both ends."""
        return list(self.choices) if self.choices else [self.low, self.high]


class SweepBudget(StrictModel):
    """When no further trial begins; those that run come to their end."""

    trials: int | None = Field(
        None, ge=1, le=_MOST_TRIALS, description=f"Trials at most; unset: {USUAL_TRIALS}, or the whole grid", json_schema_extra=BASIC
    )
    hours: float | None = Field(None, gt=0, le=8784, description="Wall-clock hours since the sweep began")
    energy_kwh: float | None = Field(None, gt=0, le=1e6, description="Energy the trials' GPUs drew, in kWh")


class AshaChoice(StrictModel):
    """Asynchronous successive halving (Li et al. 2018, arXiv:1810.05934): at each rung only the best 1/eta go on."""

    eta: int = Field(3, ge=2, le=10, description="Only the best 1/eta of a rung go on, and each rung is eta times the tokens of the last")
    first_tokens: int | None = Field(
        None, ge=1, le=MOST_TOKENS * 10**6, description="Tokens seen at the first rung; unset: where the first trial reports first"
    )


class SweepSpec(RunSpec):
    """`sweep`: trials of one train spec with other settings each; needs no process, and takes up where it was after a restart."""

    kind: Literal["sweep"] = "sweep"
    base: TrainSpec = Field(description="The train spec that every trial begins from")
    space: dict[str, SpaceChoice] = Field(
        min_length=1,
        max_length=50,
        description="What is varied: dotted keys of base; choices, or low and high (log, step, points)",
    )
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe",
        description="tpe learns from the trials so far (Optuna), random does not, grid takes all",
        json_schema_extra=BASIC,
    )
    pruner: Literal["asha", "none"] = Field(
        "asha", description="asha ends trials early that fall behind others at the same tokens", json_schema_extra=BASIC
    )
    asha: AshaChoice = Field(default_factory=AshaChoice)
    budget: SweepBudget = Field(default_factory=SweepBudget)
    metric: str = Field(
        "eval/loss", min_length=1, max_length=200, description="What a trial is judged by: its newest value", json_schema_extra=BASIC
    )
    direction: Literal["auto", "minimize", "maximize"] = Field("auto", description="auto goes by the metric's name")
    parallel: int | Literal["auto"] = Field("auto", description="Trials at a time; auto: as many as there is room for")
    max_failures: int = Field(3, ge=1, le=_MOST_TRIALS, description="The sweep ends when so many trials in a row have failed")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the sampler and of the grid's order")

    @field_validator("space", mode="before")
    @classmethod
    def _a_list_means_choices(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {key: {"choices": list(item)} if isinstance(item, list | tuple) else item for key, item in value.items()}

    @field_validator("parallel")
    @classmethod
    def _a_possible_number(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 1000:
            raise ValueError("must be 1 to 1000, or auto")
        return value

    @model_validator(mode="after")
    def _every_trial_is_a_spec(self) -> SweepSpec:
        refuse_own_resources(self)
        if self.direction == "auto" and least_wins(self.metric) is None:
            raise ValueError(f"direction: whether less of {self.metric!r} is better cannot be told by its name: set minimize or maximize")
        if (
            self.pruner == "asha"
            and self.metric.startswith("eval/")
            and not self.base.evaluate_every
            and "evaluate_every" not in self.space
        ):
            raise ValueError(f"pruner: asha needs {self.metric} while a trial trains: set base.evaluate_every, or pruner=none")
        values = self.base.model_dump(mode="json")
        for key, choice in self.space.items():
            if not _KEY.fullmatch(key) or key in _NOT_TO_BE_VARIED:
                raise ValueError(f"space.{key}: cannot be varied")
            for corner in choice.corners():
                problem = fault_of(with_settings(values, {key: corner}), key)
                if problem:
                    raise ValueError(f"space.{key}: {corner!r}: {problem}")
        if self.sampler == "grid":
            for key, choice in self.space.items():
                if not choice.choices and choice.points is None and choice.step is None and not (choice.whole and not choice.log):
                    raise ValueError(f"space.{key}: a grid needs choices, step or points")
            if size_of_grid(self.space) > _MOST_POINTS:
                raise ValueError(f"space: a grid of {size_of_grid(self.space):,} points; at most {_MOST_POINTS:,}")
        return self

    @property
    def least_wins(self) -> bool:
        """Whether a smaller value of the metric is the better one."""
        return bool(least_wins(self.metric)) if self.direction == "auto" else self.direction == "minimize"

    def default_name(self) -> str:
        return self.base.name or self.base.default_name()


def refuse_own_resources(spec: RunSpec) -> None:
    """A parent has no process: what a process needs is its trials'. Raises ValueError."""
    for name, usual in (("resources", Resources()), ("retries", 0), ("env", {}), ("allow_network", False)):
        if getattr(spec, name) != usual:
            raise ValueError(f"{name}: set base.{name}: it is the trials that run")


def with_settings(values: Mapping[str, Any], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """A copy of a spec's values with some dotted keys set; a section that is not there is made."""
    changed = copy.deepcopy(dict(values))
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = changed
        for section in sections:
            inner = place.get(section)
            if not isinstance(inner, dict):
                inner = place[section] = {}
            place = inner
        place[last] = value
    return changed


def fault_of(values: Mapping[str, Any], key: str = "") -> str:
    """Why these values are no train spec, in a line; empty when they are. What is wrong with `key` is told without its name."""
    try:
        TrainSpec.model_validate(values)
    except ValidationError as error:
        field, message = next(iter(named_faults(error).items()))
        return message if field in ("", key) else f"{field}: {message}"
    return ""


def size_of_grid(space: Mapping[str, SpaceChoice]) -> int:
    """How many combinations a grid has."""
    size = 1
    for choice in space.values():
        size *= _count(choice)
    return size


def _count(choice: SpaceChoice) -> int:
    if choice.choices:
        return len(choice.choices)
    low, high = choice.low or 0, choice.high or 0
    if choice.points is not None:
        return min(choice.points, int(high) - int(low) + 1) if choice.whole else choice.points
    return int((high - low) / (choice.step or 1) + 1e-9) + 1
