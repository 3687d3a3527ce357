"""Answers are compared by what they say in the end."""

from __future__ import annotations

import pytest

from llmops_tui.data.final_answer import number_in, same_number, same_text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 12.", 12.0), ("1,234.5", 1234.5), ("-3", -3.0), ("3/4", 0.75), ("1e-3", 0.001), ("$18", 18.0), (".5", 0.5),
        ("2 + 2 = 4", 4.0), ("first 7\n#### 9", 9.0), ("The answer is 5 apples, not 6? no", 6.0), ("so \\boxed{42} and 7", 42.0),
        ("nothing", None), ("1/0", None), ("", None), ("10 (dollars)", 10.0),
    ],
)  # fmt: skip
def test_the_last_number_of_the_final_answer_counts(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_texts_are_the_same_whatever_their_case_spaces_and_full_stop() -> None:
    assert same_text("We think.\nAnswer:  True.", "true")
    assert same_text(" Yes ", "yes.")
    assert not same_text("Yes and no", "Yes")


def test_numbers_are_the_same_to_a_millionth_and_no_number_is_never_right() -> None:
    assert same_number("It is 1,000.0000001", "1000")
    assert not same_number("1001", "1000")
    assert not same_number("none", "none")
