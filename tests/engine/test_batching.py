"""Rows of like length meet, packed rows fill their sequence, and nothing is lost or doubled."""

from __future__ import annotations

import random

import pytest

from llmops_tui.engine.jobs.batching import LengthGroupedOrder, pack_rows, plan_packing

_CHANCE = random.Random(7)
LENGTHS = [_CHANCE.randint(10, 900) for _ in range(643)]


def computed(order: list[int], size: int) -> int:
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return sum(max(LENGTHS[row] for row in batch) * len(batch) for batch in batches)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_each_pass_meets_every_row_once(epoch: int) -> None:
    assert sorted(LengthGroupedOrder(LENGTHS, 8, seed=3).order(epoch)) == list(range(len(LENGTHS)))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    order = LengthGroupedOrder(LENGTHS, 8, seed=3)
    order.set_epoch(2)
    assert list(order) == LengthGroupedOrder(LENGTHS, 8, seed=3).order(2)
    assert order.order(0) != order.order(1)
    assert order.order(0) != LengthGroupedOrder(LENGTHS, 8, seed=4).order(0)


def test_grouping_by_length_computes_far_less_padding_than_random_batches() -> None:
    random_order = LengthGroupedOrder(LENGTHS, 4, seed=0, grouped=False).order(0)
    grouped = LengthGroupedOrder(LENGTHS, 4, seed=0).order(0)
    assert computed(random_order, 4) > 1.4 * sum(LENGTHS)
    assert computed(grouped, 4) < 1.1 * sum(LENGTHS)


def test_the_longest_row_leads_where_memory_is_at_stake() -> None:
    order = LengthGroupedOrder(LENGTHS, 4, seed=0, longest_first=True).order(0)
    assert max(LENGTHS) in [LENGTHS[row] for row in order[:4]]


def test_packing_loses_no_row_and_overfills_no_sequence() -> None:
    packs = pack_rows(LENGTHS, 1024)
    assert sorted(row for pack in packs for row in pack) == list(range(len(LENGTHS)))
    assert all(sum(LENGTHS[row] for row in pack) <= 1024 for pack in packs)
    assert len(packs) * 1024 < 1.05 * sum(LENGTHS)


@pytest.mark.parametrize("rows_per_update", [1, 4, 16, 64])
def test_packing_keeps_the_tokens_of_an_update(rows_per_update: int) -> None:
    plan = plan_packing(LENGTHS, rows_per_update, 1024)
    wanted = rows_per_update * sum(LENGTHS) / len(LENGTHS)
    assert max(LENGTHS) <= plan.length <= 1024
    if wanted >= max(LENGTHS):
        assert 0.75 < plan.length * plan.accumulation / wanted < 1.34
