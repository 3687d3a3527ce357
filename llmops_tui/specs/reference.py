"""The reference pages of docs/, made from the models so that they cannot drift.

`python -m llmops_tui.specs.reference settings > docs/settings.md`, `… specs > docs/specs.md`.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llmops_tui.specs.leaves import Leaf, leaves
from llmops_tui.specs.parse import SPECS
from llmops_tui.specs.settings import Settings

_SETTINGS_HEAD = """# Settings

One TOML file: `$XDG_CONFIG_HOME/llmops-tui/config.toml`, or `config.toml` in the directory given by `--home` or
`$LLMOPS_HOME`, or the file `$LLMOPS_CONFIG` names. A missing file means these defaults; an unknown key or a wrong type stops
the engine's start with one line that names it. Changes take effect at the next start of the engine.
"""

_SPECS_HEAD = """# Specs: what can be asked for

A spec is YAML or JSON, given with `llmops-tui run KIND -f spec.yaml`, by `--set key=value`, or both. An unknown key, a wrong type or
a missing file is refused before anything starts, with the field's name.
"""


def settings_page() -> str:
    """docs/settings.md"""
    parts = [_SETTINGS_HEAD]
    for section, field in Settings.model_fields.items():
        parts.append(f"\n## `[{section}]`\n\n{_table(leaves(_model_of(field)))}")
    return "".join(parts)


def specs_page() -> str:
    """docs/specs.md"""
    parts = [_SPECS_HEAD]
    for kind, model in SPECS.items():
        parts.append(f"\n## {kind}\n\n{(model.__doc__ or '').strip()}\n\n{_table(leaves(model))}")
    return "".join(parts)


def _model_of(field: FieldInfo) -> type[BaseModel]:
    annotation = field.annotation
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        raise TypeError(f"{annotation} is no section of the settings")
    return annotation


def _table(rows: Iterator[Leaf]) -> str:
    lines = ["| key | type | default | what it does |", "|---|---|---|---|"]
    for path, field, default, required in rows:
        shown = "**required**" if required else f"`{json.dumps(default)}`" if default is not None else "unset"
        lines.append(f"| `{path}` | {_type_name(field.annotation)} | {shown} | {(field.description or '').replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def _type_name(annotation: object) -> str:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(annotation) if part is not type(None))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if origin is list:
        return f"list of {_type_name(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if origin is not None and get_args(annotation):  # Annotated
        return _type_name(get_args(annotation)[0])
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


if __name__ == "__main__":
    pages = {"settings": settings_page, "specs": specs_page}
    if len(sys.argv) != 2 or sys.argv[1] not in pages:
        sys.exit(f"usage: python -m llmops_tui.specs.reference {'|'.join(pages)}")
    sys.stdout.write(pages[sys.argv[1]]())
