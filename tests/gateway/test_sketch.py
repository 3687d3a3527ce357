"""The sketches behind the live latency are right to one percent, also of a few requests and of many slots put together."""

from __future__ import annotations

import numpy as np
import pytest

from llmops_tui.engine.serving.gateway.sketch import Sketch

RANKS = (0.5, 0.95, 0.99)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 5000])
@pytest.mark.parametrize("slots", [1, 7])
def test_quantiles_of_merged_sketches_are_right_to_one_percent(count: int, slots: int) -> None:
    values = np.random.default_rng(count).lognormal(-1, 1.5, count)
    merged = Sketch()
    for part in np.array_split(values, slots):
        sketch = Sketch()
        for value in part:
            sketch.add(float(value))
        merged.merge(sketch)
    assert merged.count == count
    assert merged.quantiles(RANKS) == pytest.approx(np.quantile(values, RANKS, method="nearest").tolist(), rel=0.0101)


def test_the_slowest_of_three_is_their_99th_percentile() -> None:
    sketch = Sketch()
    for value in (0.1, 0.2, 5.0):
        sketch.add(value)
    assert sketch.quantiles(RANKS) == pytest.approx([0.2, 5.0, 5.0], rel=0.01)


def test_nothing_and_what_is_below_the_least() -> None:
    sketch = Sketch()
    assert sketch.quantiles(RANKS) == [0.0, 0.0, 0.0]
    sketch.add(0.0, 3)
    assert 0 < sketch.quantiles(RANKS)[0] < 1e-5
