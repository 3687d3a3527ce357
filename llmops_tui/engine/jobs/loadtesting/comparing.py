"""Whether an endpoint is slower than it was: a test beside an earlier one of the same load. Pure.

Medians are compared, stage by stage, by the ratio now to then. It is called slower only where the whole interval of the ratio lies
above 1 + tolerance; the intervals are simultaneous over all that is compared (Bonferroni), so that of healthy tests at most 1 in 100 is
called slower, and that only if requests were independent beyond the blocks of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmops_tui.engine.jobs.loadtesting.figures import resampled_quantiles

FALSE_ALARMS = 0.01
_RESAMPLES = 4000
_FEWEST = 20
Samples = Mapping[str, Mapping[str, Sequence[float]]]
_SAME = ("model", "runtime", "runtime_version", "hardware")


def compare(now: Samples, then: Samples, tolerance: float, seed: int) -> dict[str, Any]:
    """By stage and measure (`ttft_ms`, `tpot_ms`, `e2e_ms`): ratio of medians with its interval, and a verdict.

    `verdict`: slower, faster, same (the interval lies within the tolerance) or unclear (more requests are needed).
    """
    pairs = [
        (stage, measure)
        for stage in now
        for measure in now[stage]
        if len(now[stage][measure]) >= _FEWEST and len(then.get(stage, {}).get(measure, ())) >= _FEWEST
    ]
    level = FALSE_ALARMS / max(1, len(pairs))
    rows = [
        {"stage": stage, "measure": measure, **_ratio(now[stage][measure], then[stage][measure], level, tolerance, seed)}
        for stage, measure in pairs
    ]
    verdicts = [row["verdict"] for row in rows]
    verdict = next((word for word in ("slower", "unclear", "faster") if word in verdicts), "same" if rows else "unclear")
    return {
        "verdict": verdict,
        "tolerance": tolerance,
        "interval": f"{100 * (1 - level):.4g} % each, so that at most {FALSE_ALARMS:.0%} of healthy tests are called slower",
        "rows": rows,
    }


def what_differs(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """What else changed between the two tests: model, serving engine and its version, hardware."""
    return [f"{name} {then.get(name) or '-'} → {now.get(name) or '-'}" for name in _SAME if now.get(name) != then.get(name)]


def _ratio(now: Sequence[float], then: Sequence[float], level: float, tolerance: float, seed: int) -> dict[str, Any]:
    new, old = np.asarray(now, dtype=np.float64), np.asarray(then, dtype=np.float64)
    floor = 1e-9
    drawn = [np.maximum(resampled_quantiles(each, (0.5,), seed + n, _RESAMPLES)[0], floor) for n, each in enumerate((new, old))]
    fewer = min(map(len, drawn))
    ratios = drawn[0][:fewer] / drawn[1][:fewer]
    # Two-sided at twice the level: each side errs with `level`.
    low, high = (float(value) for value in np.quantile(ratios, (level, 1 - level)))
    if low > 1 + tolerance:
        verdict = "slower"
    elif high < 1 / (1 + tolerance):
        verdict = "faster"
    elif low >= 1 / (1 + tolerance) and high <= 1 + tolerance:
        verdict = "same"
    else:
        verdict = "unclear"
    return {
        "now": round(float(np.median(new)), 3),
        "then": round(float(np.median(old)), 3),
        "ratio": round(float(np.median(new) / max(float(np.median(old)), floor)), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "verdict": verdict,
    }
