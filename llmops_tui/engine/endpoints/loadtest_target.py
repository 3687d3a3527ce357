"""Where a load test goes, what answers there, and the earlier test that it is compared with."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmops_tui.data.foreign_json import read_object
from llmops_tui.engine.capsule import cpu_model
from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.keeping import Keeping
from llmops_tui.engine.endpoints.servers import read_replica
from llmops_tui.engine.endpoints.showing import gateway_url
from llmops_tui.engine.jobs.loadtest import load_of
from llmops_tui.engine.jobs.loadtesting.asking import Target
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.preflight_checks import field_error, not_found
from llmops_tui.engine.submitter import account_of
from llmops_tui.errors import ConflictError
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.endpoint import Slo
from llmops_tui.specs.loadtest import LoadtestSpec

# Every request's times, of a test of many stages.
_MOST_REPORT_BYTES = 256 << 20


def target_of(uid: int, spec: LoadtestSpec, keeping: Keeping, runs: Collection[LiveRun], gpus: Collection[GpuSample]) -> tuple[Target, Slo]:
    """Where it goes and what a good answer keeps to. In the loop's thread. Raises UsageError, NotFoundError, ConflictError."""
    if spec.key_env and account_of(uid) is not None:
        raise field_error(
            "key_env", "this engine is root's and gives its users' runs no secrets of its own", "load an endpoint without keys"
        )
    if spec.key_env and not os.environ.get(spec.key_env):
        raise field_error(
            "key_env", f"the engine's environment has no {spec.key_env}", "set it where the engine is started, and restart it"
        )
    return (_elsewhere(spec), spec.slo) if spec.url else _endpoint(spec, keeping, runs, gpus)


def _elsewhere(spec: LoadtestSpec) -> Target:
    host = urlsplit(spec.url).hostname or ""
    if not _is_this_box(host) and not spec.allow_network:
        raise field_error("url", f"{host} is not this box", "to load another one, say so: --set allow_network=true")
    return Target(url=spec.url, model=spec.model, endpoint=spec.url)


def _is_this_box(host: str) -> bool:
    """By its number or its one name: `127.0.0.1.example.org` is anybody's."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _endpoint(spec: LoadtestSpec, keeping: Keeping, runs: Collection[LiveRun], gpus: Collection[GpuSample]) -> tuple[Target, Slo]:
    name, _, wanted = spec.endpoint.replace("@", ":").partition(":")
    entry = keeping.book.get(name)
    if wanted and entry.spec.version(wanted) is None:
        known = ", ".join(version.name for version in entry.spec.versions)
        raise not_found("endpoint", f"{entry.name} has no version {wanted!r}", f"it has {known}")
    if keeping.settings.needs_keys and not spec.key_env:
        raise field_error("key_env", "the gateway wants a key", "name the engine's environment variable that holds one")
    _require_answering(entry, keeping, wanted)
    version = wanted or max(entry.spec.versions, key=lambda each: each.weight).name
    told = _replica(runs, entry.name, version)
    found = entry.spec.version(version)
    target = Target(
        url=gateway_url(keeping.settings),
        model=f"{entry.name}:{wanted}" if wanted else entry.name,
        endpoint=entry.name,
        version=version,
        runtime=str(told.get("runtime") or (found.provider if found else "")),
        runtime_version=str(told.get("runtime_version") or ""),
        hardware=_hardware(gpus, told),
    )
    asks = bool(spec.slo.ttft_ms or spec.slo.itl_ms or spec.slo.total_ms)
    return target, spec.slo if asks else entry.spec.slo


def _require_answering(entry: Entry, keeping: Keeping, wanted: str) -> None:
    summary = keeping.summary(entry.name)
    if summary["state"] == "asleep" or (not wanted and summary["state"] in ("ready", "degraded")):
        return
    if wanted and wanted in keeping.ready(entry):
        return
    raise ConflictError(
        f"{entry.name}{':' + wanted if wanted else ''} does not answer: {summary['reason'] or summary['state']}",
        f"see `llmops-tui endpoints show {entry.name}`",
        [{"field": "endpoint", "message": "does not answer"}],
    )


def _replica(runs: Collection[LiveRun], endpoint: str, version: str) -> Mapping[str, Any]:
    """What a server of this version tells of itself; empty where none answers."""
    for run in runs:
        values = run.spec_values
        if run.kind == "serve" and values.get("endpoint") == endpoint and values.get("version") == version:
            try:
                return read_replica(run.dir.path)[0]
            except (OSError, ValueError):
                continue
    return {}


def _hardware(gpus: Collection[GpuSample], told: Mapping[str, Any]) -> str:
    used = [gpu["name"] for gpu in gpus if gpu["uuid"] in (told.get("gpus") or ())]
    if used:
        return ", ".join(sorted(f"{used.count(name)} × {name}" for name in set(used)))
    return f"{told.get('threads') or os.cpu_count()} threads, {cpu_model()}"


def baseline_of(spec: LoadtestSpec, target: Target, runs: Collection[LiveRun]) -> dict[str, str] | None:
    """The run and its report; None for none. Reads reports: call it in a thread. Raises UsageError or NotFoundError."""
    if spec.baseline == "none":
        return None
    if spec.baseline != "auto":
        run = next((run for run in runs if run.id == spec.baseline), None)
        if run is None:
            raise not_found("baseline", f"no run {spec.baseline!r}", "see `llmops-tui runs list --filter kind:loadtest`")
        if run.kind != "loadtest" or not (path := _report(run)).is_file():
            raise field_error("baseline", f"{run.id} is no load test with a report", "name a finished load test, auto or none")
        return {"run": run.id, "report": str(path)}
    marked = sorted((run for run in runs if run.kind == "loadtest" and run.baseline), key=lambda run: run.submitted_at, reverse=True)
    for run in marked:
        try:
            old, _ = read_object(_report(run), _MOST_REPORT_BYTES)
        except (OSError, ValueError):
            continue  # it never came to a report
        told = old.get("target")
        if old.get("load") == load_of(spec) and isinstance(told, dict) and told.get("endpoint") == target.get("endpoint"):
            return {"run": run.id, "report": str(_report(run))}
    return None


def _report(run: LiveRun) -> Path:
    return run.dir.artifacts / "report.json"
