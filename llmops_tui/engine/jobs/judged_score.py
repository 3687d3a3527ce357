"""How well a model tells good answers from bad ones on held-out rows, each figure with a 95 % interval over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops_tui.engine.jobs.scoring import Interval, bootstrap_ratios

_RESAMPLES = 2000
_SEED = 20260101


@dataclass(frozen=True)
class JudgedScore:
    """Means over rows. `margin`: the good answer's reward less the bad one's; `accuracy`: how often it is positive, a tie half."""

    loss: float
    loss_interval: Interval
    accuracy: float
    accuracy_interval: Interval
    margin: float
    margin_interval: Interval
    rows: int

    def metrics(self) -> dict[str, float]:
        """For the chart."""
        return {"eval/loss": self.loss, "eval/reward_accuracy": self.accuracy, "eval/reward_margin": self.margin}

    def to_json(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "loss": self.loss,
            "loss_interval": self.loss_interval,
            "reward_accuracy": self.accuracy,
            "reward_accuracy_interval": self.accuracy_interval,
            "reward_margin": self.margin,
            "reward_margin_interval": self.margin_interval,
            "rows": self.rows,
        }

    def describe(self) -> str:
        """One line for the log."""
        low, high = self.accuracy_interval
        return (
            f"held-out loss {self.loss:.4f}, reward accuracy {self.accuracy:.3f} ({low:.3f} to {high:.3f}), "
            f"reward margin {self.margin:.4f}, {self.rows} rows"
        )


def score_of_pairs(losses: Sequence[float], margins: Sequence[float]) -> JudgedScore:
    """One loss and one margin a pair; percentile bootstrap over pairs."""
    loss, margin = np.asarray(losses, dtype=float), np.asarray(margins, dtype=float)
    right = (margin > 0) + 0.5 * (margin == 0)
    ones = np.ones(len(margin))
    loss_interval, accuracy_interval, margin_interval = bootstrap_ratios([loss, right, margin], ones)
    return JudgedScore(
        float(loss.mean()), loss_interval, float(right.mean()), accuracy_interval, float(margin.mean()), margin_interval, len(margin)
    )


def score_of_answers(loss: float, rewards: Sequence[float], good: Sequence[bool]) -> JudgedScore | None:
    """Answers judged alone: accuracy is the chance that a good one has the higher reward (the area under the ROC curve).

    None where all are good or all bad: there is nothing to tell apart. The loss, a mean over passes, has no interval.
    """
    reward, label = np.asarray(rewards, dtype=float), np.asarray(good, dtype=bool)
    if label.all() or not label.any():
        return None
    generator = np.random.default_rng(_SEED)
    high, low = reward[label], reward[~label]
    accuracies, margins = np.empty(_RESAMPLES), np.empty(_RESAMPLES)
    for resample in range(_RESAMPLES):
        one, other = generator.choice(high, len(high)), generator.choice(low, len(low))
        accuracies[resample], margins[resample] = area_under_curve(one, other), one.mean() - other.mean()
    return JudgedScore(
        loss, (loss, loss), area_under_curve(high, low), _middle(accuracies), float(high.mean() - low.mean()), _middle(margins), len(reward)
    )


def area_under_curve(high: np.ndarray, low: np.ndarray) -> float:
    """How often one of `high` is above one of `low`, ties half (Mann & Whitney 1947)."""
    ordered = np.sort(low)
    below, up_to = np.searchsorted(ordered, high, "left"), np.searchsorted(ordered, high, "right")
    return float((below + up_to).sum() / (2 * len(high) * len(low)))


def _middle(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
