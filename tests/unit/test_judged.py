"""Pairs and judged answers become a prompt and its continuations; what cannot be compared says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.data.formats import detect
from llmops_tui.data.judged import parse_row, texts_of
from llmops_tui.data.rows import RowError
from llmops_tui.data.scan import scan
from llmops_tui.data.split import row_key
from llmops_tui.errors import UsageError
from tests.catalog_files import write_rows

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi?"}
GOOD = {"role": "assistant", "content": "Yes."}
BAD = {"role": "assistant", "content": "No."}
PAIR = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}


@pytest.mark.parametrize(
    ("row", "parsed"),
    [
        ({"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}, PAIR),
        ({"system": "Be brief.", "question": "Hi?", "chosen": "Yes.", "rejected": "No."}, {**PAIR, "prompt": [SYSTEM, USER]}),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, PAIR),
        ({"prompt": [USER], "chosen": "Yes.", "rejected": "No."}, PAIR),
        ({"prompt": "Hi?", "chosen": [GOOD], "rejected": [BAD]}, PAIR),
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, PAIR),
        ({"prompt": "Hi?", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, PAIR),
        ({"chosen": [USER, GOOD, USER, GOOD], "rejected": [USER, GOOD, USER, BAD]}, {**PAIR, "prompt": [USER, GOOD, USER]}),
        ({"chosen": [USER, GOOD, USER, GOOD], "rejected": [USER, BAD]}, {**PAIR, "chosen": [GOOD, USER, GOOD]}),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, {**PAIR, "rejected": [GOOD]}),
        ({"prompt": "Hi?", "completion": "Yes.", "label": True}, {"prompt": [USER], "completion": [GOOD], "label": True}),
        ({"prompt": [USER], "completion": [BAD], "label": False}, {"prompt": [USER], "completion": [BAD], "label": False}),
        ({"prompt": "Hi?", "response": "Yes.", "label": "True"}, {"prompt": [USER], "completion": [GOOD], "label": True}),
    ],
)
def test_each_shape_is_detected_and_becomes_a_prompt_and_its_continuations(row: dict[str, object], parsed: dict[str, object]) -> None:
    assert parse_row(row, detect([row]).format) == parsed


@pytest.mark.parametrize(
    ("row", "row_format", "reason"),
    [
        ({"prompt": "Hi?", "chosen": "Yes."}, "preference", "`rejected` is missing"),
        ({"prompt": "Hi?", "chosen": "Yes.", "rejected": None}, "preference", "`rejected` is null, not text"),
        ({"prompt": "Hi?", "chosen": "Yes.", "rejected": " "}, "preference", "`rejected` is empty"),
        ({"chosen": "Yes.", "rejected": "No."}, "preference", "`prompt` is missing"),
        ({"prompt": "Hi?", "chosen": [GOOD], "rejected": "No."}, "preference", "one of `chosen` and `rejected` is a list"),
        ({"chosen": [USER, GOOD], "rejected": [BAD]}, "preference", "`rejected`: turn 1 (assistant) cannot follow nothing"),
        ({"chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "Ho?"}, BAD]}, "preference",
         "`chosen` and `rejected` do not begin with the same turn"),
        ({"chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, {"role": "user", "content": "Ho?"}, BAD]}, "preference",
         "turn 2 differs between `chosen` and `rejected` and is no assistant turn"),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": []}, "preference", "`rejected`, counted from the prompt's first turn: the last"),
        ({"prompt": [USER, GOOD], "chosen": [GOOD], "rejected": [BAD]}, "preference", "`prompt`: turn 3 (assistant) cannot follow"),
        ({"prompt": "Hi?", "completion": "Yes."}, "kto", "`label` is missing"),
        ({"prompt": "Hi?", "completion": "Yes.", "label": 1}, "kto", "`label` is 1, not true or false"),
        ({"prompt": "Hi?", "completion": "Yes.", "label": "good"}, "kto", "`label` is 'good', not true or false"),
        ({"prompt": "Hi?", "label": True}, "kto", "`completion` is missing"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_compared_gives_its_number_and_reason(row: dict[str, object], row_format: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse_row(row, row_format, 17)
    assert caught.value.row_number == 17
    assert caught.value.reason.startswith(reason)


def test_two_pairs_of_one_prompt_are_never_on_both_sides_of_the_split() -> None:
    one, other = (parse_row({"prompt": "Hi?", "chosen": text, "rejected": "No."}, "preference") for text in ("Yes.", "Sure."))
    assert row_key(one) == row_key(other)


def test_the_prompt_of_a_pair_counts_once() -> None:
    assert texts_of(parse_row({"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}, "preference")) == ["Hi?", "Yes.", "No."]


def test_a_file_of_pairs_names_its_bad_rows_and_counts_pairs_with_nothing_to_prefer(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"{number}?", "chosen": "Yes.", "rejected": "No."} for number in range(5)]
    rows[1]["rejected"] = "Yes."
    found = scan(write_rows(tmp_path / "pairs.jsonl", rows))
    assert (found.format, found.rows, found.equal_sides) == ("preference", 5, 1)
    del rows[3]["rejected"]
    with pytest.raises(UsageError, match=r"pairs.jsonl: row 4: `rejected` is missing"):
        scan(write_rows(tmp_path / "pairs.jsonl", rows)).require_good()
