"""Rows divided for a cross-validation: each is held out once, and what belongs together stays together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops_tui.data.folds import groups_of
from llmops_tui.data.rows import RowError
from llmops_tui.data.split import split_rows
from llmops_tui.errors import UsageError
from llmops_tui.specs.train import DatasetChoice


def choice(fold: int, folds: int = 4) -> DatasetChoice:
    return DatasetChoice(path="rows.jsonl", fold=fold, folds=folds, eval_limit=1000)


def keys(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


def test_every_row_is_held_out_by_exactly_one_fold_and_learnt_by_all_others() -> None:
    splits = [split_rows(21, choice(fold), seed=3) for fold in range(1, 5)]
    held_out = [index for _, held in splits for index in held]
    assert sorted(held_out) == list(range(21))
    assert all(sorted([*learnt, *held]) == list(range(21)) for learnt, held in splits)
    assert {len(held) for _, held in splits} == {5, 6}


def test_another_seed_divides_the_rows_otherwise() -> None:
    assert split_rows(40, choice(1), seed=0) == split_rows(40, choice(1), seed=0)
    assert split_rows(40, choice(1), seed=0)[1] != split_rows(40, choice(1), seed=1)[1]


def test_rows_of_a_group_and_rows_that_are_equal_are_never_divided_not_even_by_a_chain_of_both() -> None:
    # Row 0 and 1 are of one group, 1 and 2 are equal, 2 and 3 of one group again.
    content = keys("a", "b", "b", "c", "d", "e", "f", "g")
    groups = keys("p", "p", "q", "q", "r", "s", "t", "u")
    for fold in (1, 2):
        _, held = split_rows(8, choice(fold, 2), 0, content, groups)
        assert {0, 1, 2, 3} <= set(held) or not {0, 1, 2, 3} & set(held)


def test_without_folds_a_group_is_all_learnt_or_all_held_out_too() -> None:
    own = DatasetChoice(path="rows.jsonl", eval_fraction=0.3)
    groups = [str(index // 4).encode() for index in range(40)]
    _, held = split_rows(40, own, 0, [str(index).encode() for index in range(40)], groups)
    assert held
    assert all(groups.count(groups[index]) == sum(groups[other] == groups[index] for other in held) for index in held)


def test_more_folds_than_groups_are_refused_with_how_many_there_are() -> None:
    with pytest.raises(UsageError, match="6 rows in 3 groups cannot be divided into 4 folds"):
        split_rows(6, choice(1), 0, keys("a", "a", "b", "b", "c", "c"))


def test_a_row_without_the_group_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ({"text": "a", "who": "x"}, {"text": "b"})))
    with pytest.raises(RowError, match="row 2: has no 'who'"):
        groups_of(path, "who")
    assert groups_of(path, "") is None


def test_what_a_fold_cannot_mean_is_refused() -> None:
    for values, words in (
        ({"fold": 3, "folds": 2}, "fold 3 of 2 there is not"),
        ({"fold": 1}, "belong together"),
        ({"fold": 1, "folds": 2, "eval_path": "x.jsonl"}, "takes its held-out rows from the dataset itself"),
    ):
        with pytest.raises(ValueError, match=words):
            DatasetChoice(path="rows.jsonl", **values)  # type: ignore[arg-type]
