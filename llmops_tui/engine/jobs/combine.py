"""The job `combine`: one adapter of several, by PEFT's add_weighted_adapter, checked to speak before it is registered.

`python -m llmops_tui.engine.jobs.combine` in a run directory. Linear adds the matrices A and B each (a rough approximation of
the sum of the updates B·A, says PEFT); ties is Yadav et al. 2023 (arXiv:2306.01708), dare Yu et al. 2023 (arXiv:2311.03099),
both on the matrices; cat puts them side by side: exactly the weighted sum of the updates, at the sum of the ranks.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import sync_directory, write_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.outcome import Summary, peak_rss_bytes, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import GateFailedError
from llmops_tui.specs.combine import CombineSpec

OUT_OF_MEMORY_ADVICE = "set dtype=bfloat16"

_NAME = "combined"


def combine(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Combine and check; returns the summary. Raises GateFailedError where the result is no adapter that speaks as the first."""
    spec = CombineSpec.model_validate(record["spec"])
    prepared = record["prepared"]
    base_path = Path(prepared["base"]["path"])
    parents = prepared["adapters"]

    reporter.phase("importing libraries")
    import torch
    from peft import PeftModel
    from transformers import set_seed

    from llmops_tui.engine.jobs import hardware, template_check
    from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer, quiet

    quiet()
    plan = hardware.plan_exact(spec, prepared["base"]["parameters"])
    hardware.apply(plan)
    set_seed(spec.seed)

    # Load.
    reporter.phase("loading the adapters", total=len(parents), unit="adapters")
    for warning in prepared["warnings"]:
        reporter.log(warning, level="warning")
    tokenizer = load_tokenizer(Path(parents[0]["path"]) if prepared["adapter_tokenizer"] else base_path)
    model = PeftModel.from_pretrained(load_causal_model(base_path, plan), parents[0]["path"], adapter_name="parent0")
    for number, parent in enumerate(parents[1:], 1):
        model.load_adapter(parent["path"], adapter_name=f"parent{number}")
        reporter.beat(number + 1, len(parents))
    reporter.phase("letting the first adapter speak", total=2, unit="prompts")
    source_ended = template_check.count_ended(model, tokenizer, reporter.beat)

    # Combine.
    reporter.phase("combining")
    density = spec.density if spec.method in ("ties", "dare_linear", "dare_ties") else None
    model.add_weighted_adapter(
        [f"parent{number}" for number in range(len(parents))],
        [parent["weight"] for parent in parents],
        _NAME,
        combination_type=spec.method,
        density=density,
    )
    model.set_adapter(_NAME)
    wrong = [name for name, value in model.named_parameters() if f".{_NAME}." in name and not bool(torch.isfinite(value).all())]
    if wrong:
        raise GateFailedError(f"{len(wrong)} matrices of the combination are not finite, first {wrong[0]}", "lower the weights")
    reporter.phase("letting the combination speak", total=2, unit="prompts")
    ended = template_check.count_ended(model, tokenizer, reporter.beat)

    # Write, and check what was written.
    reporter.phase("saving")
    target = run.artifacts / "adapter"
    shutil.rmtree(target, ignore_errors=True)  # of an earlier attempt
    model.save_pretrained(run.artifacts / "made", selected_adapters=[_NAME])
    (run.artifacts / "made" / _NAME).rename(target)
    shutil.rmtree(run.artifacts / "made")
    config = json.loads((target / "adapter_config.json").read_bytes())
    write_json(target / "adapter_config.json", {**config, "base_model_name_or_path": str(base_path), "inference_mode": True})
    tokenizer.save_pretrained(target)
    _make_durable(target)
    checks = template_check.check_speech(tokenizer, load_tokenizer(target), model.generation_config, source_ended, ended)
    if faults := template_check.faults(checks):
        shutil.rmtree(target)
        raise GateFailedError(f"the combination does not speak as its first adapter: {'; '.join(faults)}", "nothing was registered")
    told = ", ".join(f"{parent['weight']:g} × {parent['ref']}" for parent in parents)
    reporter.log(f"{spec.method} of {told}: rank {config['r']}")
    summary: Summary = {
        "method": spec.method,
        "density": density,
        "rank": config["r"],
        "weights": {parent["ref"]: parent["weight"] for parent in parents},
        "checks": checks,
        "adapter": str(target.relative_to(run.path)),
        "plan": plan.describe(),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    reporter.events.write(
        "artifact",
        artifact="model",
        name=spec.output or spec.name or record["id"],
        path=str(target.relative_to(run.path)),
        format="adapter",
        base=str(base_path),
        licence=_common_licence(parents) or prepared["base"]["licence"],
        checks=checks,
        lineage={
            "how": f"combine by {spec.method}",
            "parents": [*({"role": "adapter", **parent} for parent in parents), {"role": "base", **prepared["base"]}],
        },
    )
    return summary, False


def _common_licence(parents: list[dict[str, Any]]) -> str:
    """The parents' licences; more than one are all said."""
    return " and ".join(sorted({parent["licence"] for parent in parents if parent["licence"]}))


def _make_durable(directory: Path) -> None:
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)


if __name__ == "__main__":
    sys.exit(run_job(combine, OUT_OF_MEMORY_ADVICE))
