"""A pruned model learns again what it was: a short distillation from the unpruned one, on the rows at hand.

A plain loop, read top to bottom, with checkpoints of its own (heal_checkpoint.py). All weights but the embeddings and the
output layer are trained, which pruning did not touch; weights that were zeroed stay zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch

from llmops_tui.engine.jobs.batching import Batch, LengthGroupedOrder, PaddingCollator, real_tokens, split_batch
from llmops_tui.engine.jobs.distillation import distil
from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.heal_checkpoint import HealBooks, Healed, save, take_up
from llmops_tui.engine.jobs.labels import EncodedRow
from llmops_tui.engine.jobs.loss import has_plain_head, labelled_logits, labelled_loss_sum
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.engine.jobs.sparsity import reapply
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.prune import HealChoice

_WARMUP = 0.05
_FLOOR = 0.05  # of the highest rate, where the cosine ends
_MAX_GRAD_NORM = 1.0


def heal(
    student: Any,
    teacher: Any | None,
    rows: Sequence[EncodedRow],
    choice: HealChoice,
    plan: Plan,
    *,
    pad_id: int,
    seed: int,
    books: HealBooks,
    reporter: Reporter,
) -> dict[str, float | int]:
    """Train `student` in place for `choice.steps` updates, from a checkpoint on where `books` names one; without a teacher, on the
    rows alone (`choice.weight` 0).

    Returns what it cost; raises LlmopsError where the loss is no number.
    """
    if teacher is not None:
        teacher.requires_grad_(False)
        teacher.eval()
    student.requires_grad_(True)
    student.get_input_embeddings().requires_grad_(False)
    student.get_output_embeddings().requires_grad_(False)
    student.train()
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=choice.learning_rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_scale(step, choice.steps))
    healed = take_up(books.resume_from, student, optimizer, schedule) if books.resume_from else Healed(step=0, tokens=0, seconds=0.0)
    batches = islice(_batches(rows, choice.batch, pad_id, seed), healed["step"], None)
    reporter.phase("healing", done=healed["step"], total=choice.steps)
    began, tokens = time.monotonic() - healed["seconds"], healed["tokens"]
    for step in range(healed["step"] + 1, choice.steps + 1):
        started, batch = time.monotonic(), next(batches)
        labelled = int((batch["labels"][:, 1:] >= 0).sum())
        loss = distilled = 0.0
        for piece in [batch] if plan.token_budget is None else split_batch(batch, plan.token_budget):
            on_device = {name: value.to(plan.device) for name, value in piece.items()}
            if teacher is None:
                learnt = loss_of_the_rows(student, on_device)
            else:
                lesson = distil(student, teacher, on_device, temperature=choice.temperature, weight=choice.weight)
                learnt = lesson.loss
                distilled += float(lesson.distilled) / labelled
            (learnt / labelled).backward()
            loss += float(learnt.detach()) / labelled
            reporter.beat(step - 1, choice.steps)
        norm = float(torch.nn.utils.clip_grad_norm_(trained, _MAX_GRAD_NORM))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise LlmopsError(f"healing diverged at step {step}: loss {loss}, gradient {norm}", "lower heal.learning_rate")
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        reapply(student, books.pruned.masks)
        real, seconds = real_tokens(batch), time.monotonic() - started
        tokens += real
        reporter.beat(step, choice.steps, at_once=True)
        values = {
            "train/loss": loss, "train/grad_norm": norm, "train/learning_rate": rate, "train/tokens": tokens,
            "perf/tokens_per_second": real / seconds, "perf/step_seconds": seconds,
        }  # fmt: skip
        reporter.events.metrics(step, values if teacher is None else {**values, "train/distill_loss": distilled})
        print(f"healing {step}/{choice.steps}  loss {loss:.4f}  {real / seconds:.0f} tokens/s  gradient {norm:.2f}", flush=True)
        if choice.checkpoint_every and (step % choice.checkpoint_every == 0 or step == choice.steps):
            save(books, Healed(step=step, tokens=tokens, seconds=time.monotonic() - began), student, optimizer, schedule, reporter)
    student.eval()
    return {"heal_steps": choice.steps, "heal_tokens": tokens, "heal_seconds": round(time.monotonic() - began, 3)}


def loss_of_the_rows(model: Any, batch: Batch) -> torch.Tensor:
    """Summed negative log-likelihood of the labelled tokens, for a model of any head."""
    if has_plain_head(model):
        return labelled_loss_sum(model, batch)
    logits, targets, _ = labelled_logits(model, batch)
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def rate_scale(step: int, steps: int) -> float:
    """Share of the highest rate at a step counted from 0: a linear rise over 5 %, then a cosine down to 5 %."""
    rise = max(1, round(_WARMUP * steps))
    if step < rise:
        return (step + 1) / rise
    along = (step - rise) / max(1, steps - rise)
    return _FLOOR + (1.0 - _FLOOR) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, along)))


def _batches(rows: Sequence[EncodedRow], size: int, pad_id: int, seed: int) -> Iterator[Batch]:
    """Rows of like length together, pass after pass, without end."""
    order = LengthGroupedOrder([len(row.input_ids) for row in rows], size, seed)
    collate = PaddingCollator(pad_id)
    epoch = 0
    while True:
        indices = order.order(epoch)
        for start in range(0, len(indices), size):
            part = [rows[index] for index in indices[start : start + size]]
            yield collate([{"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in part])
        epoch += 1
