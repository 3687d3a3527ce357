"""The shape of `GET /v1/sweeps/{id}`: a sweep's or a cross-validation's trials and what they say together."""

from __future__ import annotations

# pydantic, which describes these in the API, refuses typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict

from llmops_tui.specs.answers import Scalar


class SweepTrial(TypedDict):
    """One trial or fold. `state`: waiting, running, complete, pruned, failed, cancelled; `run` is empty for one that was never queued.

    `reports` are `[tokens, value]`, NaN and infinities as None; `value` is the newest one.
    """

    number: int
    run: str
    state: str
    reason: str
    params: dict[str, Scalar]
    value: float | None
    tokens: int
    reports: list[list[float | None]]
    started_at: float | None
    ended_at: float | None


class SweepRange(TypedDict):
    """The values of one setting: `choices`, or from `low` to `high`."""

    choices: list[Scalar]
    low: float | None
    high: float | None
    log: bool


class SweepBudgetUse(TypedDict):
    """What is allowed (None: no limit) and what is used. `tokens`: learnt from by all trials together."""

    trials: int
    trials_used: int
    hours: float | None
    hours_used: float
    energy_kwh: float | None
    energy_kwh_used: float | None
    tokens: int
    eta_seconds: float | None


class FoldRows(TypedDict):
    """How many rows a fold learnt from, and how many it scored."""

    fold: int
    learnt: int
    held_out: int


class FoldAnswer(TypedDict):
    """The folds' mean with its corrected 95 % interval (Nadeau and Bengio 2003); None until two have a score."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    rows: list[FoldRows]


class SweepAnswer(TypedDict):
    """`trials` are best first. `best_so_far`: `[trials ended, best value]`. `importances` add up to 1, greatest first."""

    id: str
    kind: str
    name: str
    state: str
    reason: str
    metric: str
    least_wins: bool
    sampler: str
    pruner: str
    space: dict[str, SweepRange]
    trials: list[SweepTrial]
    best_so_far: list[list[float]]
    importances: dict[str, float]
    folds: FoldAnswer | None
    budget: SweepBudgetUse
