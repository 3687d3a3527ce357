"""Which of two values of a metric is the better one, by its name. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Sequence

_RISES = ("accuracy", "tokens_per_second", "samples_per_second", "mfu", "f1", "bleu", "exact_match", "reward", "score")


def least_wins(metric: str) -> bool | None:
    """Whether smaller is better, by the metric's name; None where neither is."""
    name = metric.rsplit("/", 1)[-1]
    if any(word in name for word in _RISES):
        return False
    if any(word in name for word in ("loss", "perplexity", "error", "seconds", "wait_fraction")):
        return True
    return None


def best_of(metric: str, values: Sequence[float | None]) -> int | None:
    """Which of the values is the best one; None where nothing can be said or all are the same."""
    lower = least_wins(metric)
    known = [value for value in values if value is not None and value == value]
    if lower is None or len(known) < 2 or min(known) == max(known):
        return None
    return list(values).index(min(known) if lower else max(known))
