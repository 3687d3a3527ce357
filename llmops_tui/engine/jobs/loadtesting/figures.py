"""What a stage came to: latency, throughput, goodput. Pure.

Definitions as `vllm bench serve` has them: TTFT until the first piece of content; TPOT = (last - first) / (tokens - 1), a mean a request;
ITL every gap between two pieces; E2E until the last byte. All begin when the request was due: under an open loop a request that had to wait
for its turn has waited (no coordinated omission); under a closed loop it is due when its worker is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops_tui.engine.jobs.loadtesting.asking import Outcome
from llmops_tui.specs.endpoint import Slo

QUANTILES = (0.5, 0.9, 0.95, 0.99)
_RESAMPLES = 2000
_FEWEST_RESAMPLES = 200
_MOST_DRAWN = 40_000_000
_AT_ONCE = 2_000_000
_MOST_ERRORS_TOLD = 10


@dataclass(frozen=True)
class Times:
    """Of the requests that were answered whole, in the order in which they were due; milliseconds."""

    ttft: np.ndarray
    tpot: np.ndarray
    e2e: np.ndarray
    itl: np.ndarray

    def by_request(self) -> dict[str, np.ndarray]:
        """What a test is compared by: a number a request."""
        return {"ttft_ms": self.ttft, "tpot_ms": self.tpot, "e2e_ms": self.e2e}


def times_of(outcomes: Sequence[Outcome]) -> Times:
    """Shapes: (requests,) each, `tpot` of those with two tokens and more, `itl` (gaps,)."""
    whole = sorted((outcome for outcome in outcomes if is_whole(outcome)), key=lambda outcome: outcome.due)
    return Times(
        ttft=_ms([outcome.first - outcome.due for outcome in whole if outcome.first]),
        tpot=_ms([tpot for outcome in whole if (tpot := tpot_of(outcome)) is not None]),
        e2e=_ms([outcome.end - outcome.due for outcome in whole]),
        itl=_ms([gap for outcome in whole for gap in outcome.gaps]),
    )


def is_whole(outcome: Outcome) -> bool:
    """Whether it was answered, and to the end."""
    return not outcome.error and not outcome.given_up


def tpot_of(outcome: Outcome) -> float | None:
    """Mean seconds a token after the first; None of an answer of one token."""
    if outcome.completion_tokens < 2 or not outcome.first:
        return None
    return (outcome.last - outcome.first) / (outcome.completion_tokens - 1)


def is_good(outcome: Outcome, slo: Slo) -> bool:
    """Whether it kept to all that is asked (DistServe, arXiv:2401.09670: goodput counts those)."""
    if not is_whole(outcome):
        return False
    tpot = tpot_of(outcome)
    return (
        (not slo.ttft_ms or (outcome.first > 0 and (outcome.first - outcome.due) * 1000 <= slo.ttft_ms))
        and (not slo.itl_ms or tpot is None or tpot * 1000 <= slo.itl_ms)
        and (not slo.total_ms or (outcome.end - outcome.due) * 1000 <= slo.total_ms)
    )


def asks_something(slo: Slo) -> bool:
    """Whether there is an SLO at all."""
    return bool(slo.ttft_ms or slo.itl_ms or slo.total_ms)


def stage_report(outcomes: Sequence[Outcome], began: float, ended: float, slo: Slo, seed: int) -> dict[str, Any]:
    """One stage in numbers. `began` and `ended` are of the monotonic clock; rates are over the time between them."""
    whole = [outcome for outcome in outcomes if is_whole(outcome)]
    failed = [outcome for outcome in outcomes if outcome.error]
    seconds = max(ended - began, 1e-9)
    times = times_of(outcomes)
    prompt_tokens = sum(outcome.prompt_tokens for outcome in whole)
    completion_tokens = sum(outcome.completion_tokens for outcome in whole)
    good = sum(is_good(outcome, slo) for outcome in outcomes)
    return {
        "seconds": round(seconds, 3),
        "requests": len(outcomes),
        "completed": len(whole),
        "failed": len(failed),
        "given_up": sum(outcome.given_up for outcome in outcomes),
        "errors": dict(Counter(outcome.error for outcome in failed).most_common(_MOST_ERRORS_TOLD)),
        "requests_per_second": round(len(whole) / seconds, 4),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "output_tokens_per_second": round(completion_tokens / seconds, 3),
        "total_tokens_per_second": round((prompt_tokens + completion_tokens) / seconds, 3),
        "counted_by": "pieces" if any(outcome.counted_by == "pieces" for outcome in whole) else "usage",
        "concurrency": round(sum(outcome.end - outcome.due for outcome in outcomes) / seconds, 3),
        "goodput_requests_per_second": round(good / seconds, 4) if asks_something(slo) else None,
        "good_fraction": round(good / len(outcomes), 4) if outcomes and asks_something(slo) else None,
        "ttft_ms": distribution(times.ttft, seed),
        "tpot_ms": distribution(times.tpot, seed),
        "itl_ms": distribution(times.itl, None),
        "e2e_ms": distribution(times.e2e, seed),
    }


def distribution(values: np.ndarray, seed: int | None) -> dict[str, Any] | None:
    """Mean, extremes and quantiles; with a seed the 95 % intervals of median and p95. None of nothing."""
    if not len(values):
        return None
    found: dict[str, Any] = {
        "mean": round(float(values.mean()), 3),
        "min": round(float(values.min()), 3),
        "max": round(float(values.max()), 3),
    }
    for quantile, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True):
        found[f"p{quantile * 100:g}"] = round(float(value), 3)
    if seed is not None and len(values) > 1:
        for name, drawn in zip(("p50", "p95"), resampled_quantiles(values, (0.5, 0.95), seed), strict=True):
            low, high = np.quantile(drawn, (0.025, 0.975))
            found[f"{name}_low"], found[f"{name}_high"] = round(float(low), 3), round(float(high), 3)
    return found


def resampled_quantiles(values: np.ndarray, quantiles: Sequence[float], seed: int, resamples: int = _RESAMPLES) -> np.ndarray:
    """Shape (quantiles, resamples): a moving-block bootstrap, since requests that follow each other share their luck.

    Künsch 1989 (Annals of Statistics 17): blocks of about n^(1/3) neighbours are drawn, wherever they begin. Of very many values fewer
    resamples are drawn (200 at least), some at a time.
    """
    count = len(values)
    block = max(1, round(count ** (1 / 3)))
    resamples = max(_FEWEST_RESAMPLES, min(resamples, _MOST_DRAWN // count))
    at_once = max(1, _AT_ONCE // count)
    draws = np.random.default_rng(seed)
    found = []
    for begin in range(0, resamples, at_once):
        rows = min(at_once, resamples - begin)
        begins = draws.integers(0, count - block + 1, size=(rows, -(-count // block)))
        places = (begins[:, :, None] + np.arange(block)).reshape(rows, -1)[:, :count]
        found.append(np.quantile(values[places], quantiles, axis=1))
    return np.concatenate(found, axis=1)


def _ms(seconds: list[float]) -> np.ndarray:
    return np.asarray(seconds, dtype=np.float64) * 1000.0
