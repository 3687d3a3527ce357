"""A test as guidellm's report of schema 2 (`benchmarks.json` of guidellm 0.8), for tools that read that. Pure.

Milliseconds where a name ends in `_ms`, else seconds; rates are distributions over whole seconds of the stage, concurrency over time.
What a load test of text does not have (images, audio, tool calls) is null, as there.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops_tui.engine.jobs.loadtesting.asking import Outcome, Target
from llmops_tui.engine.jobs.loadtesting.figures import is_whole, tpot_of
from llmops_tui.engine.jobs.loadtesting.schedule import Stage
from llmops_tui.specs.loadtest import LoadtestSpec

if TYPE_CHECKING:
    from llmops_tui.engine.jobs.loadtesting.running import StageRun

_GUIDELLM = "0.8.1"
_PERCENTILES = {
    "p001": 0.001, "p01": 0.01, "p05": 0.05, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99,
    "p999": 0.999,
}  # fmt: skip
_STATES = ("successful", "errored", "incomplete")
_SUMMARY = ("input", "output", "total")
Measure = Callable[[Outcome], float | None]
Json = dict[str, Any]


def guidellm_report(
    spec: LoadtestSpec, target: Target, results: Sequence[tuple[Stage, StageRun, list[Outcome]]], unix_offset: float
) -> Json:
    """`unix_offset` is added to monotonic seconds to make Unix seconds."""
    backend = {"kind": "openai_http", "target": target["url"], "model": target["model"]}
    return {
        "metadata": {
            "version": 2,
            "guidellm_version": _GUIDELLM,
            "python_version": platform.python_version(),
            "platform": platform.platform(),
        },
        "config": {
            "metadata": {"labels": {"name": spec.name or spec.default_name(), "made_by": "llmops-tui"}},
            "spec": {"backend": backend, "data": [_data(spec)], "profile": _profile(spec, [stage for stage, _, _ in results])},
        },
        "benchmarks": [
            _benchmark(spec, target, number, stage, run, outcomes, unix_offset) for number, (stage, run, outcomes) in enumerate(results)
        ],
        "conclusions": [],
    }


def _benchmark(
    spec: LoadtestSpec, target: Target, number: int, stage: Stage, run: StageRun, outcomes: list[Outcome], offset: float
) -> Json:
    began, ended = run.began + offset, run.ended + offset
    groups = {
        "successful": [outcome for outcome in outcomes if is_whole(outcome)],
        "errored": [outcome for outcome in outcomes if outcome.error],
        "incomplete": [outcome for outcome in outcomes if outcome.given_up and not outcome.error],
    }
    strategy = _strategy(stage, spec)
    made = {**{name: len(group) for name, group in groups.items()}, "total": len(outcomes)}
    delay = _mean([outcome.sent - outcome.due for outcome in outcomes if outcome.sent])
    took = _mean([outcome.end - outcome.sent for outcome in groups["successful"]])
    return {
        "type_": "generative_benchmark",
        "start_time": began,
        "end_time": ended,
        "duration": ended - began,
        "warmup_duration": 0.0,
        "cooldown_duration": 0.0,
        "config": {
            "run_id": spec.name or spec.default_name(), "run_index": number, "strategy": strategy, "constraints": {},
            "profile": _profile(spec, [stage]), "requests": {"data": spec.prompts.dataset or "synthetic_text"},
            "backend": {"kind": "openai_http", "target": target["url"], "model": target["model"]}, "environment": {},
        },
        "scheduler_state": {
            "num_processes": 1, "start_time": began, "end_time": ended,
            "created_requests": len(outcomes), "processed_requests": len(outcomes),
            "successful_requests": made["successful"], "errored_requests": made["errored"], "cancelled_requests": made["incomplete"],
        },
        "scheduler_metrics": {
            "start_time": began, "request_start_time": began, "measure_start_time": began,
            "measure_end_time": ended, "request_end_time": ended, "end_time": ended, "requests_made": made,
            "queued_time_avg": delay, "resolve_start_delay_avg": 0.0,
            "resolve_targeted_start_delay_avg": delay, "request_start_delay_avg": 0.0, "request_targeted_start_delay_avg": delay,
            "request_time_avg": took, "resolve_end_delay_avg": 0.0, "resolve_time_avg": took, "finalized_delay_avg": 0.0,
            "processed_delay_avg": 0.0, "strategy_type": strategy["type_"],
        },
        "metrics": _metrics(groups, made, run),
        "requests": {**{name: [_request(outcome, name, offset) for outcome in group] for name, group in groups.items()}, "total": None},
    }  # fmt: skip


def _data(spec: LoadtestSpec) -> Json:
    if spec.prompts.dataset:
        return {"kind": "json_file", "path": spec.prompts.dataset}
    return {"kind": "synthetic_text", "prompt_tokens": spec.prompts.tokens, "output_tokens": spec.prompts.answer_tokens}


def _profile(spec: LoadtestSpec, stages: Sequence[Stage]) -> Json:
    if spec.prompts.replay_speed:
        return {"kind": "replay", **_pace(spec)}
    ramp = {"rampup_duration": spec.ramp_seconds}
    if stages and stages[0].workers:
        return {"kind": "concurrent", "streams": [stage.workers for stage in stages], **ramp}
    return {"kind": spec.arrivals, "rate": [stage.rate for stage in stages], "max_concurrency": spec.most_outstanding, **ramp}


def _strategy(stage: Stage, spec: LoadtestSpec) -> Json:
    ramp = {"rampup_duration": spec.ramp_seconds}
    if spec.prompts.replay_speed:
        return {"type_": "trace", **_pace(spec)}
    if stage.workers == 1:
        return {"type_": "synchronous"}
    if stage.workers:
        return {"type_": "concurrent", "streams": stage.workers, **ramp}
    if spec.arrivals == "constant":
        return {"type_": "constant", "rate": stage.rate, "max_concurrency": spec.most_outstanding, **ramp}
    return {"type_": "poisson", "rate": stage.rate, "max_concurrency": spec.most_outstanding, "random_seed": spec.seed}


def _pace(spec: LoadtestSpec) -> Json:
    """Twice as fast is half of each time there."""
    return {"time_scale": 1 / spec.prompts.replay_speed, "schedule_turn": "timestamp"}


def _metrics(groups: dict[str, list[Outcome]], made: Json, run: StageRun) -> Json:
    def each(measure: Measure) -> Json:
        values = {name: [value for outcome in group if (value := measure(outcome)) is not None] for name, group in groups.items()}
        everything = [value for found in values.values() for value in found]
        return {**{name: _distribution(found) for name, found in values.items()}, "total": _distribution(everything)}

    def a_second(amount: Measure) -> Json:
        found = {name: _per_second(group, amount, run) for name, group in groups.items()}
        return {**found, "total": _per_second([outcome for group in groups.values() for outcome in group], amount, run)}

    def at_once() -> Json:
        found = {name: _concurrency(group, run) for name, group in groups.items()}
        return {**found, "total": _concurrency([outcome for group in groups.values() for outcome in group], run)}

    def ttft(outcome: Outcome) -> float | None:
        return (outcome.first - outcome.due) * 1000 if outcome.first else None

    def prompt(outcome: Outcome) -> float:
        return float(outcome.prompt_tokens)

    def output(outcome: Outcome) -> float:
        return float(outcome.completion_tokens)

    def both(outcome: Outcome) -> float:
        return prompt(outcome) + output(outcome)

    concurrency = at_once()
    nothing = {name: _distribution([]) for name in (*_STATES, "total")}
    tokens: Json = {}
    for name, amount in zip(_SUMMARY, (prompt, output, both), strict=True):
        tokens |= {name: each(amount), f"{name}_per_second": a_second(amount), f"{name}_concurrency": concurrency}
    return {
        "request_totals": made,
        "requests_per_second": a_second(lambda outcome: 1.0),
        "request_concurrency": concurrency,
        "request_latency": each(lambda outcome: outcome.end - outcome.due),
        "request_streaming_iterations_count": each(lambda outcome: float(len(outcome.gaps) + 1 if outcome.first else 0)),
        "prompt_token_count": each(prompt),
        "output_token_count": each(output),
        "total_token_count": each(both),
        "time_to_first_token_ms": each(ttft),
        "time_to_first_output_token_ms": each(ttft),
        "time_per_output_token_ms": each(_per_token),
        "inter_token_latency_ms": each(lambda outcome: None if (tpot := tpot_of(outcome)) is None else tpot * 1000),
        "time_to_last_round_trip_ms": nothing,
        "avg_round_trip_time_ms": nothing,
        "prompt_tokens_per_second": a_second(prompt),
        "output_tokens_per_second": a_second(output),
        "tokens_per_second": a_second(both),
        "output_tokens_per_iteration": each(_tokens_a_piece),
        "iter_tokens_per_iteration": each(_tokens_a_piece),
        "text": {"tokens": tokens, "words": None, "characters": None},
        "image": {"tokens": None, "images": None, "pixels": None, "bytes": None},
        "video": {"tokens": None, "frames": None, "seconds": None, "bytes": None},
        "audio": {"tokens": None, "samples": None, "seconds": None, "bytes": None},
        "tool_call": {"tokens": None, "mixed_tokens": None, "count": None},
    }


def _per_token(outcome: Outcome) -> float | None:
    """guidellm's: the whole answer, its first token too, over its tokens."""
    return (outcome.last - outcome.due) * 1000 / outcome.completion_tokens if outcome.completion_tokens and outcome.last else None


def _tokens_a_piece(outcome: Outcome) -> float | None:
    return outcome.completion_tokens / (len(outcome.gaps) + 1) if outcome.first else None


def _request(outcome: Outcome, state: str, offset: float) -> Json:
    def at(t: float) -> float | None:
        return t + offset if t else None

    pieces = len(outcome.gaps) + 1 if outcome.first else 0
    status = {"successful": "completed", "errored": "errored", "incomplete": "cancelled"}[state]
    return {
        "type_": "generative_request_stats",
        "request_id": str(outcome.number),
        "info": {
            "request_id": str(outcome.number),
            "status": status,
            "error": outcome.error or None,
            "timings": {
                "targeted_start": at(outcome.due), "resolve_start": at(outcome.sent), "request_start": at(outcome.sent),
                "first_request_iteration": at(outcome.first), "first_token_iteration": at(outcome.first),
                "first_output_token_iteration": at(outcome.first), "last_token_iteration": at(outcome.last),
                "last_request_iteration": at(outcome.last), "request_iterations": pieces, "token_iterations": pieces,
                "request_end": at(outcome.end), "resolve_end": at(outcome.end),
            },
        },
        "input_metrics": {"text_tokens": outcome.prompt_tokens},
        "output_metrics": {"text_tokens": outcome.completion_tokens},
    }  # fmt: skip


def _per_second(outcomes: Sequence[Outcome], amount: Measure, run: StageRun) -> Json:
    """What ended in each second of the stage."""
    seconds = max(1, round(run.ended - run.began))
    bins = np.zeros(seconds)
    for outcome in outcomes:
        bins[min(seconds - 1, max(0, int(outcome.end - run.began)))] += amount(outcome) or 0.0
    return _distribution(bins.tolist())


def _concurrency(outcomes: Sequence[Outcome], run: StageRun) -> Json:
    """How many were under way, weighted by how long."""
    if not outcomes:
        return _distribution([])
    changes = sorted([(outcome.due, 1) for outcome in outcomes] + [(outcome.end, -1) for outcome in outcomes])
    values, weights, under_way, since = [], [], 0, run.began
    for t, step in changes:
        if t > since:
            values.append(float(under_way))
            weights.append(t - since)
        under_way, since = under_way + step, max(since, t)
    return _distribution(values, weights)


def _distribution(values: Sequence[float], weights: Sequence[float] | None = None) -> Json:
    """guidellm's DistributionSummary; zeros for nothing, as there."""
    if not len(values):
        found = dict.fromkeys(("mean", "median", "mode", "variance", "std_dev", "min", "max", "total_sum"), 0.0)
        return {**found, "count": 0, "percentiles": dict.fromkeys(_PERCENTILES, 0.0)}
    array = np.asarray(values, dtype=np.float64)
    shares = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(array, kind="stable")
    reached = np.cumsum(shares[order]) / shares.sum()
    percentiles = {
        name: float(array[order][min(len(array) - 1, int(np.searchsorted(reached, share)))]) for name, share in _PERCENTILES.items()
    }
    mean = float(np.average(array, weights=shares))
    variance = float(np.average((array - mean) ** 2, weights=shares))
    kinds, places = np.unique(array, return_inverse=True)
    return {
        "mean": mean,
        "median": percentiles["p50"],
        "mode": float(kinds[int(np.bincount(places, weights=shares).argmax())]),
        "variance": variance,
        "std_dev": variance**0.5,
        "min": float(array.min()),
        "max": float(array.max()),
        "count": len(array),
        "total_sum": float(array.sum()),
        "percentiles": percentiles,
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
