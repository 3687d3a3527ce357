"""The job `train`, whatever the method and whatever is trained. `python -m llmops_tui.engine.jobs.train` in a run directory.

Read top to bottom: load, encode, wrap, score and sample before, train, score and sample after, save.
What differs between the methods is a module each (methods/), what of the model is trained is adaptation.py's.
The heavy libraries are imported inside, after the first event, so that nobody waits in silence.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.adjustments import adjusted, of_this_attempt
from llmops_tui.engine.jobs.control import StoppedError
from llmops_tui.engine.jobs.memory_use import MemoryUse
from llmops_tui.engine.jobs.outcome import Summary, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_continued import following
from llmops_tui.specs.train_memory import OUT_OF_MEMORY_ADVICE as OUT_OF_MEMORY_ADVICE  # as each job has its own

if TYPE_CHECKING:
    from llmops_tui.engine.jobs.methods.method import HeldOutScore
    from llmops_tui.engine.jobs.probe import ProbeLosses

Found = TypeVar("Found")


def train(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Run the whole training; returns the summary and whether it was stopped on request."""
    adjustment = of_this_attempt()
    prepared = record["prepared"]
    continued = prepared.get("continued")
    spec = following(adjusted(TrainSpec.model_validate(record["spec"]), adjustment), continued)
    model_path = Path(prepared["model"]["base_path" if continued else "path"])
    resume_from = Path(os.environ["LLMOPS_RESUME_FROM"]) if os.environ.get("LLMOPS_RESUME_FROM") else None

    reporter.phase("importing libraries")
    import torch
    from transformers import set_seed

    from llmops_tui.engine.jobs import adaptation, hardware, ranking, samples, scratch
    from llmops_tui.engine.jobs.callback import RunCallback
    from llmops_tui.engine.jobs.corpus import read_split
    from llmops_tui.engine.jobs.keeping import see
    from llmops_tui.engine.jobs.loading import load_tokenizer, quiet
    from llmops_tui.engine.jobs.methods.method import Work, method_named
    from llmops_tui.engine.jobs.probe import compare, encode_probe, kept_words, probe
    from llmops_tui.engine.jobs.run_trainer import Books, Carried, read_progress
    from llmops_tui.engine.jobs.template_check import check_trained

    memory = MemoryUse()
    quiet()
    if spec.scratch.preset:
        reporter.phase("training the tokenizer")
        model_path = run.artifacts / "scratch"
        known, _, _ = read_split(spec.dataset, prepared["dataset"], prepared.get("eval_dataset"), spec.seed)
        scratch.make_model(spec.scratch, known, spec.seed, model_path)
    plan = hardware.plan_training(spec, model_path, prepared.get("facts"))
    hardware.apply(plan)
    set_seed(spec.seed)
    reporter.log(plan.describe())

    # Load.
    reporter.phase("loading the model")
    tokenizer = load_tokenizer(Path(prepared["model"]["tokenizer_path"]) if continued else model_path)
    method = method_named(spec.method)(Work(spec, prepared, run, reporter, plan, model_path, tokenizer))
    model = method.load()
    if continued:
        model = adaptation.go_on_from(model, Path(continued["path"]), model_path)

    # Encode.
    reporter.phase("tokenising", unit="rows")
    rows = method.encode()
    keep = spec.keep
    general = encode_probe(tokenizer, spec, prepared.get("probe"), reporter.beat)

    def look(at: Callable[[], Found]) -> Found:
        """What the model does outside of training: with products as in training, and by all ranks together where it is cut over them."""
        with plan.autocast():
            return trainer.inside(at)

    def score(step: int, phase: str) -> HeldOutScore | None:
        """Score the held-out rows now; None where there are none."""
        result = look(lambda: method.score(trainer, phase))
        if result is not None:
            reporter.events.metrics(step, result.metrics())
            reporter.log(result.describe())
        return result

    def probe_now(step: int, phase: str) -> ProbeLosses:
        """Score the rows of general ability now."""
        budget, pad_id = hardware.scoring_token_budget(plan.device), tokenizer.pad_token_id
        return look(
            lambda: probe(trainer.causal_model, general, pad_id=pad_id, token_budget=budget, reporter=reporter, step=step, phase=phase)
        )

    def sample(step: int) -> None:
        """Let the model speak."""
        if rows.prompts:
            reporter.phase("sampling", total=spec.sample_tokens, unit="tokens")
            texts = look(lambda: samples.generate(trainer.model, tokenizer, rows.prompts, spec.sample_tokens, reporter.beat))
            for prompt, text in zip(rows.prompts, texts, strict=True):
                reporter.events.write("sample", step=step, prompt=samples.show(prompt), text=text)

    def look_in_between(step: int) -> None:
        """Evaluation and samples in the middle of training, then back to training."""
        looks = callback.looks()
        try:
            if looks.evaluate and (result := score(step, "evaluating")) and keep.watched:
                seen = ranking.from_the_first(see(carried.get("best"), step, result.loss, keep.early_stop))
                carried["best"] = seen.best
                if keep.best and seen.improved:
                    trainer.save_soon()
                if seen.enough:
                    reporter.log(f"ends early: {keep.early_stop.patience} evaluations without a better held-out loss")
                    trainer.end_early()
            if looks.sample:
                sample(step)
        except StoppedError:
            trainer.stop_with_checkpoint()  # there is something to save now
        reporter.phase("training", done=step, total=trainer.state.max_steps)

    # Wrap.
    carried = read_progress(resume_from) if resume_from else Carried(tokens=0, seconds=0.0, before=None, finished=False)
    callback = RunCallback(reporter, spec, adjustment)
    trainer = method.build(
        Books(run=run, reporter=reporter, keep_checkpoints=spec.keep_checkpoints, carried=carried, look=look_in_between),
        {
            "model": model,
            "processing_class": tokenizer,
            "peft_config": None if continued else adaptation.adapter_config(spec, method.task_type),
            "callbacks": [callback],
        },
    )

    # Before.
    if resume_from is None:
        before = score(0, "evaluating before")
        carried["before"] = before.to_json() if before else None
        if general:
            carried["probe"] = probe_now(0, "probing before")
        if spec.scratch.preset and before:
            words, as_expected = scratch.first_loss_words(before.loss, len(tokenizer))
            reporter.log(words, "info" if as_expected else "warning")
        sample(0)

    # Train.
    reporter.phase("training", total=trainer.args.max_steps if trainer.args.max_steps > 0 else None)
    if ranking.count() > 1 and resume_from is None:
        torch.manual_seed(spec.seed + ranking.number())  # dropout of its own; a checkpoint has each rank's state
    cpu_started = time.process_time()
    if resume_from and carried["finished"]:
        trainer.take_up_finished(resume_from)  # the last attempt died after its last step
    else:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    cpu_seconds = time.process_time() - cpu_started  # of all threads; of this attempt, with its checkpoints and evaluations
    if reporter.control.stop and trainer.state.global_step < trainer.state.max_steps:
        return {"steps": trainer.state.global_step, "tokens": carried["tokens"], "seconds": round(carried["seconds"], 3)}, True

    # After.
    after, taken = score(trainer.state.global_step, "evaluating after"), trainer.state.global_step
    best = carried.get("best")
    if keep.best and best and after and not after.loss <= best["loss"]:
        taken = best["step"]
        trainer.take_up_weights(run.checkpoints / f"checkpoint-{taken}")
        after = look(lambda: method.score(trainer, "evaluating the best"))
        reporter.log(f"the model of step {taken} is taken, whose held-out loss was the lowest: {best['loss']:.4f}")
    forgotten = compare(carried["probe"], probe_now(trainer.state.global_step, "probing after")) if general else None
    sample(trainer.state.global_step)

    # Save.
    weights = trainer.gathered()
    if ranking.number() != 0 and weights is None:
        return {}, False
    reporter.phase("saving")
    saved = adaptation.save(trainer.model, tokenizer, run.artifacts, spec, prepared["model"].get("dtype", ""), model_path, weights)
    checks = []
    if rows.prompts:
        reporter.phase("checking how it speaks", total=2, unit="prompts")
        checks = look(lambda: check_trained(trainer.causal_model, tokenizer, saved.directory, spec.sample_tokens, reporter.beat))
    if ranking.number() != 0:
        return {}, False
    path = str(saved.directory.relative_to(run.path))
    before_json = carried["before"] or {}
    after_json = after.to_json() if after else {}
    rewards = (before_json["reward"], after_json["reward"]) if "reward" in before_json and "reward" in after_json else None
    kept = kept_words(before_json.get("loss"), after_json.get("loss"), forgotten, rewards)
    reporter.log(kept)
    summary: Summary = {
        "kept": kept,
        "eval_loss_before": before_json.get("loss"),
        "eval_loss_after": after_json.get("loss"),
        "perplexity_before": before_json.get("perplexity"),
        "perplexity_after": after_json.get("perplexity"),
        "token_accuracy_before": before_json.get("token_accuracy"),
        "token_accuracy_after": after_json.get("token_accuracy"),
        **{
            f"{name}_{when}": scores[name]
            for name in ("reward_accuracy", "reward_margin", "reward")
            for when, scores in (("before", before_json), ("after", after_json))
            if name in scores
        },
        "before": before_json,
        "after": after_json,
        "probe": forgotten.to_json() if forgotten else None,
        "steps": trainer.state.global_step,
        "step_taken": taken,
        "tokens": carried["tokens"],
        "seconds": round(carried["seconds"], 3),
        "tokens_per_second": round(carried["tokens"] / max(carried["seconds"], 1e-9), 2),
        "training_cpu_seconds": round(cpu_seconds, 3),
        **memory.facts(),
        "processes": ranking.count(),
        "model" if saved.format == "full" else "adapter": path,
        **rows.facts,
        "checks": checks,
        "plan": plan.describe(),
    }
    reporter.events.write(
        "artifact",
        artifact="model",
        name=spec.output or spec.name or record["id"],
        path=path,
        format=saved.format,
        base="" if spec.scratch.preset else str(model_path),
        licence=prepared["model"].get("licence", ""),
        eval=after_json,
        checks=checks,
    )
    return summary, False


if __name__ == "__main__":
    sys.exit(run_job(train, OUT_OF_MEMORY_ADVICE))
