"""Supervised fine-tuning: the model learns what the assistant says, and scores by how well it predicts it."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig

from llmops_tui.engine.jobs import samples
from llmops_tui.engine.jobs.batching import PaddingCollator
from llmops_tui.engine.jobs.corpus import encode_rows, read_split, require_rows
from llmops_tui.engine.jobs.labels import RowEncoder
from llmops_tui.engine.jobs.methods.arguments import common_arguments
from llmops_tui.engine.jobs.methods.labelled import arrange, ring_of, score_rows
from llmops_tui.engine.jobs.methods.method import CommonArguments, Method, Rows
from llmops_tui.engine.jobs.run_trainer import Books, RunTrainer
from llmops_tui.engine.jobs.scoring import Score
from llmops_tui.engine.jobs.sft_trainer import SftTrainer


class Sft(Method):
    """Rows are conversations, or text that is learnt whole."""

    def encode(self) -> Rows:
        spec, prepared, reporter = self.work.spec, self.work.prepared, self.work.reporter
        train_rows, held_out_rows, all_rows = read_split(spec.dataset, prepared["dataset"], prepared.get("eval_dataset"), spec.seed)
        encoder = RowEncoder(self.work.tokenizer, spec.max_length, assistant_only=spec.assistant_only)
        self._learnt = encode_rows(encoder, train_rows, reporter.beat)
        self._held_out = encode_rows(encoder, held_out_rows, reporter.beat)
        places = {id(row): number for number, row in enumerate(all_rows, 1)}  # in the file
        self._numbers = [places[id(train_rows[place])] for place in self._learnt.kept]
        require_rows(self._learnt, "to learn from", spec.max_length)
        reporter.log(
            f"{len(self._learnt.rows)} rows to learn from ({self._learnt.count} tokens), {len(self._held_out.rows)} held out; "
            f"{self._learnt.rows_cut} cut at {spec.max_length} tokens, "
            f"{self._learnt.rows_without_labels} left out (no assistant token)"
        )
        return Rows(
            prompts=samples.choose_prompts(spec.sample_prompts, held_out_rows),
            facts={
                "rows": len(self._learnt.rows),
                "rows_held_out": len(self._held_out.rows),
                "rows_cut": self._learnt.rows_cut,
                "rows_without_labels": self._learnt.rows_without_labels,
            },
        )

    def build(self, books: Books, common: CommonArguments) -> RunTrainer:
        arranged = arrange(self.work, self._learnt.rows)
        settings: dict[str, Any] = common_arguments(self.work.spec, self.work.plan, books.run.checkpoints)
        if arranged.packing:
            settings |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": arranged.packing.accumulation}
        return SftTrainer(
            books=books,
            order=arranged.order,
            ring=ring_of(books.run, arranged, self._numbers),
            token_budget=self.work.plan.token_budget,
            args=SFTConfig(
                **settings,
                max_length=None,  # rows are cut, and counted, before
                packing=False,  # ours is in the data set already
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=arranged.dataset,
            data_collator=PaddingCollator(self.work.tokenizer.pad_token_id),
            **common,
        )

    def score(self, trainer: RunTrainer, phase: str) -> Score | None:
        return score_rows(self.work, trainer, self._held_out.rows, phase)


METHOD = Sft
