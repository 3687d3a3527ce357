"""A wish from the command line: a file, `--set key=value` over it, and a name. The engine checks it; here it only becomes a mapping."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import yaml

from llmops_tui.errors import UsageError


class _SpecLoader(yaml.SafeLoader):
    """YAML as a spec needs it: a date and `2:4` (in YAML 1.1 a number of base 60) stay the text that was typed, and a key given
    twice is an error, not the last one's win."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and ":" in value:
            return self.DEFAULT_SCALAR_TAG
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_SpecLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _SettingLoader(_SpecLoader):
    """`1e-4` is a number: YAML 1.1 wants `1.0e-4`, but nobody who types it without quotes means text."""


_SettingLoader.yaml_implicit_resolvers = {first: list(rules) for first, rules in _SpecLoader.yaml_implicit_resolvers.items()}
_SettingLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("+-.0123456789")
)


def build_spec(kind: str, file: str | None, settings: list[str], name: str | None, program: list[str] | None) -> dict[str, Any]:
    """The spec's mapping. Raises UsageError (what is wrong, and in which line)."""
    spec = read_mapping(file) if file else {}
    given = spec.get("kind", kind)
    if given != kind:
        raise UsageError(f"{file} is a spec of kind {given!r}, not {kind!r}", f"use `llmops-tui run {given}`")
    spec["kind"] = kind
    for setting in settings:
        apply_setting(spec, setting)
    if name is not None:
        spec["name"] = name
    if program is not None:
        if kind != "command":
            raise UsageError(f"a {kind} run takes no program after --", "use `llmops-tui run command -- PROGRAM ARG …`")
        spec["argv"] = program
    try:
        json.dumps(spec)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{file or 'the spec'} cannot be sent: {error}", "use text, numbers, true, false, null, lists and mappings"
        ) from None
    return spec


def read_mapping(file: str) -> dict[str, Any]:
    """A YAML or JSON file as a mapping; `-` is stdin."""
    shown = "stdin" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else _read(file)
        value = yaml.load(content.decode(), _SpecLoader)
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown}: not text (byte {error.start})", "a spec is YAML or JSON in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise UsageError(f"{shown}:{line} not valid YAML: {error.problem or error.context}", "correct the file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{shown}: not valid YAML: {' '.join(str(error).split())}", "correct the file") from None
    except RecursionError:
        raise UsageError(f"{shown}: nested too deeply", "a spec has at most three levels") from None
    if value is None:
        raise UsageError(f"{shown}: line 1: the spec is empty", "write keys and values, as in docs/specs.md")
    if not isinstance(value, dict):
        raise UsageError(f"{shown}: line 1: a spec is a mapping of keys to values, not a {type(value).__name__}", "see docs/specs.md")
    if wrong := next((key for key in value if not isinstance(key, str)), None):
        raise UsageError(f"{shown}: the key {wrong!r} is no text", "put it in quotes")
    return value


def apply_setting(spec: dict[str, Any], setting: str) -> None:
    """Set one `a.b.c=value`; the value is read as YAML, so that `[1, 2]`, `true`, `null` and `1e-4` mean what they say."""
    path, equals, text = setting.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {setting}: not KEY=VALUE", "write for example --set optim.learning_rate=1e-4")
    try:
        value = yaml.load(text, _SettingLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(
            f"--set {path}: {text!r} is not valid YAML", "put text with special characters in quotes twice: KEY='\"…\"'"
        ) from None
    target = spec
    for depth, key in enumerate(keys[:-1]):
        inner = target.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {path}: {'.'.join(keys[: depth + 1])} already has the value {inner!r}", "set the one or the other")
        target = inner
    target[keys[-1]] = value


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except FileNotFoundError:
        raise UsageError(f"no such file: {file}", "give -f the path of a YAML or JSON file") from None
    except IsADirectoryError:
        raise UsageError(f"{file} is a directory", "give -f the path of a YAML or JSON file") from None
