"""The rows of a table by place: all of them, or of a list too long to be sent whole the parts that came so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

LEAST_PAGE = 60
"""Fewer rows than this are not worth a question of their own."""


class Keyed(Protocol):
    """A row as far as its place goes."""

    @property
    def key(self) -> str: ...


T = TypeVar("T", bound=Keyed)


class RowStore(Generic[T]):
    """Places count from 0; a place below `total` without a row is on its way."""

    def __init__(self) -> None:
        self.total = 0
        self._rows: dict[int, T] = {}
        self._places: dict[str, int] = {}

    def fill(self, rows: Sequence[T]) -> None:
        """These are all rows."""
        self.total = len(rows)
        self._rows = dict(enumerate(rows))
        self._places = {row.key: place for place, row in self._rows.items()}

    def begin(self, offset: int, rows: Sequence[T], total: int) -> None:
        """A part of a new answer: what was known of the old one is forgotten."""
        self._rows, self._places = {}, {}
        self.add(offset, rows, total)

    def add(self, offset: int, rows: Sequence[T], total: int) -> None:
        """One more part of the same answer."""
        if total < self.total:
            self._rows = {place: row for place, row in self._rows.items() if place < total}
            self._places = {row.key: place for place, row in self._rows.items()}
        self.total = total
        for place, row in enumerate(rows, offset):
            self._rows[place] = row
            self._places[row.key] = place

    def at(self, place: int) -> T | None:
        """The row there; None where none is or it is on its way."""
        return self._rows.get(place)

    def place(self, key: str | None) -> int | None:
        """Where a key's row is, as far as it is known."""
        return self._places.get(key) if key is not None else None

    def known(self) -> Iterable[tuple[int, T]]:
        """Every row that came, in order."""
        return sorted(self._rows.items())

    def missing(self, top: int, visible: int) -> tuple[int, int] | None:
        """`(offset, limit)` of what to ask for so that the visible places and one screen on either side have rows; None where they do."""
        places = range(max(0, top), min(self.total, top + visible))
        if all(place in self._rows for place in places):
            return None
        limit = max(LEAST_PAGE, 3 * visible)
        return max(0, min(top + visible // 2 - limit // 2, self.total - limit)), limit
