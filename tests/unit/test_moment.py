"""A moment as a person types it."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from llmops_tui.commands.grammar import build_parser
from llmops_tui.commands.moment import clock, parse_moment

NOW = datetime(2026, 11, 23, 15, 0, 0).timestamp()


def local(*parts: int) -> float:
    return datetime(*parts).timestamp()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("2h ago", NOW - 7200),
        ("-2h", NOW - 7200),
        ("2h", NOW - 7200),
        ("-1h30m", NOW - 5400),
        (" 1.5 d  AGO ", NOW - 129_600),
        ("90s", NOW - 90),
        ("14:30", local(2026, 11, 23, 14, 30)),
        ("14:30:05", local(2026, 11, 23, 14, 30, 5)),
        ("15:01", local(2026, 11, 22, 15, 1)),
        ("today 09:00", local(2026, 11, 23, 9, 0)),
        ("yesterday 14:30", local(2026, 11, 22, 14, 30)),
        ("2026-11-20", local(2026, 11, 20)),
        ("2026-11-20 08:15", local(2026, 11, 20, 8, 15)),
        ("2026-11-20T08:15:30", local(2026, 11, 20, 8, 15, 30)),
        ("2026-11-20T08:15:30+00:00", 1_795_162_530.0),
        ("2026-11-20T08:15:30Z", 1_795_162_530.0),
        ("1795162530.5", 1_795_162_530.5),
    ],
)
def test_a_moment_is_read_as_it_was_meant(text: str, expected: float) -> None:
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "14:61", "2h later", "2026-13-01", "12", "-", "ago", "99999-01-01", "tomorrow 10:00"]
)
def test_what_is_no_moment_is_told_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no moment; write 14:30"):
        parse_moment(text, NOW)


@pytest.mark.parametrize("words", [["status", "--at", "-20m"], ["gpus", "--at", "20m ago"], ["--json", "status", "--at=-20m"]])
def test_a_leading_minus_is_a_value_and_no_option(words: list[str]) -> None:
    args = build_parser().parse(words)
    assert time.time() - 1300 < args.at < time.time() - 1100


def test_a_clock_names_the_day_only_where_it_is_another() -> None:
    assert clock(local(2026, 11, 23, 14, 30, 7), NOW) == "14:30:07"
    assert clock(local(2026, 11, 22, 14, 30, 7), NOW) == "2026-11-22 14:30:07"
