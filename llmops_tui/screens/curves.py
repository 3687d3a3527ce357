"""Which curves belong together, and how a run's are fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llmops_tui.screens.calls import call
from llmops_tui.screens.widgets.curve import Curve

if TYPE_CHECKING:
    from llmops_tui.screens.client_protocol import EngineClient

_LOSSES = ("train/loss", "eval/loss")
_FAMILIES = ("train", "eval", "perf")


def _counting(name: str) -> list[tuple[str, int]]:
    """So that layer 10 comes after layer 9."""
    return [(words, int(number or -1)) for words, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


def curve_groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """What one after the other fills the chart: the losses together, then every other metric; families in reading order."""
    known = set(names)
    losses = tuple(name for name in _LOSSES if name in known)
    order = {family: place for place, family in enumerate(_FAMILIES)}
    others = sorted(known - set(losses), key=lambda name: (order.get(name.split("/")[0], len(order)), _counting(name)))
    return ([losses] if losses else []) + [(name,) for name in others]


async def fetch_curves(client: EngineClient, run_id: str, metrics: Sequence[str], points: int, until: float | None = None) -> list[Curve]:
    """The curves in the order asked for, with `until` (Unix seconds) as they were then. Raises what the client raises."""
    answers = {series["metric"]: series for series in await call(client.series, run_id, list(metrics), points=points, until=until)}
    return [Curve.from_buckets(name, answers[name]["buckets"] if name in answers else []) for name in metrics]
