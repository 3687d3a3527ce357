"""Runs side by side: what each was asked to do, on which data, where, and what came of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import duckdb

from llmops_tui.data.extremes import Extremes, extremes
from llmops_tui.data.masking import masked
from llmops_tui.data.store import Store
from llmops_tui.engine.capsule import newest_capsule
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import Comparison, DifferenceRow, MetricRow, RunSummary, Scalar
from llmops_tui.specs.run_config import flatten

FEWEST, MOST = 2, 16
# They are in the runs' summaries, where the user may have changed them since.
_IN_SUMMARY = frozenset({"name", "tags", "notes"})
# Of what the preflight found: the disk it forecast says nothing about the data.
_NO_DATA = frozenset({"warnings", "disk_bytes", "disk_free_bytes"})
_NO_DATA_ENDS = (".mtime_ns", ".why")


def check_number(run_ids: Sequence[str]) -> list[str]:
    """The runs, none twice. Raises UsageError unless they are 2 to 16."""
    chosen = list(dict.fromkeys(run_ids))
    if not FEWEST <= len(chosen) <= MOST:
        message = f"{len(chosen)} run{'' if len(chosen) == 1 else 's'}: {FEWEST} to {MOST} different ones can be compared"
        raise UsageError(message, "name them by id", [{"field": "run", "message": message}])
    return chosen


async def compare(store: Store, runs: Sequence[LiveRun], summaries: Sequence[RunSummary]) -> Comparison:
    """Call it on the event loop; what is read from the disk is read in a thread. Raises LlmopsError (the database is closed)."""
    places = [(run.dir, run.attempt) for run in runs]

    def read() -> tuple[list[dict[str, Scalar]], list[dict[str, Extremes]]]:
        def all_extremes(con: duckdb.DuckDBPyConnection) -> list[dict[str, Extremes]]:
            return [extremes(con, run.id) for run, _ in places]

        return [environment_of(newest_capsule(run, attempt)) for run, attempt in places], store.read(all_extremes)

    environments, ranges = await asyncio.to_thread(read)
    # Not `run.config`, whose secrets are masked and would all be the same.
    configs = [{key: value for key, value in flatten(run.spec_values).items() if key not in _IN_SUMMARY} for run in runs]
    return Comparison(
        runs=list(summaries),
        config=[_masked(row) for row in difference_rows(configs)],
        data=difference_rows([data_of(run.record) for run in runs]),
        environment=difference_rows(environments),
        metrics=metric_rows([run.latest for run in runs], ranges),
    )


def difference_rows(runs: Sequence[Mapping[str, Scalar]]) -> list[DifferenceRow]:
    """Every key any of them has, in the order they are met; None where a run has no such key."""
    keys = dict.fromkeys(key for run in runs for key in run)
    rows = []
    for key in keys:
        values = [run.get(key) for run in runs]
        if any(value is not None for value in values):
            rows.append(DifferenceRow(key=key, values=values, differs=any(not _equal(value, values[0]) for value in values)))
    return rows


def _masked(row: DifferenceRow) -> DifferenceRow:
    """A comparison is made to be shown to others: secrets in the jobs' environment differ, and say no more than that."""
    if not row["key"].startswith("env."):
        return row
    name = row["key"].removeprefix("env.")
    return {**row, "values": [value if value is None else masked({name: str(value)})[name] for value in row["values"]]}


def metric_rows(latest: Sequence[Mapping[str, float]], ranges: Sequence[Mapping[str, Extremes]]) -> list[MetricRow]:
    """Every metric any of them has, by name. What was told a moment ago may be in memory and not in the store yet."""
    nothing = Extremes(None, None)
    rows = []
    for name in sorted({name for values in (*latest, *ranges) for name in values}):
        last = [_finite(values.get(name)) for values in latest]
        found = [values.get(name, nothing) for values in ranges]
        rows.append(
            MetricRow(
                metric=name,
                last=last,
                minimum=[_pick(min, value, own.minimum) for value, own in zip(last, found, strict=True)],
                maximum=[_pick(max, value, own.maximum) for value, own in zip(last, found, strict=True)],
            )
        )
    return rows


def data_of(record: Mapping[str, Any]) -> dict[str, Scalar]:
    """Models, data sets, rows and licences, as they were checked when the run was submitted."""
    prepared = record.get("prepared")
    if not isinstance(prepared, dict):
        return {}
    flat = flatten({key: value for key, value in prepared.items() if key not in _NO_DATA})
    return {key: value for key, value in flat.items() if not key.endswith(_NO_DATA_ENDS)}


def environment_of(capsule: Mapping[str, Any] | None) -> dict[str, Scalar]:
    """Code, interpreter, driver, box, GPUs, packages and variables of the newest attempt that has a capsule."""
    if capsule is None:
        return {}
    git, python = _part(capsule, "git"), _part(capsule, "python")
    own = _part(_part(capsule, "spec"), "env")  # settings of the run, and told as such
    diff = _part(git, "diff")
    found: dict[str, Scalar] = {
        "git.commit": git.get("commit"),
        "git.branch": git.get("branch"),
        "git.diff": diff.get("sha256"),
        "git.untracked": ", ".join(map(str, git.get("untracked") or [])) or None,
        "python": python.get("version"),
        **{f"driver.{name}": version for name, version in _part(capsule, "driver").items()},
        "gpus": ", ".join(_counted(str(gpu.get("name")) for gpu in capsule.get("gpus") or [] if isinstance(gpu, dict))) or None,
        **{f"host.{name}": value for name, value in flatten(_part(capsule, "host")).items()},
        **{f"package.{name}": version for name, version in _part(python, "packages").items()},
        **{f"env.{name}": value for name, value in _part(capsule, "env").items() if name not in own and not name.startswith("LLMOPS_")},
    }
    return {key: value for key, value in found.items() if value is None or isinstance(value, str | int | float | bool)}


def _part(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _counted(names: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [name if count == 1 else f"{count} × {name}" for name, count in counts.items()]


def _equal(one: Scalar, other: Scalar) -> bool:
    """Python takes True for 1; a user does not."""
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _pick(choose: Callable[[list[float]], float], *values: float | None) -> float | None:
    there = [value for value in values if value is not None]
    return choose(there) if there else None
