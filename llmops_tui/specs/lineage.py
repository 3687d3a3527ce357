"""What a model was made from, as the API and the client tell it. Plain data: the TUI imports this."""

from __future__ import annotations

from typing_extensions import TypedDict


class LineageData(TypedDict):
    """Rows that went in. `role` is what for: learnt, held out, rehearsed, probed."""

    role: str
    name: str
    version: int | None
    path: str
    rows: int | None
    licence: str
    sha256: str


class LineageNode(TypedDict):
    """One model and, below it, what it was made from.

    `role` is what it was to the one above it (base, adapter, teacher, model; empty at the top), `how` in words how it came to be.
    `licence` is its own; where it states none, `licence_from_parents` are those of what it was made from.
    """

    reference: str
    role: str
    weight: float | None
    how: str
    run: str
    format: str
    path: str
    sha256: str
    licence: str
    licence_from_parents: list[str]
    template_sha256: str
    created_at: float | None
    data: list[LineageData]
    parents: list[LineageNode]
    problems: list[str]
