"""Pretraining on raw text, continued or from scratch: the model learns every token, in blocks of `max_length`."""

from __future__ import annotations

from llmops_tui.data.split import drawn_rows
from llmops_tui.engine.jobs import samples
from llmops_tui.engine.jobs.blocks import cut_into_blocks, tokenised
from llmops_tui.engine.jobs.corpus import Row, read_split, rehearsal_rows
from llmops_tui.engine.jobs.methods.labelled import LabelledMethod
from llmops_tui.engine.jobs.methods.method import Rows
from llmops_tui.errors import UsageError


class Pretrain(LabelledMethod):
    """Rows are documents. What is held out is scored in blocks too, so that a loss is one of whole documents in their context."""

    def encode(self) -> Rows:
        work, spec = self.work, self.work.spec
        train_rows, held_out_rows, all_rows = read_split(
            spec.dataset, work.prepared["dataset"], work.prepared.get("eval_dataset"), spec.seed
        )
        rehearsed = rehearsal_rows(spec.keep, work.prepared.get("rehearsal", []), len(train_rows), spec.seed)
        if rehearsed:  # blocks are cut from what follows one another: so that they mix, the documents must
            train_rows = [*train_rows, *rehearsed]
            train_rows = [train_rows[place] for place in drawn_rows(len(train_rows), len(train_rows), spec.seed)]
        texts = _texts(train_rows)
        learnt = cut_into_blocks(tokenised(work.tokenizer, texts, work.reporter.beat), spec.max_length)
        held_out = cut_into_blocks(tokenised(work.tokenizer, _texts(held_out_rows), work.reporter.beat), spec.max_length)
        if not learnt:
            raise UsageError("no text is left to learn from: the rows hold no two tokens", "check the rows and their format")
        self.learnt = [block.row for block in learnt]
        self.held_out = [block.row for block in held_out]
        # Those of the data file; a rehearsed document has none there.
        places = {id(row): number for number, row in enumerate(all_rows, 1)}
        self.numbers = [[places[key] for place in block.documents if (key := id(train_rows[place])) in places] for block in learnt]
        tokens = sum(len(row.input_ids) for row in self.learnt)
        work.reporter.log(
            f"{len(texts)} documents, {tokens} tokens in {len(learnt)} blocks of {spec.max_length}; "
            f"{len(held_out_rows)} held out, in {len(held_out)} blocks"
        )
        return Rows(
            prompts=list(spec.sample_prompts) or samples.choose_prompts([], held_out_rows),
            facts={
                "rows": len(texts),
                "rows_held_out": len(held_out_rows),
                "blocks": len(learnt),
                "rows_rehearsed": len(rehearsed),
                "rows_cut": 0,
                "rows_without_labels": 0,
            },
        )


def _texts(rows: list[Row]) -> list[str]:
    return [row["text"] for row in rows if isinstance(row, dict)]


METHOD = Pretrain
