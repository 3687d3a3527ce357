"""How an endpoint's requests are split over its versions, and another split that somebody is about to make. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmops_tui.errors import UsageError

if TYPE_CHECKING:
    from llmops_tui.specs.answers_serving import EndpointSummary

STEP = 5.0
Split = dict[str, float]
"""Percent by version; together 100."""


def split_of(endpoint: EndpointSummary) -> Split:
    """As it is wished now: of every version, those without requests too. While a change waits for servers, the split to come."""
    pending = endpoint["pending"]
    weights = {version["name"]: version["weight"] for version in endpoint["versions"]}
    if pending is not None:
        weights = {name: pending["weights"].get(name, 0.0) for name in weights}
    return in_percent(weights)


def in_percent(weights: Mapping[str, float]) -> Split:
    """Weights as shares of a hundred; nothing for anybody where they add up to nothing."""
    total = sum(weights.values())
    return {name: 100.0 * weight / total if total else 0.0 for name, weight in weights.items()}


def moved(split: Mapping[str, float], version: str, by: int, heirs: Sequence[str] = ()) -> Split:
    """The next multiple of five for a version, up or down. What it gains or gives goes from or to the version with the most.

    `heirs`: who takes it where no other version has any. The same split where nobody could take or give.
    """
    here = split[version]
    wanted = (math.floor(here / STEP + 1e-9) + 1) * STEP if by > 0 else (math.ceil(here / STEP - 1e-9) - 1) * STEP
    wanted = min(100.0, max(0.0, wanted))
    others = {name: share for name, share in split.items() if name != version}
    change = wanted - here
    if not others or not change:
        return dict(split)
    if change < 0:
        with_most = max(others, key=lambda name: others[name])
        heir = with_most if others[with_most] > 0 else next((name for name in heirs if name in others), with_most)
        return {**split, version: wanted, heir: others[heir] - change}
    result = {**split, version: wanted}
    while change > 1e-9:
        giver = max(others, key=lambda name: others[name])
        given = min(change, others[giver])
        if given <= 0:
            break
        others[giver] = result[giver] = others[giver] - given
        change -= given
    return result


def all_to(split: Mapping[str, float], version: str) -> Split:
    """Every request to one version."""
    return {name: 100.0 if name == version else 0.0 for name in split}


def read_weights(text: str, versions: Sequence[str]) -> dict[str, float]:
    """`v3=95 v4=5` as weights; versions not named get nothing. Raises UsageError naming what is wrong."""
    weights: dict[str, float] = {}
    for word in text.replace(",", " ").split():
        name, equals, number = word.partition("=")
        if not equals or not name:
            raise UsageError(f"{word!r} is no weight", "write version=weight, for example v3=95 v4=5")
        if name not in versions:
            raise UsageError(f"there is no version {name!r}", f"there is {', '.join(versions)}")
        if name in weights:
            raise UsageError(f"{name} is named twice", "name each version once")
        try:
            weight = float(number.removesuffix("%"))
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight) or weight < 0 or weight > 1e6:
            raise UsageError(f"{word!r}: a weight is a number from 0 to 1000000", "for example v3=95 v4=5")
        weights[name] = weight
    if not sum(weights.values()):
        raise UsageError("the weights add up to 0, so nobody would answer", "x stops the endpoint")
    return weights


def weights_text(weights: Mapping[str, float]) -> str:
    """As it is typed."""
    return " ".join(f"{name}={weight:.6g}" for name, weight in weights.items() if weight > 0)


def split_words(weights: Mapping[str, float]) -> str:
    """For a sentence: `v3 95 %, v4 5 %`."""
    return ", ".join(f"{name} {share_text(share)}" for name, share in in_percent(weights).items() if share > 0) or "nobody"


def share_text(percent: float) -> str:
    """A share of a hundred: whole where it is, else with what tells it from 0 and from 100."""
    if percent in (0.0, 100.0) or abs(percent - round(percent)) < 0.005:
        return f"{percent:.0f} %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.1f} %"
