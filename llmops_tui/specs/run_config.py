"""A run's settings as dotted keys: what filters, columns and comparisons look at. Standard library only: the TUI imports this."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Scalar

_MOST_REMEMBERED = 512


def flatten(spec: Mapping[str, object]) -> dict[str, Scalar]:
    """`{"optim": {"learning_rate": 1e-4}}` as `{"optim.learning_rate": 1e-4}`; a list becomes one text, `a, b`."""
    flat: dict[str, Scalar] = {}
    todo: list[tuple[str, object]] = [("", dict(spec))]  # no recursion: how deep a stranger's spec is nested is not ours to choose
    while todo:
        prefix, value = todo.pop()
        if isinstance(value, dict):
            inner = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
            todo.extend(reversed(inner))
        else:
            flat[prefix] = _scalar(value)
    return flat


def as_number(value: Scalar) -> float | None:
    """A setting as a number, also where it is one in a text (an environment variable); None for the rest, true and false among it."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return None


class Shape:
    """The keys that the settings of many runs have in common, and which of them a short key means."""

    __slots__ = ("__weakref__", "keys", "places")

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        # Where the value of a key stands; the short keys that were asked for are added, so that the next run has them at hand.
        self.places: dict[str, int | None] = {key: place for place, key in enumerate(keys)}

    def find(self, key: str) -> int | None:
        """Where the value of a short key stands: the end of exactly one key, `learning_rate` for `optim.learning_rate`."""
        if len(self.places) >= len(self.keys) + _MOST_REMEMBERED:
            self.places = {full: place for place, full in enumerate(self.keys)}
        meant = self.meant(key)
        self.places[key] = place = self.keys.index(meant[0]) if len(meant) == 1 else None
        return place

    def meant(self, key: str) -> list[str]:
        """The whole keys that this one is, or is the end of; of several none can be chosen."""
        return [key] if key in self.keys else [full for full in self.keys if full.endswith(f".{key}")]


class RunConfig:
    """One run's settings. Runs with the same keys share them: ten thousand of these are a few megabytes."""

    __slots__ = ("shape", "values")

    def __init__(self, spec: Mapping[str, object]) -> None:
        flat = flatten(spec)
        keys = tuple(flat)
        shape = _shapes.get(keys)
        if shape is None:
            shape = _shapes[keys] = Shape(keys)
        self.shape = shape
        self.values = tuple(flat.values())

    def get(self, key: str) -> Scalar:
        """The value of a key or of a short one; None where the run has no such setting."""
        try:
            place = self.shape.places[key]
        except KeyError:
            place = self.shape.find(key)
        return None if place is None else self.values[place]

    def items(self) -> Iterator[tuple[str, Scalar]]:
        """Every dotted key with its value, in the spec's order."""
        return zip(self.shape.keys, self.values, strict=True)


_shapes: WeakValueDictionary[tuple[str, ...], Shape] = WeakValueDictionary()


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple) and not any(isinstance(item, dict | list | tuple) for item in value):
        return ", ".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    try:
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return str(type(value).__name__)
