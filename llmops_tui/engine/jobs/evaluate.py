"""The job `evaluate`: loss, perplexity and token accuracy of a model on held-out rows, each with its 95 % interval.

`python -m llmops_tui.engine.jobs.evaluate` in a run directory. The rows are those a training run with the same dataset
choice and seed holds out, so that a model can be compared before and after.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import write_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.outcome import Summary, peak_rss_bytes, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.specs.evaluate import EvaluateSpec

OUT_OF_MEMORY_ADVICE = "lower batch or max_length"


def evaluate(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Score the rows; returns the summary. Nothing is left to save when it is stopped."""
    spec = EvaluateSpec.model_validate(record["spec"])
    prepared = record["prepared"]
    model_path = Path(prepared["model"]["path"])

    reporter.phase("importing libraries")
    from llmops_tui.engine.jobs import hardware
    from llmops_tui.engine.jobs.corpus import encode_rows, read_split, require_rows
    from llmops_tui.engine.jobs.labels import RowEncoder
    from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet
    from llmops_tui.engine.jobs.scoring import score_rows

    quiet()
    plan = hardware.plan_evaluation(spec)
    hardware.apply(plan)

    reporter.phase("loading the model")
    tokenizer = load_tokenizer(model_path)
    base = prepared["model"].get("base_path")
    model = load_causal_model(model_path, plan, Path(base) if base else None)

    reporter.phase("tokenising", unit="rows")
    _, held_out, everything = read_split(spec.dataset, prepared["dataset"], prepared.get("eval_dataset"), spec.seed)
    encoder = RowEncoder(tokenizer, spec.max_length, assistant_only=spec.assistant_only)
    tokens = encode_rows(encoder, everything if spec.split == "all" else held_out, reporter.beat)
    require_rows(tokens, "to score", spec.max_length)

    reporter.phase("evaluating", total=tokens.count, unit="tokens")
    started = time.monotonic()
    score = score_rows(
        model,
        tokens.rows,
        pad_id=tokenizer.pad_token_id,
        rows_a_pass=spec.batch,
        token_budget=hardware.scoring_token_budget(plan.device),
        progress=reporter.beat,
    )
    seconds = time.monotonic() - started
    reporter.events.metrics(0, {**score.metrics(), "perf/tokens_per_second": tokens.count / seconds})

    low, high = score.perplexity_interval
    reporter.log(
        f"perplexity {score.perplexity:.2f} (95 % interval {low:.2f} to {high:.2f} over {score.rows} rows), "
        f"token accuracy {score.token_accuracy:.3f}"
    )
    report: Summary = {
        **score.to_json(),
        "interval": "95 %, percentile bootstrap over rows, 2000 resamples, seeded",
        "model": str(model_path),
        "dataset": prepared["dataset"]["path"],
        "split": spec.split,
        "rows_cut": tokens.rows_cut,
        "rows_without_labels": tokens.rows_without_labels,
        "input_tokens": tokens.count,
        "seconds": round(seconds, 3),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    run.artifacts.mkdir(exist_ok=True)
    path = run.artifacts / "report.json"
    write_json(path, report)
    reporter.events.write("artifact", artifact="report", name="report", path=str(path.relative_to(run.path)), format="json")
    return report, False


if __name__ == "__main__":
    sys.exit(run_job(evaluate, OUT_OF_MEMORY_ADVICE))
