"""What k folds say together: the mean, and an interval that does not pretend the folds were independent. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class FoldScores(NamedTuple):
    """`low` and `high`: the 95 % interval of the mean; None with fewer than two folds."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None


def together(scores: Sequence[float], held_out_share: float) -> FoldScores | None:
    """Mean and interval of the folds' scores; None without any.

    `held_out_share` is rows held out a row learnt from, n2 / n1. The variance of the mean is (1/k + n2/n1) · s², not s²/k: the
    folds learn from nearly the same rows, so their scores move together, and the usual interval is far too narrow (Nadeau and
    Bengio 2003, "Inference for the Generalization Error", Machine Learning 52:239–281, section 4; Student's t with k - 1 degrees).
    """
    count = len(scores)
    if not count:
        return None
    mean = math.fsum(scores) / count
    if count < 2:
        return FoldScores(mean, None, None, None)
    variance = math.fsum((score - mean) ** 2 for score in scores) / (count - 1)
    half = t_quantile(0.975, count - 1) * math.sqrt((1 / count + held_out_share) * variance)
    return FoldScores(mean, math.sqrt(variance), mean - half, mean + half)


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t above 0.5, by bisection of its distribution. Degrees of freedom are whole numbers from 1."""
    low, high = 0.0, 1.0
    while t_distribution(high, degrees) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_distribution(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def t_distribution(t: float, degrees: int) -> float:
    """P(T <= t) in closed form for whole degrees (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    if degrees % 2:
        term, total = cosine, cosine if degrees > 1 else 0.0
        for place in range(3, degrees - 1, 2):
            term *= cosine * cosine * (place - 1) / place
            total += term
        inside = 2 / math.pi * (angle + sine * total)
    else:
        term = total = 1.0
        for place in range(2, degrees - 1, 2):
            term *= cosine * cosine * (place - 1) / place
            total += term
        inside = sine * total
    return (1 + inside) / 2
