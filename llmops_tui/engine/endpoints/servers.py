"""The servers of the endpoints, read from their runs: the run's state, and `replica.json`, which a server that answers has written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from llmops_tui.data.foreign_json import read_object
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.specs.states import ENDED, WAITING

KIND = "serve"
# A clock that was set back a little between the run's start and its file is forgiven.
_CLOCK_SECONDS = 2.0
_MOST_BYTES = 256 << 10


def replica_file(run: Path) -> Path:
    """What a server that answers tells; it is there only while it does."""
    return run / "artifacts" / "replica.json"


def read_servers(runs: Iterable[LiveRun], draining: Collection[str], owners: Mapping[str, int]) -> dict[str, list[Server]]:
    """The servers by endpoint, oldest first; `owners` are the endpoints' uids. Reads a small file for each that runs: call it in a thread.

    A run that says it is an endpoint's and is not its owner's gets none of its requests: it stands under a name that no endpoint has.
    """
    found: dict[str, list[Server]] = defaultdict(list)
    for run in runs:
        if run.kind == KIND and (endpoint := str(run.spec_values.get("endpoint") or "")):
            foreign = owners.get(endpoint, run.uid) != run.uid
            found[f"{endpoint} of uid {run.uid}" if foreign else endpoint].append(_server(run, run.id in draining))
    return dict(found)


def _server(run: LiveRun, draining: bool) -> Server:
    version = str(run.spec_values.get("version") or "")
    since = run.started_at or run.submitted_at
    if run.state in ENDED:
        failed = run.state not in ("cancelled", "succeeded")
        return Server(run.id, version, "ended", since, ended_at=run.ended_at or since, failed=failed, reason=run.reason or run.state)
    riders = _riders(run)
    if run.state in WAITING:
        return Server(run.id, version, "waiting", run.submitted_at, reason=run.reason, riders=riders)
    told = _told(run)
    if told is None:
        return Server(run.id, version, "draining" if run.state == "stopping" else "starting", since, reason=_words(run), riders=riders)
    return Server(
        run.id,
        version,
        "draining" if draining or run.state == "stopping" else "ready",
        since,
        ready_at=_ready_at(run),
        host=str(told.get("host") or ""),
        port=_whole(told, "port"),
        model=str(told.get("model_name") or ""),
        runtime=str(told.get("runtime") or ""),
        slots=max(1, _whole(told, "slots")),
        context=_whole(told, "context_per_slot"),
        adapters=_adapters(told, riders),
        riders=riders,
        # One that an earlier version of ours started does not say: it always had room.
        takes_adapters=bool(told.get("takes_adapters", told.get("runtime") == "vllm")),
    )


def _riders(run: LiveRun) -> tuple[tuple[str, str], ...]:
    listed = run.spec_values.get("adapters")
    return (
        tuple((str(one.get("name")), str(one.get("model"))) for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()
    )


def _adapters(told: dict[str, Any], riders: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """What it has loaded. llama.cpp knows them by their place among those it was started with (serving/gateway/replica.py)."""
    names = [str(name) for name in told.get("adapters") or ()]
    if told.get("runtime") != "llamacpp":
        return tuple((name, name) for name in names)
    places = {name: f"lora:{number}" for number, (name, _) in enumerate(riders)}
    return tuple((name, places[name]) for name in names if name in places)


def read_replica(run: Path) -> tuple[dict[str, Any], float]:
    """What a server tells of itself, and when it wrote that. Raises OSError or ValueError where there is nothing of the kind."""
    return read_object(replica_file(run), _MOST_BYTES)


def _told(run: LiveRun) -> dict[str, Any] | None:
    """Its replica.json, unless it is of an attempt before."""
    try:
        value, written = read_replica(run.dir.path)
    except (OSError, ValueError):
        return None
    attempt = _whole(value, "attempt")
    # By the attempt's number: a clock that was set back since the start makes the file look older than its attempt.
    old = attempt != run.attempt if attempt else written < (run.started_at or 0.0) - _CLOCK_SECONDS
    return value if not old and _whole(value, "port") else None


def _ready_at(run: LiveRun) -> float:
    """When it wrote that it answers."""
    try:
        return replica_file(run.dir.path).stat().st_mtime
    except OSError:
        return 0.0


def _words(run: LiveRun) -> str:
    """What it is at."""
    return run.reason or (run.progress["phase"] if run.progress else "")


def _whole(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
