"""A spec in its three faces: values by dotted key (the form), a nested mapping (the API, YAML) and the equal command line. Pure functions.

Only values that differ from their defaults are written, so that a spec says what its author meant and nothing else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from llmops_tui.specs.field_words import Value, takes, value_of, words_of

if TYPE_CHECKING:
    from llmops_tui.specs.answers import SpecField, SpecForm

# Text that YAML reads as itself without quotes, also inside of brackets.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@+-]*")
_NOT_TEXT = frozenset(("y", "n", "yes", "no", "true", "false", "on", "off", "null"))


def nested(kind: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """The spec as the API takes it."""
    spec: dict[str, Value] = {"kind": kind}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = spec
        for section in sections:
            inner = place.setdefault(section, {})
            assert isinstance(inner, dict)  # no field is a section of another
            place = inner
        place[name] = value
    return spec


def read_spec(form: SpecForm, spec: Mapping[str, object]) -> tuple[dict[str, Value], dict[str, str], dict[str, str]]:
    """From a mapping to the values that differ from their defaults, the texts that are no such value, and what is wrong by key.

    What is wrong has the keys of the form, and those of the mapping that the form has not.
    """
    fields = {field["key"]: field for field in form["fields"]}
    values: dict[str, Value] = {}
    texts: dict[str, str] = {}
    faults: dict[str, str] = {}
    for key, value in _leaves("", spec, fields):
        field = fields.get(key)
        if field is None:
            faults[key] = "unknown key"
        elif value is None and not field["optional"]:
            continue  # `name:` with nothing after it: the default
        else:
            try:
                fitted = _fitted(field, value)
            except ValueError as error:
                texts[key], faults[key] = str(value), str(error)
            else:
                if field["required"] or fitted != field["default"]:
                    values[key] = fitted
    return values, texts, faults


def command_words(kind: str, values: Mapping[str, Value]) -> list[str]:
    """The equal command, word by word."""
    words = ["llmops-tui", "run", kind]
    program: list[str] = []
    for key, value in values.items():
        if key == "argv" and isinstance(value, list):
            program = ["--", *map(str, value)]
        elif key == "name" and isinstance(value, str) and not value.startswith("-"):
            words += ["--name", value]
        else:
            words += ["--set", f"{key}={yaml_value(value)}"]
    return [*words, *program]


def command_line(kind: str, values: Mapping[str, Value], cwd: str, here: str, host: str = "") -> str:
    """The equal command as a shell takes it; relative paths in the spec are meant from `cwd`, the shell stands in `here`.

    For another box by its ssh name, `here` is where ssh puts one there.
    """
    program, *words = command_words(kind, values)
    if cwd == here:
        return shlex.join([program, *(("--host", host) if host else ()), *words])
    line = f"cd {shlex.quote(cwd)} && {shlex.join([program, *words])}"
    return shlex.join(["ssh", host, line]) if host else line


def yaml_value(value: Value) -> str:
    """The value on one line of YAML, read as the same by YAML 1.1 and 1.2."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT else _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{yaml_value(name)}: {yaml_value(inner)}" for name, inner in value.items()) + "}"
    text = repr(value)
    return text if "e" not in text or "." in text else text.replace("e", ".0e")


def yaml_page(form: SpecForm, values: Mapping[str, Value], texts: Mapping[str, str], faults: Mapping[str, str]) -> str:
    """The whole form for an editor: what is set as it is, defaults behind a #, each field explained, faults above their field."""
    lines = [
        f"# {form['description']}",
        "# A line behind # is a default: take the # away to set it. Save and leave the editor to go on.",
        "",
    ]
    lines += [f"# !! {key}: {fault}" for key, fault in faults.items() if key not in {field["key"] for field in form["fields"]}]
    lines.append(f"kind: {form['kind']}")
    section = ""
    for field in form["fields"]:
        parent, _, name = field["key"].rpartition(".")
        indent = "  " if parent else ""
        if parent != section:
            lines += ["", f"{parent}:"] if parent else [""]
            section = parent
        lines.append(f"{indent}# {field['description']} ({takes(field)})")
        if fault := faults.get(field["key"]):
            lines.append(f"{indent}# !! {fault}")
        if field["key"] in texts:
            lines.append(f"{indent}{name}: {yaml_value(texts[field['key']])}")
        elif field["key"] in values:
            lines.append(f"{indent}{name}: {yaml_value(values[field['key']])}")
        else:
            lines.append(f"{indent}{'' if field['required'] else '#'}{name}: {'' if field['required'] else yaml_value(field['default'])}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _leaves(prefix: str, mapping: Mapping[str, object], fields: Mapping[str, SpecField]) -> Iterator[tuple[str, object]]:
    sections = {key[:at] for key in fields for at, letter in enumerate(key) if letter == "."}
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        if key == "kind":
            continue
        if key in sections and isinstance(value, dict):
            yield from _leaves(f"{key}.", value, fields)
        elif key not in sections or value is not None:  # a section of comments alone is null
            yield key, value


def _fitted(field: SpecField, value: object) -> Value:
    told = field["type"]
    if isinstance(value, dict):
        if told != "mapping":
            raise ValueError("should be one value, not a mapping")
        if wrong := next((name for name, inner in value.items() if isinstance(inner, dict | list) or inner is None), None):
            raise ValueError(f"{wrong} should be text")
        return {str(name): words_of(field, inner) if isinstance(inner, bool) else str(inner) for name, inner in value.items()}
    if isinstance(value, list):
        if told != "list":
            raise ValueError("should be one value, not a list")
        if any(isinstance(inner, dict | list) or inner is None for inner in value):
            raise ValueError("should be a list of texts")
        return [str(inner) for inner in value]
    if value is None or isinstance(value, str | int | float):
        if isinstance(value, str) and (field["text_too"] or told in ("text", "path", "model", "dataset")):
            return value
        return value_of(field, words_of(field, value))
    raise ValueError(f"is a {type(value).__name__}, which a spec cannot hold")


def _quoted(text: str) -> str:
    """In double quotes; what YAML does not allow or would fold is escaped."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character == "\n":
        return "\\n"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
