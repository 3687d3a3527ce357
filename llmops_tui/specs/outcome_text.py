"""What a job said at its end, as lines a person reads: name and value, each figure with its interval where it has one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def outcome_lines(outcome: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """In the job's order; scores of before and after once, with their intervals; what is empty says nothing."""
    scores = {name: inner for name, inner in outcome.items() if isinstance(inner, Mapping)}
    told = {value for inner in scores.values() for value in inner.values() if isinstance(value, float)}
    for name, value in outcome.items():
        if isinstance(value, Mapping):
            yield from ((f"{_words(inner)} {_words(name)}", text) for inner, text in _scores(value))
        elif name == "checks" and isinstance(value, list):
            yield from (
                (str(check.get("name")), f"{check.get('verdict')}: {check.get('words')}") for check in value if isinstance(check, dict)
            )
        elif not (isinstance(value, float) and value in told) and (text := _text(value)):
            yield _words(name), text


def _scores(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in part.items():
        if name.endswith("_interval") or not (text := _text(value)):
            continue
        interval = part.get(f"{name}_interval")
        both = isinstance(interval, list) and len(interval) == 2 and None not in interval
        yield name, f"{text} (95 % interval {_text(interval[0])} to {_text(interval[1])})" if both and interval else text


def _text(value: Any) -> str:
    if value is None or value == "" or isinstance(value, Mapping):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return ", ".join(filter(None, map(_text, value))) if isinstance(value, list) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
