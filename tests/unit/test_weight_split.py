"""How requests are split over versions: by steps of five points, by a typed line, always a hundred together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_tui.errors import UsageError
from llmops_tui.screens.weight_split import all_to, in_percent, moved, read_weights, share_text, split_words, weights_text


def test_a_canary_begins_with_five_and_goes_by_fives() -> None:
    split = {"v3": 100.0, "v4": 0.0}
    assert moved(split, "v4", 1) == {"v3": 95.0, "v4": 5.0}
    assert moved({"v3": 95.0, "v4": 5.0}, "v4", 1) == {"v3": 90.0, "v4": 10.0}
    assert moved({"v3": 97.0, "v4": 3.0}, "v4", 1) == {"v3": 95.0, "v4": 5.0}
    assert moved({"v3": 97.0, "v4": 3.0}, "v4", -1) == {"v3": 100.0, "v4": 0.0}


def test_what_one_gains_comes_from_whoever_has_the_most() -> None:
    assert moved({"a": 50.0, "b": 30.0, "c": 20.0}, "c", 1) == {"a": 45.0, "b": 30.0, "c": 25.0}
    assert moved({"a": 90.0, "b": 5.0, "c": 5.0}, "a", -1) == {"a": 85.0, "b": 10.0, "c": 5.0}


def test_the_last_one_gives_to_the_version_before_first() -> None:
    assert moved({"v2": 0.0, "v3": 0.0, "v4": 100.0}, "v4", -1, heirs=("v3", "v2")) == {"v2": 0.0, "v3": 5.0, "v4": 95.0}


def test_nobody_goes_below_nothing_or_above_all() -> None:
    assert moved({"a": 100.0, "b": 0.0}, "a", 1) == {"a": 100.0, "b": 0.0}
    assert moved({"a": 100.0, "b": 0.0}, "b", -1) == {"a": 100.0, "b": 0.0}
    assert moved({"a": 100.0}, "a", -1) == {"a": 100.0}


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=6).filter(lambda weights: sum(weights) > 1e-3),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from((-1, 1))), max_size=30),
)
def test_every_path_of_keys_keeps_a_hundred_together(weights: list[float], keys: list[tuple[int, int]]) -> None:
    split = in_percent({f"v{number}": weight for number, weight in enumerate(weights)})
    for version, by in keys:
        split = moved(split, f"v{version % len(weights)}", by)
        assert sum(split.values()) == pytest.approx(100)
        assert all(-1e-9 <= share <= 100 + 1e-9 for share in split.values())


def test_all_go_to_one() -> None:
    assert all_to({"a": 60.0, "b": 40.0}, "b") == {"a": 0.0, "b": 100.0}


def test_a_typed_line_is_read_and_written_back() -> None:
    weights = read_weights("v3=95, v4=5%", ["v3", "v4", "v2"])
    assert weights == {"v3": 95.0, "v4": 5.0}
    assert read_weights(weights_text(weights), ["v3", "v4"]) == weights


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("v3", "'v3' is no weight"), ("=3", "is no weight"), ("v9=1", "there is no version 'v9'"), ("v3=1 v3=2", "named twice"),
        ("v3=much", "a number from 0"), ("v3=-1", "a number from 0"), ("v3=nan", "a number from 0"), ("v3=inf", "a number from 0"),
        ("v3=1e7", "a number from 0"), ("", "add up to 0"), ("v3=0 v4=0", "add up to 0"), ("x" * 10_000, "is no weight"),
    ],
)  # fmt: skip
def test_what_is_no_split_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_weights(text, ["v3", "v4"])


def test_small_shares_are_told_from_none() -> None:
    assert [share_text(share) for share in (0.0, 0.4, 5.0, 99.6, 100.0)] == ["0 %", "0.4 %", "5 %", "99.6 %", "100 %"]
    assert split_words({"v3": 995.0, "v4": 5.0, "v2": 0.0}) == "v3 99.5 %, v4 0.5 %"
