"""Many runs made of their numbers, each only when it is looked at, filtered, sorted and paged like the engine does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_tui.specs.answers import Comparison, DifferenceRow, MetricRow, RunPage, RunSummary, Scalar
from llmops_tui.specs.run_config import RunConfig
from llmops_tui.specs.run_filter import parse

_STATES = ("succeeded", "succeeded", "succeeded", "failed", "cancelled", "out_of_memory", "succeeded")
_NAMES = ("fiqa", "boolq", "support", "legal-de")
_RATES = (5e-5, 1e-4, 2e-4, 5e-4)


def old_run(number: int, now: float) -> RunSummary:
    """The run of a number: what it is called and became follows from the number alone."""
    kind = ("train", "train", "evaluate")[number % 3]
    begin = now - 90 * (20_000 - number)
    loss = {"train/loss": 1.2 + 0.9 * math.sin(number) ** 2, "eval/loss": 1.4 + 0.9 * math.sin(number) ** 2} if kind == "train" else {}
    return {
        "id": f"{kind}-{_NAMES[number % 4]}-{number:04d}", "kind": kind, "name": _NAMES[number % 4], "state": _STATES[number % 7],
        "reason": "exit code 1" if _STATES[number % 7] == "failed" else "", "attempt": 1, "priority": 0, "queue_position": None,
        "owner": ("ada", "grace")[number % 2], "tags": [["sweep", "nightly"][number % 2]] if number % 5 == 0 else [],
        "note": "", "baseline": False, "submitted_at": begin, "started_at": begin + 5, "ended_at": begin + 65 + number % 600,
        "exit_code": 0, "gpus": [], "progress": None, "latest": loss,
        "gpu_seconds": 0.0, "energy_joules": None, "cost": None, "parent": "",
    }  # fmt: skip


def spec_of(run: RunSummary) -> dict[str, Any]:
    """What the run was asked to do."""
    number = int(run["id"].rsplit("-", 1)[-1])
    return {
        "kind": run["kind"], "name": run["name"], "model": "smollm2", "dataset": {"name": run["name"], "eval_fraction": 0.1}, "seed": 17,
        "optim": {"learning_rate": _RATES[number % 4], "steps": 960}, "lora": {"rank": (8, 16)[number % 2]}, "tags": list(run["tags"]),
    }  # fmt: skip


@dataclass
class Row:
    """A `FilterRow` of a summary."""

    summary: RunSummary
    config: RunConfig
    search_text: str

    def __getattr__(self, name: str) -> Any:
        return self.summary[name]  # type: ignore[literal-required]


def row_of(run: RunSummary, spec: Mapping[str, Any] | None = None) -> Row:
    """What the filter looks at."""
    return Row(run, RunConfig(spec or spec_of(run)), " ".join([run["id"], run["name"], *run["tags"], run["note"]]).casefold())


def value_of(run: RunSummary, column: str) -> Scalar:
    """A `cfg.` or `metric.` column's value."""
    if column.startswith("metric."):
        return run["latest"].get(column.removeprefix("metric."))
    return RunConfig(spec_of(run)).get(column.removeprefix("cfg."))


def _order(sort: str, now: float) -> Callable[[RunSummary], Any]:
    def of(run: RunSummary) -> Scalar:
        if sort.startswith(("cfg.", "metric.")):
            return value_of(run, sort)
        if sort == "duration":
            return None if run["started_at"] is None else (run["ended_at"] or now) - run["started_at"]
        return run[{"submitted": "submitted_at", "started": "started_at", "ended": "ended_at"}.get(sort, sort)]  # type: ignore[literal-required,no-any-return]

    return of


@dataclass
class Archive:
    """`count` old runs beside those that are given with each question; `specs` are those of runs that are known better."""

    count: int
    now: float
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)
    specs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _made: dict[int, RunSummary] = field(default_factory=dict)

    def every(self, present: Sequence[RunSummary]) -> list[RunSummary]:
        """All runs, annotated ones as they were annotated."""
        for number in range(1000, 1000 + self.count):
            if number not in self._made:
                self._made[number] = old_run(number, self.now)
        runs = [*present, *self._made.values()]
        return [{**run, **self.changes[run["id"]]} if run["id"] in self.changes else run for run in runs if run["id"] not in self.removed]  # type: ignore[misc]

    def page(
        self,
        present: Sequence[RunSummary],
        filter: str,
        sort: str,
        descending: bool,
        limit: int,
        offset: int,
        columns: Sequence[str],
        around: str,
    ) -> RunPage:
        """One page, like `GET /v1/runs`."""
        self.asked.append(
            {"filter": filter, "sort": sort, "descending": descending, "limit": limit, "offset": offset, "columns": tuple(columns)}
        )
        runs = self.every(present)
        if filter.strip():
            wanted = parse(filter)
            runs = [run for run in runs if wanted.matches(row_of(run, self.specs.get(run["id"])), self.now)]
        order = _order(sort or "submitted", self.now)
        known = sorted((run for run in runs if order(run) is not None), key=order, reverse=descending)
        runs = known + [run for run in runs if order(run) is None]
        place = next((at for at, run in enumerate(runs) if run["id"] == around), None) if around else None
        if place is not None and not offset <= place < offset + limit:
            offset = max(0, place - limit // 2)
        part = runs[offset : offset + limit]
        values = {run["id"]: {column: value_of(run, column) for column in columns} for run in part} if columns else {}
        return {"runs": part, "total": len(runs), "columns": values, "offset": offset}


def comparison(runs: Sequence[RunSummary]) -> Comparison:
    """Like `GET /v1/compare`, of what the runs' numbers say."""
    configs = [dict(RunConfig(spec_of(run)).items()) for run in runs]
    names = list(dict.fromkeys(name for config in configs for name in config))
    environment: Mapping[str, Sequence[Scalar]] = {"packages.torch": ["2.9.1"] * len(runs), "git": [run["id"][-3:] for run in runs]}
    metrics = sorted({name for run in runs for name in run["latest"]})
    return {
        "runs": list(runs),
        "config": [_difference(name, [config.get(name) for config in configs]) for name in names],
        "data": [_difference("train.rows", [int(run["id"][-4:]) for run in runs])],
        "environment": [_difference(name, list(values)) for name, values in environment.items()],
        "metrics": [_metric(name, [run["latest"].get(name) for run in runs]) for name in metrics],
    }


def _difference(key: str, values: list[Scalar]) -> DifferenceRow:
    return {"key": key, "values": values, "differs": len(set(values)) > 1}


def _metric(name: str, values: list[float | None]) -> MetricRow:
    return {"metric": name, "last": values, "minimum": values, "maximum": values}
