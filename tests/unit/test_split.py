"""The split is the same everywhere, and no row is both learnt from and scored."""

from __future__ import annotations

import pytest

from llmops_tui.data.split import held_out_file_rows, row_key, split_rows
from llmops_tui.specs.train import DatasetChoice


def choice(**fields: object) -> DatasetChoice:
    return DatasetChoice.model_validate({"path": "rows.jsonl", **fields})


def test_the_split_of_a_seed_never_changes() -> None:
    # Pinned: a library or Python version that changes these would let a later evaluation meet rows it was trained on.
    assert split_rows(10, choice(eval_fraction=0.2), 0) == ([1, 2, 4, 7, 5, 0, 8, 3], [6, 9])


def test_every_row_is_either_learnt_or_held_out() -> None:
    learnt, held_out = split_rows(500, choice(), 7)
    assert len(held_out) == 50
    assert sorted(learnt + held_out) == list(range(500))


def test_seeds_differ() -> None:
    assert split_rows(500, choice(), 1)[1] != split_rows(500, choice(), 2)[1]


@pytest.mark.parametrize("later", [{"eval_limit": 1000}, {"limit": 40}, {"limit": 40, "eval_limit": 5}, {}])
def test_whatever_limits_an_evaluation_sets_it_never_scores_a_learnt_row(later: dict[str, int]) -> None:
    learnt, _ = split_rows(500, choice(limit=100, eval_limit=3), 7)
    _, scored = split_rows(500, choice(**later), 7)
    assert scored
    assert not set(learnt) & set(scored)


def test_the_limit_counts_learnt_and_held_out_rows() -> None:
    learnt, held_out = split_rows(500, choice(limit=100, eval_fraction=0.2), 7)
    assert (len(learnt), len(held_out)) == (80, 20)


def test_at_most_eval_limit_rows_are_scored() -> None:
    assert len(split_rows(500, choice(eval_limit=5), 7)[1]) == 5


def test_equal_rows_are_on_one_side_of_the_split() -> None:
    keys = [bytes([index % 25]) for index in range(500)]
    learnt, held_out = split_rows(500, choice(eval_limit=500), 3, keys)
    assert held_out
    assert not {keys[index] for index in learnt} & {keys[index] for index in held_out}


def test_rows_that_are_all_equal_leave_nothing_to_hold_out() -> None:
    assert split_rows(5, choice(eval_fraction=0.5), 0, [b"same"] * 5)[1] == []


def test_one_row_is_learnt_and_two_are_split() -> None:
    assert split_rows(1, choice(), 0) == ([0], [])
    assert [len(part) for part in split_rows(2, choice(), 0)] == [1, 1]
    assert split_rows(0, choice(), 0) == ([], [])


def test_a_file_of_its_own_for_held_out_rows_leaves_all_rows_to_learn_from() -> None:
    own = choice(eval_path="held.jsonl", eval_limit=4)
    learnt, held_out = split_rows(20, own, 0)
    assert (len(learnt), held_out) == (20, [])
    assert len(set(held_out_file_rows(9, own, 0))) == 4


def test_the_key_of_a_row_is_what_it_teaches() -> None:
    one = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert row_key(one) == row_key(list(one))  # type: ignore[arg-type]
    assert row_key(one) != row_key(one[:1])  # type: ignore[arg-type]
    assert row_key({"text": "a"}) != row_key({"text": "b"})
