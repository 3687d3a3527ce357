"""The form of a job kind, made from its spec's model: what the console's New run page and `run KIND --fields` show.

What the model cannot say by its types stands at the field as `json_schema_extra`: `BASIC`, `MODEL`, `DATASET`, `PATH` of specs/common.py.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from llmops_tui.errors import NotFoundError
from llmops_tui.specs.answers import SpecField, SpecForm
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.leaves import Leaf, leaves
from llmops_tui.specs.parse import SPECS

_SCALARS = {str: "text", int: "integer", float: "number", bool: "boolean"}


def spec_form(kind: str) -> SpecForm:
    """The fields of a kind: its own sections first, then what every run has. Raises NotFoundError."""
    model = SPECS.get(kind)
    if model is None:
        raise NotFoundError(f"unknown job kind {kind!r}", f"use one of: {', '.join(SPECS)}")
    shared = RunSpec.model_fields.keys()
    found = [_field(kind, leaf, leaf.path.split(".")[0] in shared) for leaf in leaves(model)]
    own = dict.fromkeys([kind, *(field["section"] for field in found if field["section"] not in {*shared, "run"}), "run"])
    places = {section: number for number, section in enumerate(own)}
    found.sort(key=lambda field: places.get(field["section"], len(places)))
    return SpecForm(kind=kind, description=" ".join((model.__doc__ or "").split()), fields=found)


def _field(kind: str, leaf: Leaf, shared: bool) -> SpecField:
    marks = leaf.field.json_schema_extra if isinstance(leaf.field.json_schema_extra, dict) else {}
    name, dot, _ = leaf.path.rpartition(".")
    parts = [part for part in _parts(leaf.field.annotation) if part is not type(None)]
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    others = [part for part in parts if get_origin(part) is not Literal]
    lists = [part for part in others if get_origin(part) is list]
    if bool in others and words:  # true or false or a word: one choice
        others, words = [], [*words, True, False]
    if lists:
        told = "list"
    elif any(get_origin(part) is dict for part in others):
        told = "mapping"
    elif others:
        told = _SCALARS[others[0]]
    else:
        told = "choice"
    bounds = _bounds(leaf.field)
    whole = told == "integer"
    return SpecField(
        key=leaf.path,
        type=str(marks.get("form", told)),
        default=leaf.default,
        required=leaf.required or bool(marks.get("needed")),
        description=leaf.field.description or "",
        choices=words,
        minimum=bounds[Gt] + 1 if whole and Gt in bounds else bounds.get(Ge),
        maximum=bounds[Lt] - 1 if whole and Lt in bounds else bounds.get(Le),
        above=None if whole else bounds.get(Gt),
        below=None if whole else bounds.get(Lt),
        section=name if dot else "run" if shared else kind,
        basic=leaf.required or bool(marks.get("basic")) or bool(marks.get("needed")),
        optional=type(None) in _parts(leaf.field.annotation),
        text_too=bool(lists) and str in others,
    )


def _parts(annotation: Any) -> list[Any]:
    """The alternatives of a union, without `Annotated`."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for each in get_args(annotation) for part in _parts(each)]
    return _parts(get_args(annotation)[0]) if get_origin(annotation) is Annotated else [annotation]


def _bounds(field: FieldInfo) -> dict[type, float]:
    return dict(_bound_pairs(field))


def _bound_pairs(field: FieldInfo) -> Iterator[tuple[type, float]]:
    for mark in field.metadata:
        for kind, name in ((Gt, "gt"), (Ge, "ge"), (Lt, "lt"), (Le, "le")):
            if isinstance(mark, kind):
                yield kind, getattr(mark, name)
