"""The job `merge`: an adapter into its base, read back from disk and compared with the adapter on real rows.

`python -m llmops_tui.engine.jobs.merge` in a run directory. Read top to bottom: load, hear the adapter, merge, write, read
back, compare, decide. Nothing is registered unless the comparison passes: the model gets its final name only then.
"""

from __future__ import annotations

import gc
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tui.data.durable import write_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.outcome import Summary, peak_rss_bytes, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import GateFailedError
from llmops_tui.specs.merge import MergeSpec, VerifyChoice

if TYPE_CHECKING:
    from llmops_tui.engine.jobs.divergence import Divergence

# Two equal models differ by the rounding of float32 alone: an adapter that does nothing is no broken merge.
_NOISE = 1e-7

OUT_OF_MEMORY_ADVICE = "set dtype=bfloat16, or lower verify.rows"


def merge(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Merge and verify; returns the summary. Raises GateFailedError where the merged model is not the adapter's."""
    spec = MergeSpec.model_validate(record["spec"])
    prepared = record["prepared"]
    adapter_path, base_path = Path(prepared["adapter"]["path"]), Path(prepared["base"]["path"])

    reporter.phase("importing libraries")
    from peft import PeftModel

    from llmops_tui.engine.jobs import hardware, template_check
    from llmops_tui.engine.jobs.divergence import compare, listen
    from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet
    from llmops_tui.engine.jobs.merge_base import load_merge_base
    from llmops_tui.engine.jobs.model_writing import stored_dtype, write_full_model
    from llmops_tui.engine.jobs.verification_rows import read_verification

    quiet()
    plan = hardware.plan_exact(spec, prepared["base"]["parameters"])
    hardware.apply(plan)

    # Load.
    reporter.phase("loading the adapter on its base")
    for warning in prepared["warnings"]:
        reporter.log(warning, level="warning")
    tokenizer = load_tokenizer(adapter_path if prepared["adapter_tokenizer"] else base_path)
    rows = read_verification(prepared["verify"], tokenizer, spec.verify, reporter.beat)
    model = PeftModel.from_pretrained(load_merge_base(base_path, plan, prepared["quantized"]), adapter_path)

    # Hear the adapter.
    count = sum(len(row.input_ids) for row in rows)
    budget = hardware.scoring_token_budget(plan.device)
    reporter.phase("hearing the adapter", total=count, unit="tokens")
    heard = listen(model.get_base_model(), rows, pad_id=tokenizer.pad_token_id, token_budget=budget, progress=reporter.beat)
    reporter.phase("hearing the base", total=count, unit="tokens")
    with model.disable_adapter():
        base_heard = listen(model.get_base_model(), rows, pad_id=tokenizer.pad_token_id, token_budget=budget, progress=reporter.beat)
    effect = compare(heard, base_heard)
    del base_heard
    reporter.phase("letting the adapter speak", total=2, unit="prompts")
    source_ended = template_check.count_ended(model, tokenizer, reporter.beat)

    # Merge and write.
    reporter.phase("merging")
    merged = model.merge_and_unload(safe_merge=True)
    reporter.phase("saving")
    dtype = stored_dtype(prepared["base"]["dtype"])
    unproven = run.artifacts / "unproven"
    shutil.rmtree(unproven, ignore_errors=True)  # of an earlier attempt
    unproven.mkdir(parents=True)
    write_full_model(merged, tokenizer, unproven, dtype, base_path)
    del model, merged
    gc.collect()

    # Read back and compare.
    reporter.phase("reading it back")
    again, tokenizer_again = load_causal_model(unproven, plan), load_tokenizer(unproven)
    reporter.phase("hearing the merged model", total=count, unit="tokens")
    divergence = compare(heard, listen(again, rows, pad_id=tokenizer.pad_token_id, token_budget=budget, progress=reporter.beat))
    reporter.phase("letting the merged model speak", total=2, unit="prompts")
    ended = template_check.count_ended(again, tokenizer_again, reporter.beat)
    checks = template_check.check_speech(tokenizer, tokenizer_again, again.generation_config, source_ended, ended)

    # Decide.
    faults = [*verification_faults(divergence, effect, spec.verify), *template_check.faults(checks)]
    reporter.log(
        f"KL(adapter ‖ merged) mean {divergence.mean_kl:.2e}, greatest {divergence.max_kl:.2e} nats over {divergence.tokens} tokens of "
        f"{divergence.rows} rows; perplexity {divergence.perplexity_first:.3f} → {divergence.perplexity_second:.3f}; "
        f"same first choice {divergence.same_choice:.1%}; KL(adapter ‖ base) {effect.mean_kl:.2e}"
    )
    for check in checks:
        reporter.log(f"{check['name']}: {check['words']}", level="info" if check["verdict"] == "passed" else "warning")
    summary: Summary = {
        "verified": not faults,
        "faults": faults,
        **divergence.to_json(),
        "perplexity_adapter": divergence.perplexity_first,
        "perplexity_merged": divergence.perplexity_second,
        "perplexity_base": effect.perplexity_second,
        "kl_to_base": effect.mean_kl,
        "thresholds": spec.verify.model_dump(include={"mean_kl", "max_kl", "perplexity_change", "lost_share"}),
        "rows_from": prepared["verify"]["why"],
        "checks": checks,
        "dtype": str(dtype).removeprefix("torch."),
        "plan": plan.describe(),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    reporter.events.metrics(
        0,
        {
            "verify/mean_kl": divergence.mean_kl,
            "verify/max_kl": divergence.max_kl,
            "verify/perplexity_adapter": divergence.perplexity_first,
            "verify/perplexity_merged": divergence.perplexity_second,
        },
    )
    write_json(run.artifacts / "verification.json", {**summary, "judged_at": time.time()})
    if faults:
        _put_away(unproven, run.artifacts / "refused" if spec.keep_refused else None)
        kept = "its files are in artifacts/refused" if spec.keep_refused else "its files are removed (keep_refused=true keeps them)"
        raise GateFailedError(f"the merged model is not the adapter's: {'; '.join(faults)}", f"nothing was registered; {kept}")
    target = run.artifacts / "model"
    _put_away(target, None)
    unproven.rename(target)
    reporter.events.write(
        "artifact",
        artifact="model",
        name=spec.output or spec.name or record["id"],
        path=str(target.relative_to(run.path)),
        format="merged",
        base=str(base_path),
        licence=prepared["base"]["licence"] or prepared["adapter"]["licence"],
        checks=checks,
        lineage={"how": "merge", "parents": [{"role": "adapter", **prepared["adapter"]}, {"role": "base", **prepared["base"]}]},
    )
    return summary, False


def verification_faults(divergence: Divergence, effect: Divergence, allowed: VerifyChoice) -> list[str]:
    """Which thresholds are broken, with the figures; a NaN breaks each.

    `effect` is how far the adapter is from its base: beside a weak adapter even a merge that lost it looks close.
    """
    found = []
    if not divergence.mean_kl <= allowed.mean_kl:
        found.append(f"mean KL {divergence.mean_kl:.3g} nats a token is above {allowed.mean_kl:g}")
    if not divergence.max_kl <= allowed.max_kl:
        found.append(f"KL {divergence.max_kl:.3g} nats at one token of row {divergence.worst_row + 1} is above {allowed.max_kl:g}")
    if not divergence.perplexity_change <= allowed.perplexity_change:
        found.append(
            f"perplexity {divergence.perplexity_first:.4g} became {divergence.perplexity_second:.4g}, "
            f"more than {allowed.perplexity_change:.1%} off"
        )
    if divergence.mean_kl > allowed.lost_share * effect.mean_kl and divergence.mean_kl > _NOISE:
        found.append(
            f"KL(adapter ‖ merged) {divergence.mean_kl:.3g} is above {allowed.lost_share:.0%} of KL(adapter ‖ base) {effect.mean_kl:.3g}: "
            "the adapter's effect was lost"
        )
    return found


def _put_away(directory: Path, to: Path | None) -> None:
    if to is None:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        shutil.rmtree(to, ignore_errors=True)
        directory.rename(to)


if __name__ == "__main__":
    sys.exit(run_job(merge, OUT_OF_MEMORY_ADVICE))
