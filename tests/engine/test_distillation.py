"""The distillation loss in chunks is torch's own formula on whole logits, in its value and in every gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from llmops_tui.engine.jobs import loss as loss_module
from llmops_tui.engine.jobs.distillation import distil
from llmops_tui.engine.jobs.healing import loss_of_the_rows
from llmops_tui.engine.jobs.labels import IGNORED
from tests.engine.tiny_model import make_model


def make_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 256, (3, 20), generator=generator)
    labels = ids.clone()
    labels[:, :6] = IGNORED
    mask = torch.ones_like(ids)
    labels[2, 15:], mask[2, 15:] = IGNORED, 0
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def by_torch(
    student: torch.nn.Module, teacher: torch.nn.Module, batch: dict[str, torch.Tensor], temperature: float, weight: float
) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    wanted = batch["labels"][:, 1:]
    chosen = wanted != IGNORED
    logits = student(**inputs).logits[:, :-1][chosen]
    with torch.no_grad():
        taught = teacher(**inputs).logits[:, :-1][chosen]
    kl = functional.kl_div((logits / temperature).log_softmax(-1), (taught / temperature).softmax(-1), reduction="sum")
    return weight * temperature**2 * kl + (1 - weight) * functional.cross_entropy(logits, wanted[chosen], reduction="sum")


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (2.0, 0.7), (0.5, 0.0)])
@pytest.mark.parametrize("squashed", [False, True])
def test_value_and_gradients_are_those_of_torch(monkeypatch: pytest.MonkeyPatch, temperature: float, weight: float, squashed: bool) -> None:
    monkeypatch.setattr(loss_module, "_CHUNK_CPU", 1)  # 16 positions a chunk: several chunks, the last one short
    student, teacher = make_model(0), make_model(1)
    if squashed:
        student.config.final_logit_softcapping = 30.0  # Llama does nothing with it: the whole logits give the same
    batch = make_batch()
    lesson = distil(student, teacher, batch, temperature=temperature, weight=weight)
    (lesson.loss / 7).backward()
    ours = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()
    expected = by_torch(student, teacher, batch, temperature, weight)
    (expected / 7).backward()
    assert lesson.tokens == 14 + 14 + 9
    assert float(lesson.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert not lesson.distilled.requires_grad
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_frozen_output_matrix_gets_no_gradient_and_the_rest_the_same() -> None:
    student, teacher = make_model(0), make_model(1)
    student.get_output_embeddings().weight.requires_grad_(False)
    distil(student, teacher, make_batch(), temperature=1.0, weight=0.5).loss.backward()
    assert student.get_output_embeddings().weight.grad is None
    assert float(student.model.layers[0].mlp.up_proj.weight.grad.abs().sum()) > 0


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    model = make_model(0)
    lesson = distil(model, model, make_batch(), temperature=2.0, weight=1.0)
    assert float(lesson.loss.detach()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("squashed", [False, True])
def test_healing_without_a_teacher_learns_what_weight_zero_means(squashed: bool) -> None:
    model, batch = make_model(0), make_batch()
    if squashed:
        model.config.final_logit_softcapping = 30.0  # Llama does nothing with it: the whole logits give the same
    taught = distil(model, make_model(1), batch, temperature=1.0, weight=0.0).loss
    torch.testing.assert_close(loss_of_the_rows(model, batch), taught)
