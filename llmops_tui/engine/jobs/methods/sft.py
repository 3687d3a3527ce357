"""Supervised fine-tuning: the model learns what the assistant says, and scores by how well it predicts it."""

from __future__ import annotations

from llmops_tui.engine.jobs import samples
from llmops_tui.engine.jobs.corpus import encode_rows, read_split, rehearsal_rows, require_rows
from llmops_tui.engine.jobs.labels import RowEncoder
from llmops_tui.engine.jobs.methods.labelled import LabelledMethod
from llmops_tui.engine.jobs.methods.method import Rows


class Sft(LabelledMethod):
    """Rows are conversations, or text that is learnt whole."""

    def encode(self) -> Rows:
        spec, prepared, reporter = self.work.spec, self.work.prepared, self.work.reporter
        train_rows, held_out_rows, all_rows = read_split(spec.dataset, prepared["dataset"], prepared.get("eval_dataset"), spec.seed)
        encoder = RowEncoder(self.work.tokenizer, spec.max_length, assistant_only=spec.assistant_only)
        rehearsed = rehearsal_rows(spec.keep, prepared.get("rehearsal", []), len(train_rows), spec.seed)
        train_rows = [*train_rows, *rehearsed]
        learnt = encode_rows(encoder, train_rows, reporter.beat)
        held_out = encode_rows(encoder, held_out_rows, reporter.beat)
        require_rows(learnt, "to learn from", spec.max_length)
        self.learnt, self.held_out = learnt.rows, held_out.rows
        places = {id(row): number for number, row in enumerate(all_rows, 1)}
        # Those of the data file; a rehearsed row has none there.
        self.numbers = [[places[key]] if (key := id(train_rows[place])) in places else [] for place in learnt.kept]
        reporter.log(
            f"{len(learnt.rows)} rows to learn from ({learnt.count} tokens), {len(held_out.rows)} held out; "
            f"{learnt.rows_cut} cut at {spec.max_length} tokens, {learnt.rows_without_labels} left out (no assistant token)"
            + (f"; {len(rehearsed)} of the rows are rehearsed" if rehearsed else "")
        )
        return Rows(
            prompts=samples.choose_prompts(spec.sample_prompts, held_out_rows),
            facts={
                "rows": len(learnt.rows),
                "rows_held_out": len(held_out.rows),
                "rows_cut": learnt.rows_cut,
                "rows_without_labels": learnt.rows_without_labels,
                "rows_rehearsed": len(rehearsed),
            },
        )


METHOD = Sft
