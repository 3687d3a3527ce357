"""The job `loadtest`: loads an endpoint in stages and says what it held, beside an earlier test of the same load.

`python -m llmops_tui.engine.jobs.loadtest` in a run directory. The results: artifacts/report.json (with every request's times, for later
comparisons) and artifacts/guidellm.json. Asked to stop, it reports what was measured until then.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from time import monotonic
from typing import Any

import uvloop

from llmops_tui.data.durable import write_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.loadtesting.asking import Asker, Outcome, Target
from llmops_tui.engine.jobs.loadtesting.comparing import compare, what_differs
from llmops_tui.engine.jobs.loadtesting.figures import stage_report, times_of
from llmops_tui.engine.jobs.loadtesting.guidellm_report import guidellm_report
from llmops_tui.engine.jobs.loadtesting.prompts import Payloads, Recorded, read_recorded
from llmops_tui.engine.jobs.loadtesting.running import StageRun
from llmops_tui.engine.jobs.loadtesting.schedule import Stage, stages_of
from llmops_tui.engine.jobs.loadtesting.ticking import Ticker
from llmops_tui.engine.jobs.outcome import Summary, run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.specs.endpoint import Slo
from llmops_tui.specs.loadtest import LoadtestSpec

_MOST_SAMPLES = 20_000


def loadtest(run: RunDir, record: dict[str, Any], reporter: Reporter) -> tuple[Summary, bool]:
    """Carry out all stages; returns the summary and whether it was stopped before the end."""
    spec = LoadtestSpec.model_validate(record["spec"])
    target: Target = record["prepared"]["target"]
    slo = spec.slo.model_validate(record["prepared"]["slo"])

    reporter.phase("preparing prompts")
    rows = _recorded(spec, record["prepared"]["dataset"])
    stages = stages_of(spec, [row.t for row in rows])
    if not stages or not any(stage.requests for stage in stages):
        raise ConflictError("there is nothing to ask", "raise requests, or name rows with prompts.dataset")
    payloads = Payloads(spec, target["model"], rows)

    ticker = Ticker(reporter, sum(stage.requests for stage in stages))
    stopped, results = uvloop.run(_test(spec, target, stages, payloads, ticker))
    if not any(outcomes for _, _, outcomes in results):
        raise ConflictError("it was stopped before anything was measured", "run it again")

    reports, samples = [], {}
    for stage, done, outcomes in results:
        report = stage_report(outcomes, done.began, done.ended, slo, spec.seed)
        report = {
            "stage": stage.name,
            **report,
            "sent_late_ms": round(done.latest_send * 1000, 3),
            "most_outstanding": done.most_outstanding,
        }
        reports.append(report)
        samples[stage.name] = {name: _few(values.round(3).tolist()) for name, values in times_of(outcomes).by_request().items()}
        reporter.log(told(report))
    facts = {name: str(target.get(name, "")) for name in ("endpoint", "version", "model", "runtime", "runtime_version", "hardware")}
    compared = _compared(record["prepared"].get("baseline"), samples, facts, spec)
    if compared is not None:
        reporter.log(compared["told"])

    run.artifacts.mkdir(exist_ok=True)
    write_json(run.artifacts / "report.json", {"target": facts, "load": load_of(spec), "stages": reports, "samples": samples})
    write_json(run.artifacts / "guidellm.json", guidellm_report(spec, target, results, time.time() - monotonic()))
    for name in ("report", "guidellm"):
        path = run.artifacts / f"{name}.json"
        reporter.events.write("artifact", artifact="report", name=name, path=str(path.relative_to(run.path)), format="json")
    _refuse_if_nothing_came(reports)
    return summary_of(facts, reports, slo, compared), stopped


async def _test(
    spec: LoadtestSpec, target: Target, stages: list[Stage], payloads: Payloads, ticker: Ticker
) -> tuple[bool, list[tuple[Stage, StageRun, list[Outcome]]]]:
    loop = asyncio.get_running_loop()
    secret = os.environ.get(spec.key_env, "") if spec.key_env else ""
    path = "/chat/completions" if spec.api == "chat" else "/completions"
    asker = Asker(loop, target["url"], path, secret, spec.timeout_seconds)
    results: list[tuple[Stage, StageRun, list[Outcome]]] = []
    try:
        ticker.begin("warming up")
        for number in range(spec.warmup):
            outcome = Outcome(-1 - number, monotonic())
            await asker.ask(outcome, payloads.body(-1 - number))
            if outcome.error:
                raise LlmopsError(f"the endpoint does not answer: {outcome.error}", "see `llmops-tui endpoints show`, or the server's log")
        first = 0
        for stage in stages:
            ticker.begin(stage.name)
            outcomes: list[Outcome] = []
            heard = ticker.hears(outcomes)
            stage_run = StageRun(spec, stage, asker, payloads, first, heard, lambda: ticker.stopped)
            ticker.watch(stage_run)
            await stage_run.carry_out()
            ticker.end()
            results.append((stage, stage_run, outcomes))
            first += stage.requests
            if ticker.stopped:
                break
    finally:
        asker.close()
    return ticker.stopped, results


def summary_of(facts: dict[str, str], reports: list[dict[str, Any]], slo: Slo, compared: dict[str, Any] | None) -> Summary:
    """For people a line a stage; `stages` and `comparison` for programs."""
    asked = [f"{name.removesuffix('_ms').upper()} ≤ {value:g} ms" for name, value in slo.model_dump().items() if value]
    return {
        "endpoint": ":".join(filter(None, (facts["endpoint"], facts["version"]))),
        "served_by": " ".join(filter(None, (facts["runtime"], facts["runtime_version"]))),
        "hardware": facts["hardware"],
        "slo": ", ".join(asked),
        "load": {report["stage"]: told(report).partition(": ")[2] for report in reports},
        "beside_baseline": compared["told"] if compared else "",
        "stages": reports,
        "comparison": [compared] if compared else [],
    }


def load_of(spec: LoadtestSpec) -> dict[str, Any]:
    """What makes two tests comparable: the load and what was asked, whoever answered."""
    names = ("api", "concurrency", "rate", "arrivals", "ramp_seconds", "prompts", "temperature")
    return {name: value for name, value in spec.model_dump(mode="json").items() if name in names}


def told(report: dict[str, Any]) -> str:
    """One stage in a line."""
    ttft, tpot = report["ttft_ms"], report["tpot_ms"]
    words = [f"{report['stage']}: {report['completed']} of {report['requests']} answered"]
    words.append(f"{report['requests_per_second']:.2f} requests/s, {report['output_tokens_per_second']:.1f} tokens/s")
    if ttft:
        words.append(f"TTFT {ttft['p50']:.0f} ms (p95 {ttft['p95']:.0f})")
    if tpot:
        words.append(f"TPOT {tpot['p50']:.1f} ms (p95 {tpot['p95']:.1f})")
    if report["goodput_requests_per_second"] is not None:
        words.append(f"{report['goodput_requests_per_second']:.2f} good requests/s ({report['good_fraction']:.0%})")
    return ", ".join(words)


def _compared(baseline: dict[str, str] | None, samples: dict[str, Any], facts: dict[str, Any], spec: LoadtestSpec) -> dict[str, Any] | None:
    """Beside the baseline; None without one. Raises ConflictError where its report has gone."""
    if baseline is None:
        return None
    try:
        old = json.loads(Path(baseline["report"]).read_bytes())
        found = compare(samples, old["samples"], spec.tolerance, spec.seed)
        differs = what_differs(facts, old["target"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConflictError(
            f"baseline: the report of {baseline['run']} cannot be read: {error}", "name another, or baseline=none"
        ) from None
    moved = [row for row in found["rows"] if row["verdict"] in ("slower", "faster")]
    worst = max(moved, key=lambda row: abs(row["ratio"] - 1), default=None)
    words = f"{found['verdict']} beside {baseline['run']}"
    if worst is not None:
        words += f" ({worst['stage']}: {worst['measure'].removesuffix('_ms').upper()} {worst['then']:g} → {worst['now']:g} ms)"
    if differs:
        words += f"; differs: {'; '.join(differs)}"
    return {"run": baseline["run"], **found, "differs": differs, "told": words}


def _recorded(spec: LoadtestSpec, dataset: dict[str, str] | None) -> list[Recorded]:
    if dataset is None:
        return []
    stages = 1 if spec.prompts.replay_speed else max(1, len(spec.rate) or len(spec.concurrency))
    return read_recorded(Path(dataset["path"]), dataset["format"], spec.requests * stages, timed=spec.prompts.replay_speed > 0)


def _few(values: list[float]) -> list[float]:
    """Evenly thinned, so that a long test's report stays readable by others."""
    step = -(-len(values) // _MOST_SAMPLES)
    return values[:: max(1, step)]


def _refuse_if_nothing_came(reports: list[dict[str, Any]]) -> None:
    if any(report["completed"] for report in reports):
        return
    errors = [error for report in reports for error in report["errors"]]
    raise LlmopsError(
        f"no request was answered: {errors[0] if errors else 'none ended in time'}", "see artifacts/report.json and the server's log"
    )


if __name__ == "__main__":
    sys.exit(run_job(loadtest, "lower concurrency"))
