"""Methods that learn from pairs (dpo, orpo, reward): their rows."""

from __future__ import annotations

from dataclasses import dataclass

from llmops_tui.data.formats import Conversation
from llmops_tui.data.judged import AnyRow
from llmops_tui.engine.jobs import samples
from llmops_tui.engine.jobs.corpus import read_any_split
from llmops_tui.engine.jobs.judged_rows import Counted, Pair, encode_pairs, require_answers
from llmops_tui.engine.jobs.labels import RowEncoder
from llmops_tui.engine.jobs.methods.method import Rows, Work


@dataclass(frozen=True)
class PairRows:
    """Both halves of the split, and what train.py wants to know of them."""

    learnt: list[Pair]
    held_out: list[Pair]
    rows: Rows

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer side of each learnt pair."""
        return [max(len(pair.chosen.input_ids), len(pair.rejected.input_ids)) for pair in self.learnt]


def read_pairs(work: Work, *, sampled: bool = True) -> PairRows:
    """Read and tokenise. Raises RowError, UsageError where no pair is left, ConflictError where the rows have changed."""
    spec, reporter, counted = work.spec, work.reporter, Counted()
    learnt_rows, held_out_rows, _ = read_any_split(spec.dataset, work.prepared["dataset"], work.prepared.get("eval_dataset"), spec.seed)
    encoder = RowEncoder(work.tokenizer, spec.max_length)
    learnt = encode_pairs(encoder, learnt_rows, counted, reporter.beat)
    held_out = encode_pairs(encoder, held_out_rows, counted, reporter.beat)
    require_answers(len(learnt), spec.max_length)
    reporter.log(
        f"{len(learnt)} pairs to learn from, {len(held_out)} held out, {counted.tokens} tokens; "
        f"{counted.rows_cut} cut at {spec.max_length} tokens, {counted.rows_left_out} left out (no answer left)"
    )
    prompts = samples.choose_prompts(spec.sample_prompts, [shown_prompt(row) for row in held_out_rows]) if sampled else []
    return PairRows(learnt, held_out, Rows(prompts=prompts, facts=counted.facts(len(learnt), len(held_out))))


def shown_prompt(row: AnyRow) -> Conversation:
    """A judged row as a conversation whose last turn is an answer, as `choose_prompts` takes them."""
    assert isinstance(row, dict)  # preflight let no other format through
    assert "prompt" in row
    return [*row["prompt"], (row["completion"] if "completion" in row else row["chosen"])[0]]
