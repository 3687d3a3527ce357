"""The filter line of the request browser: what it asks for, and what it says of a line that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_tui.screens.request_filter import KEYS, RequestFilterError, begins_key, read, suggest

NOW = 1_795_435_200.0


def test_terms_hold_together() -> None:
    asked = read("endpoint:support  version:v3 status:5xx key:web slower:1.5s since:-1h", NOW)
    assert asked == {
        "endpoint": "support", "version": "v3", "status": "5xx", "key": "web", "slower_than_ms": 1500.0, "since": NOW - 3600,
    }  # fmt: skip
    assert read("", NOW) == read("   ", NOW) == {}


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("slower:500", 500.0), ("slower:500ms", 500.0), ("slower:2s", 2000.0), ("slower:1m30s", 90_000.0)]
)
def test_a_time_has_a_unit_or_is_milliseconds(text: str, milliseconds: float) -> None:
    assert read(text, NOW) == {"slower_than_ms": milliseconds}


@pytest.mark.parametrize(
    ("text", "told", "position"),
    [
        ("words", "'words' is no filter", 0), ("stae:failed", "no key 'stae'", 0), ("key:web status:", "a value is missing", 15),
        ("status:bad", "'bad' is no status", 7), ("status:42", "'42' is no status", 7), ("slower:soon", "'soon' is no time", 7),
        ("slower:-5", "'-5' is no time", 7), ("since:never", "is no moment", 6), ("key:a key:b", "key stands twice", 6),
        ("a" * 2000, "longer than 1000", 1000), (":", "no key ''", 0),
    ],
)  # fmt: skip
def test_what_means_nothing_is_told_at_its_character(text: str, told: str, position: int) -> None:
    with pytest.raises(RequestFilterError, match=told) as caught:
        read(text, NOW)
    assert caught.value.position == position


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    problem = None
    try:
        read(text, NOW)
    except RequestFilterError as error:
        problem = error
    assert problem is None or 0 <= problem.position <= len(text)


def test_tab_knows_the_keys_and_what_was_seen() -> None:
    assert [word.text for word in suggest("s", 1, {})] == ["status:", "slower:", "since:"]
    assert [word.text for word in suggest("status:error v", 14, {})] == ["version:"]
    assert [word.text for word in suggest("version:v", 9, {"version": {"v4", "v3"}})] == ["v3 ", "v4 "]
    assert {word.text for word in suggest("", 0, {})} == {f"{key}:" for key in KEYS}


def test_a_term_on_its_way_is_not_wrong_yet() -> None:
    assert begins_key("stat")
    assert begins_key("key:web status:")
    assert not begins_key("nonsense")
    assert not begins_key("key:web ")
