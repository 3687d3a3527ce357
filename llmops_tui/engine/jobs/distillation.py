"""What a student learns from a teacher: to predict as it does, mixed with the rows themselves, a few rows of logits at a time.

    loss = weight · T² · KL(teacher_T ‖ student_T) + (1 − weight) · cross-entropy        (Hinton et al. 2015, arXiv:1503.02531)

summed over the labelled tokens, with softmax(z / T) on both sides of the KL; T² keeps the gradients of both parts alike. As in
loss.py no logits of a whole batch exist: hidden states meet the output matrices chunk by chunk, and the gradients of the
student's states and matrix are formed in the same pass: for a logit z they are weight · T · (student_T − teacher_T) +
(1 − weight) · (student − target).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from llmops_tui.engine.jobs.loss import LOGIT_SETTINGS, labelled_logits, labelled_states, vocabulary_chunks


@dataclass(frozen=True)
class Lesson:
    """The loss of some rows, differentiable, and its KL part (T² · KL, without weight) for the chart; sums over `tokens`."""

    loss: torch.Tensor
    distilled: torch.Tensor
    tokens: int


class _ChunkedDistillation(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped to mypy here
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        bias: torch.Tensor | None,
        teacher_hidden: torch.Tensor,
        teacher_head: torch.Tensor,
        teacher_bias: torch.Tensor | None,
        targets: torch.Tensor,
        temperature: float,
        weight: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        distilled = torch.zeros_like(total)
        of_hidden = torch.empty_like(hidden)
        of_head = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[2] else None
        for part in vocabulary_chunks(hidden, head):
            logits = functional.linear(hidden[part], head, bias).float()
            teacher_logits = functional.linear(teacher_hidden[part], teacher_head, teacher_bias).float()
            loss, kl, slope = lesson_of_logits(logits, teacher_logits, targets[part], temperature, weight)
            total += loss
            distilled += kl
            narrow = slope.to(head.dtype)
            of_hidden[part] = (narrow @ head).to(hidden.dtype)
            if of_head is not None:
                of_head += (narrow.T @ hidden[part].to(head.dtype)).float()
            if of_bias is not None:
                of_bias += slope.sum(dim=0)
        ctx.save_for_backward(
            of_hidden,
            *([] if of_head is None else [of_head.to(head.dtype)]),
            *([] if of_bias is None or bias is None else [of_bias.to(bias.dtype)]),
        )
        ctx.has = of_head is not None, of_bias is not None
        ctx.mark_non_differentiable(distilled)
        return total, distilled

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_hidden, *others = ctx.saved_tensors
        with_head, with_bias = ctx.has
        scaled = [gradient * outer[0].to(gradient.dtype) for gradient in others]
        of_head = scaled[0] if with_head else None
        of_bias = scaled[-1] if with_bias else None
        return of_hidden * outer[0].to(of_hidden.dtype), of_head, of_bias, None, None, None, None, None, None


def lesson_of_logits(
    logits: torch.Tensor, teacher_logits: torch.Tensor, targets: torch.Tensor, temperature: float, weight: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`(loss, T² · KL, gradient of the loss by the logits)`, sums over positions, of float32 logits (positions, vocabulary)."""
    student = functional.log_softmax(logits / temperature, dim=-1)
    teacher = functional.log_softmax(teacher_logits / temperature, dim=-1)
    wanted = teacher.exp()
    kl = temperature**2 * (wanted * (teacher - student)).sum()
    slope = (student.exp() - wanted).mul_(weight * temperature)
    loss = weight * kl
    if weight < 1.0:
        plain = functional.log_softmax(logits, dim=-1)
        index = targets.unsqueeze(1)
        loss = loss - (1.0 - weight) * plain.gather(1, index).sum()
        hard = plain.exp_()
        hard.scatter_add_(1, index, torch.full_like(index, -1, dtype=hard.dtype))
        slope.add_(hard, alpha=1.0 - weight)
    return loss, kl, slope


def distil(
    student: torch.nn.Module, teacher: torch.nn.Module, batch: dict[str, torch.Tensor], *, temperature: float, weight: float
) -> Lesson:
    """The lesson of one batch. Both are causal LMs of one vocabulary (adapters within); the teacher gets no gradient."""
    chunked = _has_linear_head(student) and _has_linear_head(teacher)
    hear = labelled_states if chunked else labelled_logits
    with torch.no_grad():
        taught, _, _ = hear(teacher, batch)
    said, targets, _ = hear(student, batch)
    if chunked:
        head, teacher_head = student.get_output_embeddings(), teacher.get_output_embeddings()
        loss, distilled = _ChunkedDistillation.apply(
            said, head.weight, head.bias, taught, teacher_head.weight, teacher_head.bias, targets, temperature, weight
        )
        return Lesson(loss, distilled, len(targets))
    return Lesson(*_from_whole_logits(said, taught, targets, temperature, weight), len(targets))


def _from_whole_logits(
    logits: torch.Tensor, teacher_logits: torch.Tensor, targets: torch.Tensor, temperature: float, weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """For a model that does more to its logits than its output matrix: by autograd, all positions at once."""
    student = functional.log_softmax(logits.float() / temperature, dim=-1)
    teacher = functional.log_softmax(teacher_logits.float() / temperature, dim=-1)
    distilled = temperature**2 * functional.kl_div(student, teacher, reduction="sum", log_target=True)
    hard = functional.cross_entropy(logits.float(), targets, reduction="sum")
    return weight * distilled + (1.0 - weight) * hard, distilled.detach()


def _has_linear_head(model: torch.nn.Module) -> bool:
    config = model.config.get_text_config()
    scaled = any(getattr(config, name, None) not in (None, 1.0) for name in LOGIT_SETTINGS)
    return type(model.get_output_embeddings()) is torch.nn.Linear and not scaled
