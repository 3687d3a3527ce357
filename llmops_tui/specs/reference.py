"""The reference pages of docs/, made from the models so that they cannot drift.

`python -m llmops_tui.specs.reference settings > docs/settings.md`, `… specs > docs/specs.md`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Iterator
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llmops_tui.specs.console import ConsoleSettings
from llmops_tui.specs.endpoint import EndpointSpec, EndpointVersion, Mirror
from llmops_tui.specs.leaves import Leaf, leaves
from llmops_tui.specs.parse import SPECS
from llmops_tui.specs.settings import Settings

_SETTINGS_HEAD = """# Settings

One TOML file: `$XDG_CONFIG_HOME/llmops-tui/config.toml`, or `config.toml` in the directory given by `--home` or
`$LLMOPS_HOME`, or the file `$LLMOPS_CONFIG` names. A missing file means these defaults; an unknown key or a wrong type stops
the engine's start with one line that names it. Changes take effect at the next start of the engine.
"""

_CONSOLE_TAIL = """
The console reads its section itself, at its own start; a mistake in it is said at the foot, and the defaults hold. `LLMOPS_THEME` and
`LLMOPS_ASCII` win over it. A command of your own gets the selection in braces, quoted for the shell:

```toml
[console.keys]
quit = "Q,ctrl+c"                   # the ids are in the help, `?`

[[console.commands]]
key = "ctrl+o"
title = "the run's directory in a shell"
run = "cd ~/.local/state/llmops-tui/runs/{run} && $SHELL"
```
"""

_SPECS_HEAD = """# Specs: what can be asked for

A spec is YAML or JSON, given with `llmops-tui run KIND -f spec.yaml`, by `--set key=value`, or both. An unknown key, a wrong type or
a missing file is refused before anything starts, with the field's name.
"""

_ENDPOINT_HEAD = """
## An endpoint

No job kind: what `llmops-tui endpoints start -f FILE` reads, with `--set key=value` over it ([serving.md](serving.md)). The keys under a
version's `serve` are those of [serve](#serve).

"""


def settings_page() -> str:
    """docs/settings.md"""
    parts = [_SETTINGS_HEAD]
    for section, field in Settings.model_fields.items():
        if section == "console":
            parts.append(f"\n## `[{section}]`\n\n{_console_table()}")
        elif get_origin(field.annotation) is dict:
            parts.append(f"\n## `[{section}]`\n\n{_table(iter([_by_name(field)]))}")
        else:
            parts.append(_section(section, _model_of(field)))
    return "".join(parts) + _CONSOLE_TAIL


def _by_name(field: FieldInfo) -> Leaf:
    """A section whose keys are names that the user gives."""
    return Leaf("NAME", FieldInfo(annotation=get_args(field.annotation)[1], description=field.description), None, False)


def _section(name: str, model: type[BaseModel]) -> str:
    """One section and those within it that users name or list themselves."""
    parts = [f"\n## `[{name}]`\n\n{_table(leaves(model))}"]
    for key, field in model.model_fields.items():
        inner = get_args(field.annotation)
        if inner and isinstance(inner[-1], type) and issubclass(inner[-1], BaseModel):
            title = f"[[{name}.{key}]]" if get_origin(field.annotation) is list else f"[{name}.{key}.NAME]"
            parts.append(f"\n## `{title}`\n\n{_table(leaves(inner[-1]))}")
    return "".join(parts)


def _console_table() -> str:
    lines = ["| key | type | default | what it does |", "|---|---|---|---|"]
    for each in dataclasses.fields(ConsoleSettings):
        value = each.default_factory() if callable(each.default_factory) else each.default
        given = f"`{json.dumps(value)}`" if value or isinstance(value, bool) else "none"
        choices, limits = each.metadata.get("choices"), each.metadata.get("range")
        shape = " or ".join(f"`{choice}`" for choice in choices or ())
        shape = f"number from {limits[0]:g} to {limits[1]:g}" if limits else shape
        shape = shape or {"bool": "true or false", "Mapping[str, str]": "table"}.get(str(each.type), "list")
        lines.append(f"| `{each.name}` | {shape} | {given} | {each.metadata['help']} |")
    return "\n".join(lines) + "\n"


def specs_page() -> str:
    """docs/specs.md"""
    parts = [_SPECS_HEAD]
    for kind, model in SPECS.items():
        parts.append(f"\n## {kind}\n\n{(model.__doc__ or '').strip()}\n\n{_table(leaves(model))}")
    parts.append(_ENDPOINT_HEAD + _table(leaves(EndpointSpec)))
    for title, inner in (("versions", EndpointVersion), ("mirror", Mirror)):
        parts.append(f"\n### Each of `{title}`\n\n{(inner.__doc__ or '').strip()}\n\n{_table(leaves(inner))}")
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
        return " or ".join(f"`{value}`" if value != "" else '`""`' for value in get_args(annotation))
    if origin is list:
        return f"list of {_type_name(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"tables of {', '.join(f'`{name}`' for name in annotation.model_fields)}"
    if origin is not None and get_args(annotation):  # Annotated
        return _type_name(get_args(annotation)[0])
    return {"str": "text", "SecretStr": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


if __name__ == "__main__":
    pages = {"settings": settings_page, "specs": specs_page}
    if len(sys.argv) != 2 or sys.argv[1] not in pages:
        sys.exit(f"usage: python -m llmops_tui.specs.reference {'|'.join(pages)}")
    sys.stdout.write(pages[sys.argv[1]]())
