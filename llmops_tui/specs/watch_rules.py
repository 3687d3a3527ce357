"""The watchers' rules in words: what each sees, and how often it is wrong. Standard library only: pages, help and alarms tell it.

The false-alarm rates are measured: `python benchmarks/watchers.py` simulates healthy runs and prints what was counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RuleName = Literal[
    "not_finite", "first_loss", "spike", "divergence", "gradient", "plateau", "overfit", "data_stall", "hang", "frozen",
]  # fmt: skip
Action = Literal["off", "note", "alarm", "pause", "stop", "rollback"]


@dataclass(frozen=True)
class RuleWords:
    """`title` is a few words, `sees` one sentence, `wrong` the false-alarm rate with its conditions."""

    title: str
    sees: str
    wrong: str
    # The rate as a number, at most: healthy runs of 2,000 steps with a false alarm; and where the noise has heavy tails.
    most_false: float
    heavy_tails: float | None = None


_ONE_IN_1000 = "at most 1 healthy run of 2,000 steps in 1,000"
RULES: dict[RuleName, RuleWords] = {
    "not_finite": RuleWords(
        "NaN or infinity", "a loss or a gradient norm that is NaN or infinite", "never wrong: such a value is the fault", 0.0
    ),
    "first_loss": RuleWords(
        "wrong initial loss",
        "a first training loss worse than guessing among all tokens, or absurdly low",
        "none in 1,000 healthy runs; rows the model knows by heart already are taken for given-away labels",
        0.001,
    ),
    "spike": RuleWords(
        "loss spike",
        "a single training loss far above those before it; its rows are named",
        _ONE_IN_1000 + "; 1 in 10 where the noise has heavy tails (lognormal, Student's t)",
        0.001,
        0.1,
    ),
    "divergence": RuleWords("divergence", "a training loss that rises and stays up (CUSUM over a robust reference)", _ONE_IN_1000, 0.001),
    "gradient": RuleWords("exploding gradient", "3 of the last 5 gradient norms many times the usual one", _ONE_IN_1000, 0.001),
    "plateau": RuleWords(
        "plateau",
        "a training loss that surely fell by less than a share between two stretches of steps",
        "at most 1 run of 2,000 steps in 100 that still improves by the share asked for; a run that has converged is a plateau",
        0.01,
    ),
    "overfit": RuleWords(
        "overfit", "a held-out loss that rises while the training loss falls", "at most 1 healthy run of 40 evaluations in 1,000", 0.001
    ),
    "data_stall": RuleWords(
        "data stall",
        "steps that spend their time waiting for rows",
        "none in 1,000 runs that wait for less than the share on average",
        0.001,
    ),
    "hang": RuleWords(
        "hang",
        "neither an event nor a line of output for long, told before the silence limit ends the run",
        "as rare as a healthy silence that long: never where the job beats every few seconds, as ours do",
        0.001,
    ),
    "frozen": RuleWords("frozen", "gradients of norm 0, or an adapter that does not move", "never wrong: nothing is learnt", 0.0),
}
# The engine's events that tell an alarm.
EVENT_TYPES: tuple[str, ...] = tuple(f"alarm.{rule}" for rule in RULES)
