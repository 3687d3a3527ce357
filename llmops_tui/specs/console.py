"""`[console]` of the settings file: how the viewer looks and which keys it has. Plain Python, because the viewer reads it before its
first frame and without an engine; the engine's settings accept the section by the same rule.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

THEMES = ("auto", "dark", "light", "contrast", "okabe-ito", "sixteen")
SWITCH = ("auto", "on", "off")
DESKTOP = ("auto", "9", "777", "both", "off")
_MOST_COMMANDS = 50


@dataclass(frozen=True)
class CustomCommand:
    """A key of the user's: `run` goes to the shell with `{run}`, `{gpu}`, `{directory}` … of the selection filled in, quoted."""

    key: str
    title: str
    run: str
    where: str = "everywhere"
    confirm: bool = False


@dataclass(frozen=True)
class ConsoleSettings:
    """The section with its defaults; the metadata is what docs/settings.md says."""

    theme: str = field(
        default="auto", metadata={"choices": THEMES, "help": "Colours; auto: dark, or sixteen where the terminal has no more"}
    )
    ascii: str = field(
        default="auto", metadata={"choices": SWITCH, "help": "Charts and signs in ASCII; auto: where the locale has no UTF-8"}
    )
    status_seconds: float = field(default=1.0, metadata={"range": (0.2, 60.0), "help": "Time between two looks at the engine"})
    low_bandwidth: str = field(
        default="auto", metadata={"choices": SWITCH, "help": "Fewer and slower updates; auto: when the terminal cannot keep up"}
    )
    mouse: bool = field(default=True, metadata={"help": "Whether the mouse works; without it the terminal's own selection does"})
    bell: bool = field(default=True, metadata={"help": "Ring when a run fails or an alarm comes"})
    desktop: str = field(
        default="auto", metadata={"choices": DESKTOP, "help": "Desktop notifications through the terminal: OSC 9, OSC 777, both or off"}
    )
    keys: Mapping[str, str] = field(
        default_factory=dict, metadata={"help": "Other keys: the id of a key (see `?`) = keys, separated by commas"}
    )
    commands: tuple[CustomCommand, ...] = field(
        default=(), metadata={"help": "`[[console.commands]]`: `key`, `title`, `run`, and if wanted `where` and `confirm`"}
    )
    hosts: tuple[str, ...] = field(default=(), metadata={"help": "Boxes whose engines `:hosts` shows side by side, as ssh knows them"})


def parse_console(raw: object) -> ConsoleSettings:
    """The section from its TOML value. Raises ValueError naming the key and the fault ("keys.stop: must be text")."""
    if not isinstance(raw, Mapping):
        raise ValueError("must be a table")
    known = {each.name: each for each in fields(ConsoleSettings)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]}: unknown key; there are {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        try:
            values[name] = _READERS[name](value) if name in _READERS else _plain(value, known[name])
        except ValueError as error:
            raise ValueError(f"{name}{'' if str(error).startswith('.') or str(error).startswith('[') else ': '}{error}") from None
    return ConsoleSettings(**values)


def load_console(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[ConsoleSettings, str]:
    """The viewer's settings and, where the file is wrong, what is wrong with it in one line: then the defaults hold."""
    try:
        raw = tomllib.loads(path.read_text()).get("console", {})
    except FileNotFoundError:
        raw = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return ConsoleSettings(), f"{path}: not valid TOML: {error}"
    except OSError as error:
        return ConsoleSettings(), f"{path}: cannot be read: {error.strerror}"
    if theme := environ.get("LLMOPS_THEME"):
        raw = {**raw, "theme": theme} if isinstance(raw, dict) else raw
    try:
        return parse_console(raw), ""
    except ValueError as error:
        return ConsoleSettings(), f"{path}: console.{error}" if str(error) != "must be a table" else f"{path}: console: {error}"


def _plain(value: object, told: Any) -> object:
    default, rule = told.default, told.metadata
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if "range" in rule:
        low, high = rule["range"]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)
    if isinstance(value, bool):
        value = "on" if value else "off"
    value = str(value) if isinstance(value, int) else value
    if value not in rule["choices"]:
        raise ValueError(f"must be one of {', '.join(rule['choices'])}")
    return value


def _keys(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of id = keys")
    for name, keys in value.items():
        if not isinstance(keys, str) or not keys.strip():
            raise ValueError(f'.{name}: must be keys as text, for example "ctrl+x,x"')
    return dict(value)


def _commands(value: object) -> tuple[CustomCommand, ...]:
    if not isinstance(value, list) or len(value) > _MOST_COMMANDS:
        raise ValueError(f"must be at most {_MOST_COMMANDS} tables, written [[console.commands]]")
    allowed = {"key": str, "title": str, "run": str, "where": str, "confirm": bool}
    found = []
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, Mapping):
            raise ValueError(f"[{number}]: must be a table")
        for name, inner in entry.items():
            if name not in allowed:
                raise ValueError(f"[{number}].{name}: unknown key; there are {', '.join(allowed)}")
            if not isinstance(inner, allowed[name]) or inner == "":
                raise ValueError(f"[{number}].{name}: must be {'true or false' if allowed[name] is bool else 'text'}")
        missing = [name for name in ("key", "title", "run") if name not in entry]
        if missing:
            raise ValueError(f"[{number}]: has no {missing[0]}")
        found.append(CustomCommand(**entry))
    return tuple(found)


def _hosts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(host, str) and host and not host.startswith("-") for host in value):
        raise ValueError("must be a list of host names")
    return tuple(value)


_READERS: dict[str, Callable[[object], object]] = {"keys": _keys, "commands": _commands, "hosts": _hosts}
