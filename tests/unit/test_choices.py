"""Rows of multiple choice: how their options are stored, which is right, and what is none of either."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.data.choices import Choices, choices_of, numbered_choices
from llmops_tui.data.formats import detect, to_messages
from llmops_tui.data.rows import RowError, read_rows

OPTIONS = ("a bank", "a mall", "new york")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Where?", "options": "\nA. a bank\nB. a mall\nC. new york", "answer": "B. a mall"},
        {"question": "Where?", "options": "A) a bank\nB) a mall\nC) new york?", "answer": "B"},
        {"question": "Where?", "options": "a bank\na mall\nnew york", "answer": "A mall."},
        {"question": "Where?", "choices": ["a bank", "a mall", "new york"], "answer": 1},
        {"ctx": "Where?", "endings": ["a bank", "a mall", "new york"], "label": "1"},
        {"question": "Where?", "choices": {"text": ["a bank", "a mall", "new york"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        {"question_stem": "Where?", "choices": {"text": ["a bank", "a mall", "new york"], "label": ["A", "B", "C"]}, "answerKey": "B"},
    ],
)
def test_options_are_read_however_they_are_stored(row: dict[str, object]) -> None:
    found = choices_of(row)
    assert found is not None
    assert (found.question, found.right) == ("Where?", 1)
    assert [option.rstrip("?") for option in found.options] == list(OPTIONS)
    assert detect([row]).format == "question_answer"
    assert to_messages(row, "question_answer")[-1]["content"].endswith(("a mall", "B", "A mall."))  # type: ignore[index]


def test_a_row_without_options_is_no_choice_and_a_number_among_numbers_is_the_number() -> None:
    assert choices_of({"question": "1 + 1?", "answer": "2"}) is None
    assert choices_of({"question": "1 + 1?", "choices": ["3", "2", "1"], "answer": "2"}) == Choices("1 + 1?", ("3", "2", "1"), 1)
    assert choices_of({"question": "So?", "passage": "It rains.", "choices": ["yes", "no"], "answer": 0}) == Choices(
        "It rains.\n\nSo?", ("yes", "no"), 0
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "Where?", "options": "A. here", "answer": "A"}, "`options` holds one option, which is no choice"),
        ({"question": "Where?", "choices": ["here", "there"]}, "it has options, but nothing says which is right"),
        ({"question": "Where?", "choices": ["here", "there"], "answer": 2}, "`answer` 2 is none of the 2 options"),
        ({"question": "Where?", "choices": ["here", "there"], "answer": True}, "`answer` True is none of the 2 options"),
        ({"question": "Where?", "choices": ["here", "there"], "answer": "B. here"}, "`answer` 'B. here' is none of the 2 options"),
        ({"question": "Where?", "choices": ["here", "here"], "answer": "here"}, "`answer` 'here' is none of the 2 options"),
        ({"question": "Where?", "choices": ["here", " "], "answer": 0}, "option 2 of `choices` is empty"),
        ({"question": "Where?", "options": 4, "answer": 0}, "`options` is int, not a list"),
        ({"choices": ["here", "there"], "answer": 0}, "`question` is missing"),
    ],
)
def test_what_is_no_choice_is_refused_with_the_row(row: dict[str, object], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        numbered_choices(17, row)
    assert str(caught.value).startswith(f"row 17: {reason}")


def test_rows_for_grpo_with_a_prompt_and_an_answer_are_recognised_beside_pairs_that_have_both(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text(
        '{"prompt": "2 + 2?", "answer": 4}\n{"prompt": [{"role": "user", "content": "3?"}], "answer": "3"}\n'
    )
    rows = [row for _, row in read_rows(tmp_path / "sums.jsonl")]
    assert detect(rows).format == "question_answer"
    assert [to_messages(row, "question_answer") for row in rows] == [
        [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
        [{"role": "user", "content": "3?"}, {"role": "assistant", "content": "3"}],
    ]
    assert detect([{"prompt": "p", "answer": "a", "chosen": "c", "rejected": "r"}]).format == "preference"
    with pytest.raises(RowError, match="row 3: `answer` is missing"):
        to_messages({"prompt": [{"role": "user", "content": "3?"}]}, "question_answer", 3)
