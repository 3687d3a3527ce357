"""Held-out scores: what they are means of, and how sure they are."""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
import pytest
import torch

from llmops_tui.engine.jobs.labels import IGNORED, EncodedRow
from llmops_tui.engine.jobs.scoring import bootstrap_ratios, score_rows
from tests.engine.tiny_model import make_model


def rows(*shapes: tuple[int, int]) -> list[EncodedRow]:
    generator = torch.Generator().manual_seed(5)
    made = []
    for length, labelled in shapes:
        ids = torch.randint(0, 250, (length,), generator=generator).tolist()
        labels = [IGNORED] * (length - labelled) + ids[length - labelled :]
        made.append(EncodedRow(array("l", ids), array("l", labels), cut=False))
    return made


def score(model: Any, encoded: list[EncodedRow], rows_a_pass: int = 64, token_budget: int = 10_000) -> Any:
    return score_rows(model, encoded, pad_id=256, rows_a_pass=rows_a_pass, token_budget=token_budget, progress=lambda done, total: None)


def test_a_score_is_the_mean_over_tokens_and_not_over_rows() -> None:
    model = make_model().eval()
    encoded = rows((40, 30), (9, 2), (21, 11))
    sums = []
    for row in encoded:
        batch = {"input_ids": torch.tensor([row.input_ids.tolist()]), "labels": torch.tensor([row.labels.tolist()])}
        sums.append(model(**batch).loss.item() * row.labelled)
    result = score(model, encoded)
    assert result.loss == pytest.approx(sum(sums) / 43, abs=1e-5)
    assert result.perplexity == pytest.approx(math.exp(result.loss))
    assert (result.rows, result.tokens) == (3, 43)


@pytest.mark.parametrize(("rows_a_pass", "token_budget"), [(1, 10_000), (2, 10_000), (64, 1), (64, 50)])
def test_how_rows_are_passed_does_not_change_the_score(rows_a_pass: int, token_budget: int) -> None:
    encoded = rows((40, 30), (9, 2), (21, 11), (33, 5), (10, 9))
    whole, parted = score(make_model(), encoded), score(make_model(), encoded, rows_a_pass, token_budget)
    assert parted.loss == pytest.approx(whole.loss, abs=1e-5)
    assert parted.token_accuracy == whole.token_accuracy
    assert parted.loss_interval == pytest.approx(whole.loss_interval, abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_model_in_the_mode_it_was_in(training: bool) -> None:
    model = make_model().train(training)
    score(model, rows((9, 2)))
    assert model.training is training


def test_progress_counts_real_tokens_up_to_their_total() -> None:
    seen = []
    score_rows(
        make_model(),
        rows((40, 30), (9, 2)),
        pad_id=256,
        rows_a_pass=1,
        token_budget=99,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(40, 49), (49, 49)]


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        counts = generator.integers(20, 200, size=60).astype(float)
        values = counts * generator.normal(3.0, 0.5, size=60)
        ((low, high),) = bootstrap_ratios([values], counts)
        hits += low <= 3.0 <= high
    assert 86 <= hits <= 99  # 95 expected; a percentile bootstrap of 60 rows is a little narrow


def test_the_same_rows_give_the_same_interval() -> None:
    counts = np.array([3.0, 8.0, 5.0])
    assert bootstrap_ratios([counts * 2, counts * counts], counts) == bootstrap_ratios([counts * 2, counts * counts], counts)


def test_a_loss_that_is_not_a_number_has_an_interval_that_is_none() -> None:
    counts = np.array([3.0, 8.0])
    (lost, kept) = bootstrap_ratios([np.array([math.nan, 1.0]), counts], counts)
    assert math.isnan(lost[0])
    assert kept == (1.0, 1.0)
