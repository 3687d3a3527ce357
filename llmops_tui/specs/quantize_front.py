"""Of several quantized forms those that no other beats in everything at once (the Pareto front), and the card of each. Pure.

What counts: perplexity, tokens a second, time to the first token, memory and size. A figure that was not taken does not decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Key of the card, whether more is better.
MEASURES: tuple[tuple[str, bool], ...] = (
    ("perplexity", False), ("tokens_per_second", True), ("ttft_seconds", False), ("memory_bytes", False), ("bytes", False),
)  # fmt: skip
# Two figures closer than this are no difference: perplexity repeats to the last digit, speed and memory do not.
_SAME: Mapping[str, float] = {"tokens_per_second": 0.03, "ttft_seconds": 0.05, "memory_bytes": 0.01}


def front(cards: Sequence[Mapping[str, Any]]) -> list[bool]:
    """For each card whether it is on the front: no other is at least as good in everything and better in something."""
    return [not any(_beats(other, card) for other in cards if other is not card) for card in cards]


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    better = False
    for key, more in MEASURES:
        own, theirs = one.get(key), other.get(key)
        if own is None or theirs is None:
            continue
        share = (own - theirs) / abs(theirs) if theirs else 0.0
        share = share if more else -share
        if not share >= -_SAME.get(key, 0.0):  # also where one is NaN
            return False
        better = better or share > _SAME.get(key, 0.0)
    return better


def described_change(card: Mapping[str, Any]) -> str:
    """The change of perplexity in words: `+1.2 %`; `-` where none was taken."""
    before, after = card.get("perplexity_source"), card.get("perplexity")
    return f"{(after / before - 1) * 100:+.2f} %" if before and after is not None else "-"
