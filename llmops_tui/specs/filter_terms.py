"""What the words of a filter mean: each key of docs/runs.md, and how its value is compared. Standard library only.

A run that lacks what a term asks about (no such setting, no such metric yet, not started) does not match it, whatever the operator.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import operator as compare
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from llmops_tui.specs.durations import duration_seconds
from llmops_tui.specs.run_config import RunConfig, as_number
from llmops_tui.specs.states import ACTIVE, ENDED, JOB_KINDS, STATES, WAITING

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Scalar

# The longer first: "<=" must not be read as "<".
OPERATORS = ("!=", "<=", ">=", ":", "=", "<", ">")
STATE_GROUPS: dict[str, frozenset[str]] = {"waiting": WAITING, "active": ACTIVE, "ended": ENDED}
HAS = ("note", "tag", "gpu", "reason", "metric", "parent")

_ORDER: dict[str, Callable[[float, float], bool]] = {"<": compare.lt, "<=": compare.le, ">": compare.gt, ">=": compare.ge}
_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")


class FilterRow(Protocol):
    """What is asked of a run. `search_text` is its id, name, tags and note, casefolded."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def note(self) -> str: ...
    @property
    def baseline(self) -> bool: ...
    @property
    def parent(self) -> str: ...
    @property
    def gpus(self) -> Sequence[str]: ...
    @property
    def attempt(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def submitted_at(self) -> float: ...
    @property
    def started_at(self) -> float | None: ...
    @property
    def ended_at(self) -> float | None: ...
    @property
    def latest(self) -> Mapping[str, float]: ...
    @property
    def config(self) -> RunConfig: ...
    @property
    def search_text(self) -> str: ...


def search_text(run_id: str, name: str, tags: Sequence[str], note: str) -> str:
    """What a filter's bare words are looked for in."""
    return "\n".join((run_id, name, *tags, note)).casefold()


# A run and the present moment, Unix seconds.
Test = Callable[[FilterRow, float], bool]


class BadTermError(ValueError):
    """A term that means nothing; `part` is what is wrong of it, `value` which of several values."""

    def __init__(self, message: str, next_step: str, part: Literal["key", "operator", "value"], value: int = 0) -> None:
        super().__init__(message)
        self.message, self.next_step, self.part, self.value = message, next_step, part, value


class Key(NamedTuple):
    """One key: how its values are read (`kind`), what it looks at, and a line of help."""

    kind: Literal["text", "exact", "choice", "number", "duration", "flag", "has"]
    get: Callable[[FilterRow, float], object]
    help: str
    choices: tuple[str, ...] = ()


KEYS: dict[str, Key] = {
    "state": Key("choice", lambda row, now: row.state, "its state, or waiting, active, ended", (*STATES, *STATE_GROUPS)),
    "kind": Key("choice", lambda row, now: row.kind, "the job kind", JOB_KINDS),
    "tag": Key("exact", lambda row, now: row.tags, "one of its tags"),
    "owner": Key("exact", lambda row, now: row.owner, "who submitted it"),
    "name": Key("text", lambda row, now: row.name, "a part of its name"),
    "id": Key("text", lambda row, now: row.id, "a part of its id"),
    "note": Key("text", lambda row, now: row.note, "a part of its note"),
    "reason": Key("text", lambda row, now: row.reason, "a part of why it is in its state"),
    "parent": Key("exact", lambda row, now: row.parent, "the sweep or cross-validation it is a trial of"),
    "gpu": Key("text", lambda row, now: row.gpus, "a part of the UUID of a GPU it holds"),
    "age": Key("duration", lambda row, now: now - row.submitted_at, "since it was submitted: 30m, 2d, 1h30m"),
    "duration": Key("duration", lambda row, now: _duration(row, now), "how long it ran, or has run so far"),
    "attempt": Key("number", lambda row, now: row.attempt, "the number of its attempt"),
    "priority": Key("number", lambda row, now: row.priority, "its priority in the queue"),
    "exit": Key("number", lambda row, now: row.exit_code, "its exit code"),
    "baseline": Key("flag", lambda row, now: row.baseline, "pinned as a baseline: yes or no", ("yes", "no")),
    "has": Key("has", lambda row, now: None, f"{', '.join(HAS)}, a metric.… or a cfg.…", HAS),
}
# Keys that go on with a name of the user's own.
FAMILIES = {"cfg.": "a setting of its spec: the whole name or its end", "metric.": "the newest value of a metric"}


def compile_word(word: str) -> Test:
    """A word without a key: somewhere in id, name, tags or note."""
    wanted = word.casefold()
    return lambda row, now: wanted in row.search_text


def compile_term(key: str, operator: str, values: Sequence[str]) -> Test:
    """`key operator value,value`. Raises BadTermError."""
    if key in FAMILIES:
        raise BadTermError(f"a name is missing after {key!r}", "for example cfg.learning_rate>=1e-4 or metric.train/loss<1.5", "key")
    if key.startswith("cfg."):
        name = key.removeprefix("cfg.")
        return _any(operator, [_config(name, operator, value, place) for place, value in enumerate(_several(operator, values))])
    if key.startswith("metric."):
        metric = key.removeprefix("metric.")
        return _numbers(lambda row, now: row.latest.get(metric), operator, values, _number)
    found = KEYS.get(key)
    if found is None:
        raise BadTermError(f"there is no key {key!r}", nearest(key, [*KEYS, *FAMILIES]), "key")
    if found.kind in ("number", "duration"):
        return _numbers(found.get, operator, values, _number if found.kind == "number" else read_duration)
    if operator in _ORDER:
        raise BadTermError(f"{key} is not ordered", f"use {key}:…, {key}=… or {key}!=…", "operator")
    if found.kind == "flag":
        return _any(operator, [_flag(found, value, place) for place, value in enumerate(values)])
    if found.kind == "has":
        return _any(operator, [_has(value, place) for place, value in enumerate(values)])
    if found.kind == "choice":
        return _choice(key, found, operator, values)
    part = found.kind == "text" and operator == ":"
    return _any(operator, [_text(found.get, value, part) for value in values])


def read_duration(text: str, place: int = 0) -> float:
    """`90`, `30m`, `1h30m`, `2d` in seconds. Raises BadTermError."""
    if (seconds := duration_seconds(text)) is not None:
        return seconds
    try:
        return _number(text)
    except BadTermError:
        raise BadTermError(f"{text!r} is no length of time", "write 90s, 30m, 2h, 1h30m, 2d or 1w", "value", place) from None


def _number(text: str, place: int = 0) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadTermError(f"{text!r} is no number", "write it like 3, 0.5 or 1e-4", "value", place) from None


def _any(operator: str, tests: Sequence[Test]) -> Test:
    """One of the values is enough; for != none of them may be."""
    if operator == "!=":
        return lambda row, now: not any(test(row, now) for test in tests)
    if len(tests) == 1:
        return tests[0]
    return lambda row, now: any(test(row, now) for test in tests)


def _several(operator: str, values: Sequence[str]) -> Sequence[str]:
    if operator in _ORDER and len(values) > 1:
        raise BadTermError(f"{operator} takes one value", "write the term twice, joined by `or`", "value", 1)
    return values


def _numbers(get: Callable[[FilterRow, float], object], operator: str, values: Sequence[str], read: Callable[[str, int], float]) -> Test:
    wanted = [read(value, place) for place, value in enumerate(_several(operator, values))]
    if order := _ORDER.get(operator):
        limit = wanted[0]

        def ordered(row: FilterRow, now: float) -> bool:
            value = get(row, now)
            return isinstance(value, int | float) and order(value, limit)

        return ordered

    def equal(row: FilterRow, now: float) -> bool:
        value = get(row, now)
        return isinstance(value, int | float) and any(_same(value, one) for one in wanted) is (operator != "!=")

    return equal


def _same(value: float, wanted: float) -> bool:
    if isinstance(value, int) and abs(value) > 1 << 53:
        return value == wanted  # isclose would make a float of it, which may be none
    return (value != value and wanted != wanted) or math.isclose(value, wanted, rel_tol=1e-9)


def _text(get: Callable[[FilterRow, float], object], value: str, part: bool) -> Test:
    fits = _fits(value, part)

    def test(row: FilterRow, now: float) -> bool:
        found = get(row, now)
        for one in (found,) if isinstance(found, str) else found:  # type: ignore[attr-defined]  # noqa: SIM110 - a generator a run is slow
            if fits(one):
                return True
        return False

    return test


def _fits(value: str, part: bool) -> Callable[[str], bool]:
    """Without regard to case; `*` and `?` stand for any text and any character; `part`: the value may stand inside the text."""
    wanted = value.casefold()
    if "*" in wanted or "?" in wanted:
        pattern = re.compile(fnmatch.translate(f"*{wanted}*" if part else wanted))
        return lambda text: pattern.match(text.casefold()) is not None
    if part and wanted:
        return lambda text: wanted in text.casefold()
    return lambda text: text.casefold() == wanted


def _choice(key: str, found: Key, operator: str, values: Sequence[str]) -> Test:
    wanted: set[str] = set()
    for place, value in enumerate(values):
        if value not in found.choices:
            raise BadTermError(f"there is no {key} {value!r}", nearest(value, found.choices), "value", place)
        wanted |= STATE_GROUPS.get(value, {value})
    chosen, get, inside = frozenset(wanted), found.get, operator != "!="
    return lambda row, now: (get(row, now) in chosen) is inside


def _flag(found: Key, value: str, place: int) -> Test:
    word, get = value.casefold(), found.get
    if word not in (*_YES, *_NO):
        raise BadTermError(f"{value!r} is neither yes nor no", "write yes or no", "value", place)
    wanted = word in _YES
    return lambda row, now: bool(get(row, now)) is wanted


def _has(value: str, place: int) -> Test:
    name = value.removesuffix("s") if value.removesuffix("s") in HAS else value
    if name.startswith("cfg.") and name != "cfg.":
        setting = name.removeprefix("cfg.")
        return lambda row, now: row.config.get(setting) is not None
    if name.startswith("metric.") and name != "metric.":
        metric = name.removeprefix("metric.")
        return lambda row, now: metric in row.latest
    tests: dict[str, Test] = {
        "note": lambda row, now: bool(row.note),
        "tag": lambda row, now: bool(row.tags),
        "gpu": lambda row, now: bool(row.gpus),
        "reason": lambda row, now: bool(row.reason),
        "metric": lambda row, now: bool(row.latest),
        "parent": lambda row, now: bool(row.parent),
    }
    if name not in tests:
        raise BadTermError(f"{value!r} is nothing a run has", nearest(value, (*HAS, *FAMILIES)), "value", place)
    return tests[name]


def _config(name: str, operator: str, value: str, place: int) -> Test:
    if order := _ORDER.get(operator):
        limit = _number(value, place)

        def ordered(row: FilterRow, now: float) -> bool:
            found = as_number(row.config.get(name))
            return found is not None and order(found, limit)

        return ordered
    equal = _config_equal(value, operator == ":")
    if operator == "!=":
        # `_any` turns it round: what has no such setting must count as equal to be left out.
        return lambda row, now: (found := row.config.get(name)) is None or equal(found)
    return lambda row, now: (found := row.config.get(name)) is not None and equal(found)


def _config_equal(value: str, part: bool) -> Callable[[Scalar], bool]:
    fits, word = _fits(value, part), value.casefold()
    try:
        number: float | None = float(value)
    except ValueError:
        number = None

    def equal(found: Scalar) -> bool:
        if isinstance(found, bool):
            return word in (_YES if found else _NO)
        value = None if number is None else as_number(found)
        if number is not None and value is not None:
            return _same(value, number)
        return isinstance(found, str) and fits(found)

    return equal


def _duration(row: FilterRow, now: float) -> float | None:
    return None if row.started_at is None else (now if row.ended_at is None else row.ended_at) - row.started_at


def nearest(word: str, known: Collection[str]) -> str:
    """The next step after a name that is not known: the one that was meant, or all there are."""
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"use one of: {', '.join(known)}"
