"""When an endpoint goes to sleep and when it wakes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmops_tui.engine.endpoints.entry import Asleep, Entry, only_positive
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.errors import ConflictError


def sleepy(entry: Entry, servers: Sequence[Server], told: Mapping[str, Any], now: float) -> Entry:
    """Asleep where it was not used for as long as its spec says. `told` is what the gateway says of it.

    A server that has just come up counts as used: who asked for it must have the time to ask it something.
    """
    spec = entry.spec
    if entry.asleep is not None or entry.pending is not None or spec.pinned or spec.idle_unload_seconds <= 0:
        return entry
    ready = [server for server in servers if server.phase == "ready"]
    if not ready or busy(told):
        return entry
    idle_since = max(last_used(told), *(server.ready_at or server.since for server in ready))
    if now - idle_since < spec.idle_unload_seconds:
        return entry
    return asleep(entry, Asleep(now, f"no request for {spec.idle_unload_seconds:g} s; the next one starts it"))


def asleep(entry: Entry, state: Asleep) -> Entry:
    """No server is kept from now on."""
    return replace(entry, asleep=state, revision=entry.revision + 1)


def awake(entry: Entry, now: float) -> Entry:
    """Servers are kept again, and earlier failures forgotten."""
    return replace(entry, asleep=None, fresh_since={**entry.fresh_since, **dict.fromkeys(entry.weights, now)}, revision=entry.revision + 1)


def unloaded(entry: Entry, by: str, now: float) -> Entry:
    """Asleep because somebody wished it; the next request wakes it. Raises ConflictError where it is pinned, changes, or has no server."""
    if entry.asleep is not None:
        return entry
    if entry.spec.pinned:
        raise ConflictError(f"{entry.name} is pinned: it is never unloaded", f"`llmops-tui endpoints unpin {entry.name}` first")
    if entry.pending is not None:
        raise ConflictError(f"{entry.name}: a {entry.pending.what} is under way", "wait for it, or roll it back")
    if all(version.provider for version in entry.spec.versions):
        raise ConflictError(f"{entry.name} has no servers here: its versions are providers", "there is nothing to unload")
    weights = only_positive(entry.weights)
    slept = asleep(entry, Asleep(now, f"unloaded by {by}; the next request starts it"))
    return slept.noted("unload", by, now, weights, weights)


def woken(entry: Entry, by: str, now: float) -> Entry:
    """Awake because somebody wished it; one that is awake stays so."""
    if entry.asleep is None:
        return entry
    weights = only_positive(entry.weights)
    return awake(entry, now).noted("wake", by, now, weights, weights)


def wakes(entry: Entry, told: Mapping[str, Any], busy_runs: Collection[str]) -> bool:
    """Whether it is to wake: a request waits for it, or the run that it made room for is over (`busy_runs`: those that are not)."""
    state = entry.asleep
    if state is None:
        return False
    if state.room_for:
        return state.room_for not in busy_runs
    return entry.spec.pinned or wanted_since(told) is not None


def wanted_since(told: Mapping[str, Any]) -> float | None:
    """Since when a request waits for a server."""
    value = told.get("wanted_since")
    return float(value) if isinstance(value, int | float) and value else None


def last_used(told: Mapping[str, Any]) -> float:
    """When the newest request came; 0 for never."""
    value = told.get("last_used")
    return float(value) if isinstance(value, int | float) else 0.0


def busy(told: Mapping[str, Any]) -> bool:
    """Whether a request is under way or waits."""
    versions = told.get("versions")
    flying = [each.get("in_flight") for each in versions.values() if isinstance(each, Mapping)] if isinstance(versions, Mapping) else []
    return any(flying) or wanted_since(told) is not None
