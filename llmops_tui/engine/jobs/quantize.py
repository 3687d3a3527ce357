"""The job `quantize`: a model in fewer bits, in each form that was asked for, measured on its files, checked, and only then named.

`python -m llmops_tui.engine.jobs.quantize` in a run directory. Read top to bottom: hear the source, then for each form write, read
back, measure, check; at the end the forms that no other beats are marked. Of several none is registered: the engine does that when one
is picked (engine/picking.py). An attempt that goes on takes the forms that are done as they are.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tui.data.durable import write_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.outcome import Summary, peak_rss_bytes, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import GateFailedError, InsufficientResourcesError, UsageError
from llmops_tui.specs.quantize import QuantizeSpec
from llmops_tui.specs.quantize_front import described_change, front
from llmops_tui.specs.quantize_types import BY_COMPRESSOR, GGUF_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmops_tui.engine.jobs.hardware import Plan
    from llmops_tui.engine.jobs.labels import EncodedRow
    from llmops_tui.engine.jobs.quantizing.candidate import Candidate, Card
    from llmops_tui.engine.jobs.quantizing.source import HeardSource, Source
    from llmops_tui.specs.answers import ModelCheck

OUT_OF_MEMORY_ADVICE = "set dtype=bfloat16, or lower measure.rows or measure.max_length"


def quantize(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Write and measure every form; returns the summary. Raises GateFailedError where none speaks as the source."""
    spec = QuantizeSpec.model_validate(record["spec"])
    prepared = record["prepared"]

    reporter.phase("importing libraries")
    from llmops_tui.engine.jobs import hardware
    from llmops_tui.engine.jobs.loading import quiet
    from llmops_tui.engine.jobs.quantizing.candidate import Candidate
    from llmops_tui.engine.jobs.quantizing.making import Maker
    from llmops_tui.engine.jobs.quantizing.source import HeardSource, read_source
    from llmops_tui.engine.jobs.verification_rows import read_verification

    quiet()
    plan = _plan(spec, prepared)
    hardware.apply(plan)
    for warning in prepared["warnings"]:
        reporter.log(warning, level="warning")
    candidates = [Candidate(run, word, prepared["outputs"][word]) for word in spec.types]
    done = {candidate.word: found for candidate in candidates if (found := candidate.finished()) is not None}
    scratch = run.path / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of an earlier attempt
    scratch.mkdir()
    refused: dict[str, list[str]] = {}
    try:
        if len(done) < len(candidates):
            # Hear the source.
            reporter.phase("reading the rows")
            source = read_source(prepared)
            rows = read_verification(prepared["measure"], source.tokenizer, spec.measure, reporter.beat) if prepared["measure"] else []
            library = Path(prepared["llamacpp"]["library"]) if prepared["llamacpp"] else None
            heard = HeardSource(source, rows if spec.measure.quality else [], plan, library, reporter)
            maker = Maker(spec, prepared, source, plan, scratch, reporter)

            # Write, measure and check each form.
            for candidate in candidates:
                if candidate.word in done:
                    reporter.log(f"{candidate.word} was done by an earlier attempt")
                    continue
                made_by = maker.make(candidate)
                base = maker.base_gguf() if source.base is not None and prepared["llamacpp"] else None
                card, checks = _measured(candidate, base, source, heard, rows, plan, spec, prepared, scratch, reporter)
                faults = _settle(candidate, card, checks, made_by, prepared, reporter)
                if faults:
                    refused[candidate.word] = faults
                    shutil.rmtree(candidate.directory)
                else:
                    done[candidate.word] = card, checks
            heard.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

    # Mark what no other form beats, and tell.
    kept = [candidate for candidate in candidates if candidate.word in done]
    if not kept:
        told = "; ".join(f"{word}: {', '.join(faults)}" for word, faults in refused.items())
        raise GateFailedError(f"what was made does not speak as its source: {told}", "nothing was registered, its files are removed")
    on_front = front([done[candidate.word][0] for candidate in kept])
    rows_of_summary = []
    for candidate, best in zip(kept, on_front, strict=True):
        card, checks = done[candidate.word]
        event = _event(candidate, {**card, "on_front": best}, checks, prepared)
        reporter.events.write("artifact", artifact="candidate", **event)
        if len(spec.types) == 1:
            reporter.events.write("artifact", artifact="model", **event)
        rows_of_summary.append({"name": candidate.name, "checks": checks, **event["card"]})
    summary: Summary = {
        "candidates": rows_of_summary,
        "refused": refused,
        "to_pick": len(spec.types) > 1,
        "rows_from": prepared["measure"]["why"] if prepared["measure"] else "",
        "plan": plan.describe(),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    write_json(run.artifacts / "report.json", summary)
    if len(spec.types) > 1:
        reporter.log(f"nothing is registered before one is picked: llmops-tui runs pick {run.id} {_suggested(rows_of_summary)}")
    return summary, False


def _plan(spec: QuantizeSpec, prepared: dict[str, Any]) -> Plan:
    from llmops_tui.engine.jobs import hardware

    plan = hardware.plan_exact(spec, prepared["model"]["parameters"])
    if spec.device == "cuda" and plan.device != "cuda":
        raise InsufficientResourcesError("device=cuda, and this run has no GPU", "set resources.gpus=1, or device=auto")
    plan = replace(plan, device="cpu") if spec.device == "cpu" else plan
    if "awq-w4a16" in spec.types and plan.device != "cuda":
        # llm-compressor 0.14 pins what AWQ keeps, which torch cannot without an accelerator.
        raise InsufficientResourcesError("awq-w4a16 needs a GPU, and this run has none", "set resources.gpus=1, or types=gptq-w4a16")
    return plan


def _measured(
    candidate: Candidate, base_gguf: Path | None, source: Source, heard: HeardSource, rows: Sequence[EncodedRow], plan: Plan,
    spec: QuantizeSpec, prepared: dict[str, Any], scratch: Path, reporter: Reporter,
) -> tuple[Card, list[ModelCheck]]:  # fmt: skip
    from llmops_tui.engine.jobs.quantizing.gguf_speech import check_file
    from llmops_tui.engine.jobs.quantizing.measuring import Measurer

    measurer = Measurer(spec.measure, source, heard, rows, plan, candidate.run, scratch, reporter, prepared["llamacpp"])
    if candidate.word in GGUF_TYPES:
        if prepared["llamacpp"] is None:  # F16, and nothing to be measured
            return {}, check_file(candidate.path, source.tokenizer, source.stops, adapter=source.base is not None)
        return measurer.gguf(candidate, base_gguf)
    return measurer.directory(
        candidate, prepared["compressor"][candidate.word]["python"] if candidate.word in BY_COMPRESSOR else sys.executable
    )


def _settle(
    candidate: Candidate, card: Card, checks: list[ModelCheck], made_by: str, prepared: dict[str, Any], reporter: Reporter
) -> list[str]:
    """Complete the card and keep it, or say what is wrong with the form."""
    from llmops_tui.data.model_files import recognise
    from llmops_tui.engine.jobs.quantizing.making import mix_of
    from llmops_tui.engine.jobs.quantizing.measuring import faults_of

    if "perplexity_source" in card and not 0 < card["perplexity_source"] < float("inf"):
        raise UsageError(
            f"the source's own perplexity is {card['perplexity_source']}: its weights are damaged",
            "bring the model back, or an earlier one",
        )
    for check in checks:
        level = "info" if check["verdict"] == "passed" else "warning"
        reporter.log(f"{candidate.word}: {check['name']}: {check['words']}", level=level)
    if faults := faults_of(card, checks):
        return faults
    card.update(
        type=candidate.word,
        bytes=recognise(candidate.path).bytes,
        bytes_source=prepared["model"]["bytes"],
        sha256=candidate.digest(),
        made_by=made_by,
        mix=mix_of(candidate),
        rows_from=prepared["measure"]["why"] if prepared["measure"] else "",
    )
    candidate.finish(card, checks)
    figures = {f"quantize/{name}": card[name] for name in ("perplexity", "mean_kl", "tokens_per_second", "ttft_seconds") if name in card}
    reporter.events.metrics(len(list(candidate.run.artifacts.glob("*/candidate.json"))), {**figures, "quantize/bytes": card["bytes"]})
    words = [f"{card['bytes'] / 1e6:,.0f} MB"]
    if "perplexity" in card:
        words.append(f"perplexity {card['perplexity_source']:.3f} → {card['perplexity']:.3f} ({described_change(card)})")
        words.append(f"KL {card['mean_kl']:.2e} nats, same first choice {card['same_choice']:.1%} of {card['tokens']} tokens")
    if "tokens_per_second" in card:
        words.append(
            f"{card['tokens_per_second']:.1f} tokens/s, first after {card['ttft_seconds']:.3f} s, {card['memory_bytes'] / 1e6:,.0f} MB"
        )
    reporter.log(f"{candidate.word}: {'; '.join(words)}")
    return []


def _event(candidate: Candidate, card: Card, checks: list[ModelCheck], prepared: dict[str, Any]) -> dict[str, Any]:
    """What the engine registers, as an artifact event has it."""
    model, base = prepared["model"], prepared["base"]
    parents = [{"role": "adapter" if base else "model", **model}, *([{"role": "base", **base}] if base else [])]
    return {
        "name": candidate.name,
        "path": str(candidate.path.relative_to(candidate.run.path)),
        "format": "gguf" if candidate.word in GGUF_TYPES else "full",
        "base": str((base or model)["path"]),
        "licence": model["licence"] or (base or {}).get("licence", ""),
        "checks": checks,
        "card": card,
        "lineage": {"how": f"quantize to {candidate.word}", "parents": parents},
    }


def _suggested(rows: list[dict[str, Any]]) -> str:
    """Of the front the smallest; the user decides."""
    return str(min((row for row in rows if row["on_front"]), key=lambda row: int(row["bytes"]))["type"])


if __name__ == "__main__":
    sys.exit(run_job(quantize, OUT_OF_MEMORY_ADVICE))
