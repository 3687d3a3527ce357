"""How many tokens a run will compute, and how many of them at once, from the spec and what is known of its rows. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmops_tui.specs.train import TrainSpec

# jobs/hardware.py: the computed tokens of a pass on a CPU, where the loss is our own (jobs/loss.py).
CPU_TOKENS_A_PASS = 512
# Where nothing is known of the rows: the part of a row's tokens that is learnt from.
_LABELLED_SHARE = 0.5


@dataclass(frozen=True)
class RowFacts:
    """What is known of the rows: how many are learnt from and held out, their tokens. `source` says where it comes from.

    `mean_tokens` and `longest_tokens` are before the cut at max_length; None where nothing is known.
    """

    learnt: int | None = None
    held_out: int = 0
    mean_tokens: float | None = None
    longest_tokens: int | None = None
    source: str = "the rows were not read"


@dataclass(frozen=True)
class Workload:
    """`pass_tokens` are alive at once, `pass_width` is the longest row among them, `update_tokens` belong to one step.

    `steps` and `tokens` (real ones, over all steps) are None where the number of rows is not known. `generated_rows` answers are
    generated together for each step, of `completion_tokens` each at most; 0 where the method generates none. A step has `passes_a_step`.
    """

    pass_tokens: int
    pass_width: int
    pass_labelled: int
    update_tokens: float
    steps: int | None
    tokens: int | None
    mean_tokens: float
    held_out_tokens: int
    generated_rows: int = 0
    completion_tokens: int = 0
    passes_a_step: int = 1


def workload(
    spec: TrainSpec, rows: RowFacts, *, device: str, packed: bool, own_loss: bool, sequences: int = 1, generates: bool = False
) -> Workload:
    """What one pass, one step and the whole run compute. `own_loss`: a CPU cuts batches to passes; a row is so many `sequences`."""
    completion = spec.grpo.completion_tokens if generates else 0
    longest = min(spec.max_length, (rows.longest_tokens or spec.max_length) + completion)
    mean = min(float(longest), (rows.mean_tokens or float(longest)) + completion)
    rows_a_step = spec.micro_batch * spec.accumulation
    if packed:
        # jobs/batching.plan_packing: one sequence a pass that keeps the mean tokens of an update.
        width = max(longest, min(spec.max_length, round(rows_a_step * mean)))
        tokens, passes = width, max(1, round(rows_a_step * mean / width))
    elif device == "cpu" and own_loss:
        # jobs/batching.split_batch: pieces of rows of like length within the budget, one row at least.
        longest_piece = min(spec.micro_batch, max(1, CPU_TOKENS_A_PASS // longest)) * longest
        mean_piece = min(spec.micro_batch, max(1, int(CPU_TOKENS_A_PASS // mean))) * mean
        width, tokens = longest, max(longest_piece, round(mean_piece))
        passes = spec.accumulation * max(1, math.ceil(spec.micro_batch * mean / CPU_TOKENS_A_PASS))
    else:
        width, tokens, passes = longest, spec.micro_batch * sequences * longest, spec.accumulation
    steps = spec.max_steps
    if steps is None and rows.learnt is not None:
        answers = rows.learnt * (spec.grpo.group if generates else 1)
        steps = max(1, math.ceil(answers / spec.rows_per_update * spec.epochs))
    held_out = min(rows.held_out, spec.dataset.eval_limit)
    return Workload(
        pass_tokens=tokens,
        pass_width=width,
        pass_labelled=max(1, round(tokens * (_LABELLED_SHARE if spec.assistant_only else 1.0))),
        update_tokens=spec.rows_per_update * mean,
        steps=steps,
        tokens=None if steps is None else round(steps * spec.rows_per_update * mean),
        mean_tokens=mean,
        held_out_tokens=round(held_out * mean),
        generated_rows=rows_a_step if generates else 0,
        completion_tokens=completion,
        passes_a_step=passes,
    )
