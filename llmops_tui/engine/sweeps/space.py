"""The points of a space, in an order that a seed gives. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from hashlib import blake2b

import numpy as np

from llmops_tui.specs.sweep import Setting, SpaceChoice, size_of_grid

# More points than this are never laid out: whoever has so many never tries the same twice by chance.
_MOST_LISTED = 20_000


def values_of(choice: SpaceChoice) -> list[Setting]:
    """Every value a setting takes in a grid: choices, each step of a range, or `points` evenly spread (on a log scale where asked)."""
    if choice.choices:
        return list(choice.choices)
    assert choice.low is not None
    assert choice.high is not None
    if choice.points is None:
        step = choice.step or 1
        count = int((choice.high - choice.low) / step + 1e-9) + 1
        return [choice.low + place * step for place in range(count)]
    spread = np.geomspace if choice.log else np.linspace
    floats = [float(value) for value in spread(choice.low, choice.high, choice.points)]
    if choice.whole:
        return list(dict.fromkeys(round(value) for value in floats))
    return [float(f"{value:.12g}") for value in floats]


def finite_size(space: Mapping[str, SpaceChoice]) -> int | None:
    """How many different points there are; None where a range has no steps."""
    if any(not choice.choices and choice.step is None and not choice.whole for choice in space.values()):
        return None
    return size_of_grid({key: choice.model_copy(update={"points": None}) for key, choice in space.items()})


def grid(space: Mapping[str, SpaceChoice], seed: int) -> list[dict[str, Setting]]:
    """Every combination once, shuffled: a budget that ends in the middle has then seen all of the space, not one edge of it."""
    points = list(_product(space))
    salt = seed.to_bytes(8, "little")
    return [points[place] for place in sorted(range(len(points)), key=lambda place: _rank(place, salt))]


def unseen(space: Mapping[str, SpaceChoice], seen: set[tuple[tuple[str, Setting], ...]], seed: int) -> dict[str, Setting] | None:
    """A point of a finite space that was not tried yet; None where all were, or where there are too many to list."""
    size = finite_size(space)
    if size is None or size > _MOST_LISTED:
        return None
    whole = {key: choice.model_copy(update={"points": None}) for key, choice in space.items()}
    return next((point for point in grid(whole, seed) if key_of(point) not in seen), None)


def key_of(params: Mapping[str, Setting]) -> tuple[tuple[str, Setting], ...]:
    """Equal for equal settings; 1 and 1.0 are."""
    return tuple(sorted(params.items()))


def _product(space: Mapping[str, SpaceChoice]) -> Iterator[dict[str, Setting]]:
    for combination in itertools.product(*(values_of(choice) for choice in space.values())):
        yield dict(zip(space, combination, strict=True))


def _rank(place: int, salt: bytes) -> bytes:
    return blake2b(place.to_bytes(8, "little"), digest_size=8, salt=salt).digest()
