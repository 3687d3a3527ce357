"""Which servers of an endpoint to start and which to let go. Pure: the wish, the servers there are and the time give the steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmops_tui.engine.endpoints.changes import used_versions
from llmops_tui.engine.endpoints.entry import Entry

# A version whose servers ended so often within the window is given up until somebody asks again.
MOST_FAILURES = 4
_WINDOW_SECONDS = 600.0
_AHEAD_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0

Phase = Literal["waiting", "starting", "ready", "draining", "ended"]


@dataclass(frozen=True)
class Server:
    """One replica as its run tells. `run` is empty for one that was refused before it became a run.

    `failed`: it ended without being asked to; `ready_at`: since when it answers. `adapters`: those it has loaded, with what a request
    calls them there; `riders`: those it was started with, with their models. `takes_adapters`: it is given further ones while it runs;
    one that is not is replaced by a server that was started with them.
    """

    run: str
    version: str
    phase: Phase
    since: float
    ready_at: float = 0.0
    ended_at: float = 0.0
    failed: bool = False
    reason: str = ""
    host: str = ""
    port: int = 0
    model: str = ""
    runtime: str = ""
    slots: int = 1
    context: int = 0
    adapters: tuple[tuple[str, str], ...] = ()
    riders: tuple[tuple[str, str], ...] = ()
    takes_adapters: bool = False


@dataclass(frozen=True)
class Steps:
    """`start`: a version for each server to start; `drain`: servers to let go; `broken`: why a version is not tried again;
    `pauses`: until when (Unix seconds) the next try of a version waits, and why; `load` and `unload`: adapters that come to a server
    or go, as (run, adapter)."""

    start: list[str] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)
    load: list[tuple[str, str]] = field(default_factory=list)
    unload: list[tuple[str, str]] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    pauses: dict[str, tuple[float, str]] = field(default_factory=dict)


def wished(entry: Entry, now: float) -> dict[str, int]:
    """How many servers each version shall have now."""
    if entry.asleep is not None:
        return {}
    pending = entry.pending
    needed = used_versions(entry)
    if pending is not None and pending.mode == "instead":
        needed = set()
    coming = set(pending.weights) if pending else set()
    needed |= coming | {version.adapter_of for version in entry.spec.versions if version.name in coming and version.adapter_of}
    wishes: dict[str, int] = {}
    for version in entry.spec.versions:
        if version.provider or version.adapter_of:
            continue
        warm = pending is None or pending.mode == "beside"
        rests = entry.resting.get(version.name)
        still_warm = warm and rests is not None and now < rests + entry.spec.keep_previous_seconds
        if version.name in needed or still_warm:
            wishes[version.name] = version.replicas
    return wishes


def steps(entry: Entry, servers: Sequence[Server], now: float) -> Steps:
    """What to do so that the wish comes true."""
    wishes = wished(entry, now)
    living = [server for server in servers if server.phase not in ("ended", "draining")]
    found = Steps()
    for version in entry.spec.versions:
        have = [server for server in living if server.version == version.name]
        want = wishes.get(version.name, 0)
        riders = riders_of(entry, version.name)
        stale = [server for server in have if want and not carries(server, riders)]
        if stale:  # those with every adapter come first; then these go
            have = [server for server in have if server not in stale]
            if sum(server.phase == "ready" for server in have) >= want:
                found.drain.extend(server.run for server in stale)
        for server in have:
            _adapters_of(server, riders, found)
        if len(have) > want:
            order = sorted(have, key=lambda server: (server.phase == "ready", -server.since))
            found.drain.extend(server.run for server in order[: len(have) - want])
        elif len(have) < want:
            until, why, broken = _next_try(entry, version.name, servers, now)
            if broken:
                found.broken[version.name] = why
            elif until > now:
                found.pauses[version.name] = (until, why)
            elif not _must_wait(entry, version.name, servers):
                found.start.extend([version.name] * (want - len(have)))
    known = entry.weights
    found.drain.extend(server.run for server in living if server.version not in known)
    return found


def riders_of(entry: Entry, version: str) -> dict[str, str]:
    """The adapters on a version's servers, with their models."""
    return {each.name: each.model for each in entry.spec.versions if each.adapter_of == version}


def carries(server: Server, riders: Mapping[str, str]) -> bool:
    """Whether a server has these adapters, or can be given them while it runs."""
    if not server.run or server.takes_adapters:
        return True
    return all(item in server.riders for item in riders.items())


def _adapters_of(server: Server, riders: Mapping[str, str], found: Steps) -> None:
    if server.phase == "ready" and server.takes_adapters:
        loaded = dict(server.adapters)
        found.load.extend((server.run, name) for name in riders if name not in loaded)
        found.unload.extend((server.run, name) for name in loaded if name not in riders)


def ready_versions(entry: Entry, servers: Sequence[Server], unhealthy: Collection[str] = ()) -> set[str]:
    """Versions that could answer now: a server that does, a provider, or an adapter that a server of its base has loaded."""
    answering = [server for server in servers if server.phase == "ready" and server.run not in unhealthy]
    ready = {server.version for server in answering}
    for version in entry.spec.versions:
        carried = any(server.version == version.adapter_of and version.name in dict(server.adapters) for server in answering)
        if version.provider or carried:
            ready.add(version.name)
    return ready & set(entry.weights)


def _next_try(entry: Entry, version: str, servers: Sequence[Server], now: float) -> tuple[float, str, bool]:
    """When the next server may be started, the cause of the last end, and whether that was one too many."""
    # What lies ahead of now was noted before the clock was set back: it neither counts nor hides what counts.
    known = [t for t in (entry.fresh_since.get(version, 0.0), entry.created_at) if t <= now]
    since, until = max(now - _WINDOW_SECONDS, *known, 0.0), now + _AHEAD_SECONDS
    failures = sorted(
        (server for server in servers if server.version == version and server.failed and since <= server.ended_at <= until),
        key=lambda server: server.ended_at,
    )
    if not failures:
        return 0.0, "", False
    last = failures[-1]
    cause = f"{last.run}: {last.reason}" if last.run else last.reason
    if len(failures) >= MOST_FAILURES:
        return 0.0, f"{len(failures)} servers ended within {_WINDOW_SECONDS / 60:.0f} minutes, the last one {cause}", True
    return last.ended_at + min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (len(failures) - 1)), cause, False


def _must_wait(entry: Entry, version: str, servers: Sequence[Server]) -> bool:
    """Where the new servers take the place of the old ones, those have to be gone first."""
    pending = entry.pending
    if pending is None or pending.mode != "instead":
        return False
    return any(server.phase != "ended" and server.version != version and server.version not in pending.weights for server in servers)
