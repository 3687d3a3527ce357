"""The job `train`: supervised fine-tuning with LoRA. `python -m llmops_tui.engine.jobs.train` in a run directory.

Read top to bottom: load, tokenise, wrap, score and sample before, train, score and sample after, save.
The heavy libraries are imported inside, after the first event, so that nobody waits in silence.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tui.data.durable import sync_directory
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.control import StoppedError
from llmops_tui.engine.jobs.memory_use import MemoryUse
from llmops_tui.engine.jobs.outcome import Summary, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import UsageError
from llmops_tui.specs.train import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import SFTConfig

    from llmops_tui.engine.jobs.batching import PackingPlan
    from llmops_tui.engine.jobs.hardware import Plan
    from llmops_tui.engine.jobs.labels import EncodedRow
    from llmops_tui.engine.jobs.scoring import Score

OUT_OF_MEMORY_ADVICE = "lower micro_batch or max_length (raise accumulation to keep the batch), or set gradient_checkpointing=true"


def train(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Run the whole fine-tune; returns the summary and whether it was stopped on request."""
    spec = TrainSpec.model_validate(record["spec"])
    prepared = record["prepared"]
    model_path = Path(prepared["model"]["path"])
    if (model_path / "adapter_config.json").is_file():
        raise UsageError(f"{model_path} is an adapter, which this version cannot train further", "train its base model")
    resume_from = Path(os.environ["LLMOPS_RESUME_FROM"]) if os.environ.get("LLMOPS_RESUME_FROM") else None

    reporter.phase("importing libraries")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, set_seed

    from llmops_tui.engine.jobs import hardware, samples, scoring
    from llmops_tui.engine.jobs.batching import LengthGroupedOrder, PaddingCollator, pack_rows, plan_packing
    from llmops_tui.engine.jobs.callback import RunCallback
    from llmops_tui.engine.jobs.corpus import encode_rows, read_split, require_rows
    from llmops_tui.engine.jobs.labels import RowEncoder
    from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet
    from llmops_tui.engine.jobs.sft_trainer import Carried, RunTrainer, read_progress

    memory = MemoryUse()
    quiet()
    plan = hardware.plan_training(spec, model_path)
    hardware.apply(plan)
    set_seed(spec.seed)
    reporter.log(plan.describe())

    # Load.
    reporter.phase("loading the model")
    tokenizer = load_tokenizer(model_path)
    model = load_causal_model(model_path, plan)

    # Tokenise.
    reporter.phase("tokenising", unit="rows")
    train_rows, held_out_rows, _ = read_split(spec.dataset, prepared["dataset"], prepared.get("eval_dataset"), spec.seed)
    encoder = RowEncoder(tokenizer, spec.max_length, assistant_only=spec.assistant_only)
    learnt = encode_rows(encoder, train_rows, reporter.beat)
    held_out = encode_rows(encoder, held_out_rows, reporter.beat)
    require_rows(learnt, "to learn from", spec.max_length)
    reporter.log(
        f"{len(learnt.rows)} rows to learn from ({learnt.count} tokens), {len(held_out.rows)} held out; "
        f"{learnt.rows_cut} cut at {spec.max_length} tokens, {learnt.rows_without_labels} left out (no assistant token)"
    )
    prompts = samples.choose_prompts(spec.sample_prompts, held_out_rows)

    # Arrange the rows: packed, or grouped by length.
    lengths = [len(row.input_ids) for row in learnt.rows]
    rows_per_update = spec.micro_batch * spec.accumulation
    packing = plan_packing(lengths, rows_per_update, spec.max_length) if plan.packing else None
    if packing:
        dataset = Dataset.from_list([_packed([learnt.rows[row] for row in pack]) for pack in pack_rows(lengths, packing.length)])
        order = LengthGroupedOrder([0] * len(dataset), packing.accumulation, spec.seed, grouped=False)
    else:
        dataset = Dataset.from_list([{"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in learnt.rows])
        order = LengthGroupedOrder(lengths, rows_per_update, spec.seed, longest_first=plan.token_budget is None)

    def score(step: int, phase: str) -> Score | None:
        """Score the held-out rows now; None where there are none."""
        if not held_out.rows:
            return None
        reporter.phase(phase, total=held_out.count, unit="tokens")
        budget = hardware.scoring_token_budget(plan.device)
        base = trainer.model.get_base_model()
        result = scoring.score_rows(
            base, held_out.rows, pad_id=tokenizer.pad_token_id, rows_a_pass=64, token_budget=budget, progress=reporter.beat
        )
        reporter.events.metrics(step, result.metrics())
        reporter.log(f"held-out loss {result.loss:.4f}, perplexity {result.perplexity:.2f}, token accuracy {result.token_accuracy:.3f}")
        return result

    def sample(step: int) -> None:
        """Let the model speak."""
        if prompts:
            reporter.phase("sampling", total=spec.sample_tokens, unit="tokens")
            texts = samples.generate(trainer.model, tokenizer, prompts, spec.sample_tokens, reporter.beat)
            for prompt, text in zip(prompts, texts, strict=True):
                reporter.events.write("sample", step=step, prompt=samples.show(prompt), text=text)

    def look_in_between(step: int) -> None:
        """Evaluation and samples in the middle of training, then back to training."""
        try:
            if spec.evaluate_every and step % spec.evaluate_every == 0:
                score(step, "evaluating")
            if spec.sample_every and step % spec.sample_every == 0:
                sample(step)
        except StoppedError:
            trainer.stop_with_checkpoint()  # there is something to save now
        reporter.phase("training", done=step, total=trainer.state.max_steps)

    # Wrap.
    carried = read_progress(resume_from) if resume_from else Carried(tokens=0, seconds=0.0, before=None, finished=False)
    trainer = RunTrainer(
        run=run,
        reporter=reporter,
        order=order,
        token_budget=plan.token_budget,
        keep_checkpoints=spec.keep_checkpoints,
        evaluate=look_in_between,
        carried=carried,
        model=model,
        args=_arguments(spec, plan, packing, run.checkpoints),
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=PaddingCollator(tokenizer.pad_token_id),
        peft_config=LoraConfig(
            r=spec.lora.r,
            lora_alpha=spec.lora.alpha,
            lora_dropout=spec.lora.dropout,
            target_modules=spec.lora.target_modules,
            task_type="CAUSAL_LM",
        ),
        callbacks=[
            RunCallback(
                reporter.control,
                look_every=[every for every in (spec.evaluate_every, spec.sample_every) if every],
                checkpoint_every=spec.checkpoint_every,
            )
        ],
    )
    trainer.remove_callback(PrinterCallback)

    # Before.
    if resume_from is None:
        before = score(0, "evaluating before")
        carried["before"] = before.to_json() if before else None
        sample(0)

    # Train.
    reporter.phase("training", total=trainer.args.max_steps if trainer.args.max_steps > 0 else None)
    cpu_started = time.process_time()
    if resume_from and carried["finished"]:
        trainer.take_up_finished(resume_from)  # the last attempt died after its last step
    else:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    cpu_seconds = time.process_time() - cpu_started  # of all threads; of this attempt, with its checkpoints and evaluations
    if reporter.control.stop and trainer.state.global_step < trainer.state.max_steps:
        return {"steps": trainer.state.global_step, "tokens": carried["tokens"], "seconds": round(carried["seconds"], 3)}, True

    # After.
    after = score(trainer.state.global_step, "evaluating after")
    sample(trainer.state.global_step)

    # Save.
    reporter.phase("saving")
    adapter = run.artifacts / "adapter"
    _save_adapter(trainer.model, tokenizer, adapter)
    before_json = carried["before"] or {}
    after_json = after.to_json() if after else {}
    summary: Summary = {
        "eval_loss_before": before_json.get("loss"),
        "eval_loss_after": after_json.get("loss"),
        "perplexity_before": before_json.get("perplexity"),
        "perplexity_after": after_json.get("perplexity"),
        "token_accuracy_before": before_json.get("token_accuracy"),
        "token_accuracy_after": after_json.get("token_accuracy"),
        "before": before_json,
        "after": after_json,
        "steps": trainer.state.global_step,
        "tokens": carried["tokens"],
        "seconds": round(carried["seconds"], 3),
        "tokens_per_second": round(carried["tokens"] / max(carried["seconds"], 1e-9), 2),
        "training_cpu_seconds": round(cpu_seconds, 3),
        **memory.facts(),
        "adapter": str(adapter.relative_to(run.path)),
        "rows": len(learnt.rows),
        "rows_held_out": len(held_out.rows),
        "rows_cut": learnt.rows_cut,
        "rows_without_labels": learnt.rows_without_labels,
        "plan": plan.describe(),
    }
    reporter.events.write(
        "artifact",
        artifact="model",
        name=spec.output or spec.name or record["id"],
        path=str(adapter.relative_to(run.path)),
        format="adapter",
        base=str(model_path),
        eval=after_json,
    )
    return summary, False


def _arguments(spec: TrainSpec, plan: Plan, packing: PackingPlan | None, checkpoints: Path) -> SFTConfig:
    """Every choice that matters stated: TRL's defaults (bf16, gradient checkpointing) are meant for a GPU."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(checkpoints),
        per_device_train_batch_size=1 if packing else spec.micro_batch,
        gradient_accumulation_steps=packing.accumulation if packing else spec.accumulation,
        num_train_epochs=spec.epochs,
        max_steps=spec.max_steps or -1,
        learning_rate=spec.optim.learning_rate,
        lr_scheduler_type=spec.optim.schedule,
        warmup_steps=spec.optim.warmup_fraction,  # below 1: a share of the steps
        weight_decay=spec.optim.weight_decay,
        max_grad_norm=spec.optim.max_grad_norm,
        optim="adamw_torch_fused",
        seed=spec.seed,
        data_seed=spec.seed,
        use_cpu=plan.device == "cpu",
        bf16=plan.bf16 and plan.device == "cuda",
        fp16=False,
        gradient_checkpointing=plan.gradient_checkpointing,
        max_length=None,  # rows are cut, and counted, before
        packing=False,  # ours is in the data set already
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not a number must be seen
        save_strategy="no",  # the callback says when
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _packed(rows: list[EncodedRow]) -> dict[str, list[int]]:
    return {
        "input_ids": [token for row in rows for token in row.input_ids],
        "labels": [label for row in rows for label in row.labels],
        "seq_lengths": [len(row.input_ids) for row in rows],
    }


def _save_adapter(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Adapter, base path, tokenizer and chat template, durable before anybody is told."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)


if __name__ == "__main__":
    sys.exit(run_job(train, OUT_OF_MEMORY_ADVICE))
