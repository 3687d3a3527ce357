"""Our loss is the model's own, number for number and gradient for gradient, in passes, accumulated and packed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmops_tui.engine.jobs import loss as loss_module
from llmops_tui.engine.jobs.batching import PaddingCollator, split_batch
from llmops_tui.engine.jobs.labels import IGNORED
from llmops_tui.engine.jobs.loss import has_plain_head, labelled_loss_sum, labelled_scores
from tests.engine.tiny_model import make_model

ROWS = [(30, 5), (17, 9), (23, 22), (8, 3)]  # tokens of a row, the last so many labelled


@pytest.fixture(params=["head frozen, as under LoRA", "head trained", "head of its own, with a bias, trained"])
def model(request: pytest.FixtureRequest) -> Any:
    """The head is the embeddings' own matrix, but in the last case."""
    model = make_model()
    if "own" in request.param:
        torch.manual_seed(3)
        model.set_output_embeddings(torch.nn.Linear(32, 259))
    model.requires_grad_(True)
    model.get_output_embeddings().weight.requires_grad_("frozen" not in request.param)
    return model


def rows() -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for length, labelled in ROWS:
        ids = torch.randint(0, 250, (length,), generator=generator).tolist()
        made.append({"input_ids": ids, "labels": [IGNORED] * (length - labelled) + ids[length - labelled :]})
    return made


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_equal(ours: dict[str, torch.Tensor], plain: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == plain.keys()
    assert plain
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk_elements", [1, 259 * 20, 1 << 23])
def test_loss_and_gradients_equal_those_of_transformers(model: Any, monkeypatch: pytest.MonkeyPatch, chunk_elements: int) -> None:
    monkeypatch.setattr(loss_module, "_CHUNK_CPU", chunk_elements)
    batch = PaddingCollator(256)(rows())
    plain = model(**batch).loss
    ours = labelled_loss_sum(model, batch) / sum(labelled for _, labelled in ROWS)
    assert abs(ours.item() - plain.item()) < 1e-5
    assert_equal(gradients(model, ours), gradients(model, model(**batch).loss))


def test_a_batch_in_passes_without_padding_gives_the_same_loss_and_gradients(model: Any) -> None:
    batch = PaddingCollator(256)(rows())
    pieces = split_batch(batch, 46)
    assert [piece["input_ids"].shape for piece in pieces] == [(1, 30), (2, 23), (1, 8)]
    assert ["attention_mask" in piece for piece in pieces] == [False, True, False]
    count = sum(labelled for _, labelled in ROWS)
    ours = sum((labelled_loss_sum(model, piece) for piece in pieces), torch.zeros(())) / count
    assert_equal(gradients(model, ours), gradients(model, model(**batch).loss))


def test_packed_rows_see_only_themselves(model: Any) -> None:
    one_each = PaddingCollator(256)(rows())
    packed = {
        "input_ids": [token for row in rows() for token in row["input_ids"]],
        "labels": [label for row in rows() for label in row["labels"]],
        "seq_lengths": [length for length, _ in ROWS],
    }
    batch = PaddingCollator(256)([packed])
    assert batch["position_ids"][0, ROWS[0][0]] == 0
    apart, together = labelled_loss_sum(model, one_each), labelled_loss_sum(model, batch)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-4)
    assert_equal(gradients(model, labelled_loss_sum(model, batch) / 39), gradients(model, labelled_loss_sum(model, one_each) / 39))


def test_scores_are_the_loss_and_hits_of_each_row(model: Any) -> None:
    batch = PaddingCollator(256)(rows())
    scores = labelled_scores(model, batch)
    torch.testing.assert_close(scores.loss.sum(), labelled_loss_sum(model, batch).detach())
    assert [int((scores.row == row).sum()) for row in range(4)] == [labelled for _, labelled in ROWS]
    top = model(**batch).logits[:, :-1].argmax(-1)
    labels = batch["labels"][:, 1:]
    assert int(scores.correct.sum()) == int(((top == labels) & (labels != IGNORED)).sum())


def test_a_batch_without_any_label_has_loss_zero_and_can_be_trained_on(model: Any) -> None:
    batch = PaddingCollator(256)(rows())
    batch["labels"][:] = IGNORED
    loss = labelled_loss_sum(model, batch)
    loss.backward()
    assert loss.item() == 0.0


def test_a_model_that_squashes_its_logits_is_not_given_our_loss_but_scored_by_its_own(model: Any) -> None:
    assert has_plain_head(model)
    model.config.final_logit_softcapping = 30.0
    assert not has_plain_head(model)
    batch = PaddingCollator(256)(rows())
    torch.testing.assert_close(labelled_scores(model, batch).loss.mean(), model(**batch).loss.detach(), rtol=1e-5, atol=1e-5)
