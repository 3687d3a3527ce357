"""The job `prune`: a model made smaller or sparser, scored before, after and healed, and written as a version of its own.

`python -m llmops_tui.engine.jobs.prune` in a run directory. Read top to bottom: load, score, prune, score, heal, write, read
back, score what was written. What counts is measured on the files, not on what was in memory.
"""

from __future__ import annotations

import copy
import gc
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tui.data.durable import write_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.outcome import Summary, peak_rss_bytes, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import GateFailedError
from llmops_tui.specs.prune import PruneSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from llmops_tui.engine.jobs.hardware import Plan
    from llmops_tui.engine.jobs.heal_checkpoint import Pruned
    from llmops_tui.engine.jobs.labels import EncodedRow
    from llmops_tui.engine.jobs.scoring import Score
    from llmops_tui.engine.jobs.sparsity import Masks

OUT_OF_MEMORY_ADVICE = "lower calibration_rows, max_length or heal.batch, or set dtype=bfloat16"


def prune(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Prune, heal and write; returns the summary. Raises GateFailedError where the written model does not speak as its source."""
    spec = PruneSpec.model_validate(record["spec"])
    prepared = record["prepared"]
    model_path = Path(prepared["model"]["path"])
    resume_from = Path(os.environ["LLMOPS_RESUME_FROM"]) if os.environ.get("LLMOPS_RESUME_FROM") else None

    reporter.phase("importing libraries")
    from llmops_tui.engine.jobs import hardware, template_check
    from llmops_tui.engine.jobs.corpus import encode_rows, read_split, require_rows
    from llmops_tui.engine.jobs.heal_checkpoint import HealBooks, prune_again, read_pruned
    from llmops_tui.engine.jobs.healing import heal
    from llmops_tui.engine.jobs.labels import RowEncoder
    from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet
    from llmops_tui.engine.jobs.model_writing import stored_dtype, write_full_model
    from llmops_tui.engine.jobs.sparsity import measure_sparsity

    quiet()
    plan = hardware.plan_exact(spec, 3 * (prepared["model"]["parameters"] or 0))  # teacher, student and what training it needs
    hardware.apply(plan)

    # Load.
    reporter.phase("loading the model")
    for warning in prepared["warnings"]:
        reporter.log(warning, level="warning")
    tokenizer = load_tokenizer(model_path)
    model = load_causal_model(model_path, plan)
    learnt_rows, held_out_rows, _ = read_split(spec.dataset, prepared["dataset"], prepared["eval_dataset"], spec.seed)
    encoder = RowEncoder(tokenizer, spec.max_length, assistant_only=spec.assistant_only)
    learnt = encode_rows(encoder, learnt_rows, reporter.beat)
    held_out = encode_rows(encoder, held_out_rows, reporter.beat)
    require_rows(learnt, "to measure and heal on", spec.max_length)
    require_rows(held_out, "to score", spec.max_length)

    # Before, and prune. An attempt that goes on takes out what the first one found.
    teacher = copy.deepcopy(model) if spec.heal.steps and spec.heal.weight else None
    if resume_from:
        pruned = read_pruned(resume_from)
        prune_again(model, pruned)
    else:
        pruned = _measure_and_prune(model, learnt.rows[: spec.calibration_rows], held_out.rows, tokenizer, plan, spec, reporter)
    before, after = pruned.before, pruned.after

    # Heal.
    cost: dict[str, float | int] = {}
    if spec.heal.steps:
        books = HealBooks(run, pruned, resume_from)
        cost = heal(
            model, teacher, learnt.rows, spec.heal, plan, pad_id=tokenizer.pad_token_id, seed=spec.seed, books=books, reporter=reporter
        )
        teacher = None

    # Write, read back, and score what was written.
    reporter.phase("saving")
    target = run.artifacts / "model"
    shutil.rmtree(target, ignore_errors=True)  # of an earlier attempt
    target.mkdir(parents=True)
    dtype = stored_dtype(prepared["model"]["dtype"])
    write_full_model(model, tokenizer, target, dtype, model_path)
    del model
    gc.collect()
    again, tokenizer_again = load_causal_model(target, plan), load_tokenizer(target)
    final = _score(again, held_out.rows, tokenizer_again, plan, reporter, "scoring what was written")
    reporter.events.metrics(spec.heal.steps, final.metrics())
    reporter.phase("letting the pruned model speak", total=2, unit="prompts")
    ended = template_check.count_ended(again, tokenizer_again, reporter.beat)
    checks = template_check.check_speech(tokenizer, tokenizer_again, again.generation_config, pruned.source_ended, ended)
    if faults := template_check.faults(checks):
        shutil.rmtree(target)
        raise GateFailedError(f"the pruned model does not speak as its source: {'; '.join(faults)}", "nothing was registered")

    lost = after.perplexity - before.perplexity
    summary: Summary = {
        "method": spec.method,
        **pruned.facts,
        **({} if spec.method == "layers" else measure_sparsity(again, spec.pattern).to_json()),
        "parameters_before": prepared["model"]["parameters"],
        "parameters_after": sum(parameter.numel() for parameter in again.parameters()),
        "perplexity_before": before.perplexity,
        "perplexity_pruned": after.perplexity,
        "perplexity_after": final.perplexity,
        "perplexity_recovered": (after.perplexity - final.perplexity) / lost if spec.heal.steps and lost > 0 else None,
        "before": before.to_json(),
        "pruned": after.to_json(),
        "after": final.to_json(),
        **cost,
        "checks": checks,
        "dtype": str(dtype).removeprefix("torch."),
        "rows_cut": learnt.rows_cut + held_out.rows_cut,
        "plan": plan.describe(),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    write_json(run.artifacts / "report.json", summary)
    reporter.log(
        f"perplexity {before.perplexity:.3f} → {after.perplexity:.3f} pruned → {final.perplexity:.3f} as written, "
        f"over {final.tokens} tokens of {final.rows} held-out rows"
    )
    reporter.events.write(
        "artifact",
        artifact="model",
        name=spec.output or spec.name or record["id"],
        path=str(target.relative_to(run.path)),
        format="full",
        base=str(model_path),
        licence=prepared["model"]["licence"],
        checks=checks,
        eval=final.to_json(),
        lineage={
            "how": f"prune by {spec.method}" + (", healed" if spec.heal.steps else ""),
            "parents": [{"role": "model", **prepared["model"]}],
            "data": [prepared["dataset"]],
        },
    )
    return summary, False


def _measure_and_prune(
    model: Any,
    rows: Sequence[EncodedRow],
    held_out: Sequence[EncodedRow],
    tokenizer: PreTrainedTokenizerBase,
    plan: Plan,
    spec: PruneSpec,
    reporter: Reporter,
) -> Pruned:
    """Score, let speak, prune in place on `rows`, score."""
    from llmops_tui.engine.jobs import template_check
    from llmops_tui.engine.jobs.heal_checkpoint import Pruned

    before = _score(model, held_out, tokenizer, plan, reporter, "scoring before")
    reporter.events.metrics(0, before.metrics())
    reporter.phase("letting the model speak", total=2, unit="prompts")
    source_ended = template_check.count_ended(model, tokenizer, reporter.beat)
    facts, masks = _prune(model, rows, tokenizer, plan, spec, reporter)
    after = _score(model, held_out, tokenizer, plan, reporter, "scoring pruned")
    reporter.log(f"perplexity {before.perplexity:.3f} → {after.perplexity:.3f}")
    return Pruned(before, after, source_ended, facts, masks)


def _prune(
    model: Any, rows: Sequence[EncodedRow], tokenizer: PreTrainedTokenizerBase, plan: Plan, spec: PruneSpec, reporter: Reporter
) -> tuple[dict[str, Any], Masks]:
    """Prune in place; what the summary says of it, and the weights that stay where single ones went."""
    from llmops_tui.engine.jobs import hardware
    from llmops_tui.engine.jobs.block_influence import block_influences, decoder_layers, least_influential, remove_layers
    from llmops_tui.engine.jobs.sparsity import prune_by_magnitude, prune_by_wanda

    pad_id = tokenizer.pad_token_id
    if spec.method == "layers":
        count = sum(len(row.input_ids) for row in rows)
        reporter.phase("measuring the influence of each layer", total=count, unit="tokens")
        budget = hardware.scoring_token_budget(plan.device)
        influences = block_influences(model, rows, pad_id=pad_id, token_budget=budget, progress=reporter.beat)
        total = len(decoder_layers(model))
        removed = least_influential(influences, spec.layers_of(total))
        remove_layers(model, removed)
        reporter.log(f"{len(removed)} of {total} layers removed: {', '.join(map(str, removed))} (counted from 0)")
        return {"layers_before": total, "layers_removed": removed, "block_influence": influences}, {}
    if spec.method == "magnitude":
        reporter.phase("zeroing the smallest weights", unit="matrices")
        return {"pattern": spec.pattern}, prune_by_magnitude(model, spec.share(), spec.pattern, reporter.beat)
    reporter.phase("zeroing what matters least", unit="layers")
    return {"pattern": spec.pattern}, prune_by_wanda(model, rows, spec.share(), spec.pattern, pad_id, reporter.beat)


def _score(model: Any, rows: Sequence[EncodedRow], tokenizer: PreTrainedTokenizerBase, plan: Plan, reporter: Reporter, phase: str) -> Score:
    from llmops_tui.engine.jobs import hardware
    from llmops_tui.engine.jobs.scoring import score_rows

    reporter.phase(phase, total=sum(len(row.input_ids) for row in rows), unit="tokens")
    budget = hardware.scoring_token_budget(plan.device)
    return score_rows(model, rows, pad_id=tokenizer.pad_token_id, rows_a_pass=64, token_budget=budget, progress=reporter.beat)


if __name__ == "__main__":
    sys.exit(run_job(prune, OUT_OF_MEMORY_ADVICE))
