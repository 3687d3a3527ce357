"""What becomes of an endpoint by each wish. Pure: an entry and a wish give the entry after it, or the reason why not.

A route changes at once where its versions have servers that answer; where one has none yet the change waits (`pending`), and the
versions before go on answering meanwhile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from llmops_tui.engine.endpoints.entry import Entry, Mode, PendingRoute, Weights, checked, names_of, only_positive
from llmops_tui.errors import ConflictError, NotFoundError, UsageError
from llmops_tui.specs.answers_serving import EndpointChange
from llmops_tui.specs.endpoint import KEPT_VERSIONS, EndpointSpec, EndpointVersion

_ROUTES = ("start", "route", "swap", "rollback")
_VERSION = re.compile(r"@(v\d+)$")
_FIRST_WEIGHT = 100.0


def begin(spec: EndpointSpec, *, owner: str, uid: int, cwd: str, now: float) -> Entry:
    """A new endpoint: versions get names, and the first one the requests where nobody said who does. Raises UsageError."""
    names: list[str] = []
    for version in spec.versions:
        names.append(version.name or free_name(version.model, names + [other.name for other in spec.versions]))
    given = any(version.weight > 0 for version in spec.versions)
    versions = [
        {**version.model_dump(mode="json"), "name": name, "weight": version.weight if given else (_FIRST_WEIGHT if not number else 0.0)}
        for number, (name, version) in enumerate(zip(names, spec.versions, strict=True))
    ]
    whole = checked({**spec.model_dump(mode="json"), "versions": versions})
    for version in whole.versions:
        if version.weight > 0 and version.replicas == 0 and not version.provider and not version.adapter_of:
            raise UsageError(
                f"{version.name} would get requests and have no server", "give it one replica, or start the endpoint on demand",
                [{"field": "replicas", "message": "must be 1 or more for a version that gets requests"}],
            )  # fmt: skip
    entry = Entry(whole, owner=owner, uid=uid, cwd=cwd, created_at=now, revision=0)
    entry = replace(entry, resting={version.name: now for version in whole.versions if version.weight <= 0})
    return entry.noted("start", owner, now, {}, only_positive(entry.weights))


def free_name(model: str, taken: Collection[str]) -> str:
    """A name for a version: the model's own number (`support@v3` is v3), else the next that is free."""
    own = _VERSION.search(model)
    if own and own[1] not in taken:
        return own[1]
    numbers = [int(name[1:]) for name in taken if re.fullmatch(r"v\d+", name)]
    return f"v{max(numbers, default=0) + 1}"


def reroute(
    entry: Entry, weights: Mapping[str, float], ready: Collection[str], *, what: str, by: str, now: float, mode: Mode = "beside"
) -> Entry:
    """Other weights: of the versions not named, none. Raises NotFoundError, UsageError."""
    wished = check_weights(entry, weights)
    for name in wished:
        version = entry.spec.version(name)
        home = entry.spec.version(version.adapter_of) if version is not None and version.adapter_of else version
        if home is not None and not home.provider and not home.replicas:  # nobody would ever come to answer
            raise ConflictError(
                f"{home.name} of {entry.name} is scaled to no servers",
                f"`llmops-tui endpoints scale {entry.name} 1 --version {home.name}` first",
            )
    if entry.asleep is None and all(name in ready for name in wished):
        return _turn(entry, wished, what, by, now)
    pending = PendingRoute(what, by, now, wished, mode)
    fresh = {**entry.fresh_since, **dict.fromkeys(wished, now)}
    return replace(entry, pending=pending, asleep=None, fresh_since=fresh, revision=entry.revision + 1)


def check_weights(entry: Entry, weights: Mapping[str, float]) -> Weights:
    """The weights above 0. Raises NotFoundError (no such version), UsageError (negative, not a number, or nobody gets anything)."""
    known = entry.weights
    for name, weight in weights.items():
        field = [{"field": f"weights.{name}", "message": "must be 0 or more"}]
        if name not in known:
            raise NotFoundError(
                f"{entry.name} has no version {name!r}",
                f"it has {names_of(list(known))}",
                [{"field": f"weights.{name}", "message": "no such version"}],
            )
        if not math.isfinite(weight) or weight < 0:
            raise UsageError(f"{name}={weight:g}: a weight must be 0 or more", "for example v3=95 v4=5", field)
        if weight > 1e6:
            raise UsageError(f"{name}={weight:g}: a weight must be at most 1000000", "for example v3=95 v4=5", field)
    wished = only_positive(weights)
    if not wished:
        raise UsageError(
            f"{entry.name}: the weights add up to 0, so nobody would answer", f"stop it with `llmops-tui endpoints stop {entry.name}`",
            [{"field": "weights", "message": "add up to 0"}],
        )  # fmt: skip
    return wished


def mirrored(entry: Entry, mirror: Mapping[str, float], by: str, now: float) -> Entry:
    """Other shadow traffic; empty: none. Raises NotFoundError, UsageError."""
    for name, fraction in mirror.items():
        if name not in entry.weights:
            raise NotFoundError(f"{entry.name} has no version {name!r}", f"it has {names_of(list(entry.weights))}")
        if not 0 <= fraction <= 1:
            raise UsageError(f"{name}={fraction:g}: a mirrored share is from 0 to 1", "for example v4=0.1")
    changed = entry.with_spec(mirror=[{"version": name, "fraction": share} for name, share in mirror.items() if share > 0])
    words = names_of([f"{name}={share:g}" for name, share in mirror.items() if share > 0])
    weights = only_positive(entry.weights)
    return _resting(changed, entry, now).noted(f"mirror {words}", by, now, weights, weights)


def add_version(entry: Entry, version: EndpointVersion, now: float) -> tuple[Entry, str]:
    """With one version more, and its name; too many unused ones and the oldest goes. Raises UsageError, ConflictError."""
    name = version.name or free_name(version.model, list(entry.weights))
    if name in entry.weights:
        raise ConflictError(f"{entry.name} has a version {name!r} already", "choose another name")
    kept = _without_old(entry)
    versions = [*kept, {**version.model_dump(mode="json"), "name": name}]
    names = {str(each["name"]) for each in versions}
    mirror = [each.model_dump(mode="json") for each in entry.spec.mirror if each.version in names]
    changed = entry.with_spec(versions=versions, mirror=mirror)
    resting = {each: t for each, t in entry.resting.items() if each in names}
    return replace(changed, resting={**resting, name: now}, fresh_since={**entry.fresh_since, name: now}), name


def swap(entry: Entry, version: EndpointVersion, *, by: str, now: float, mode: Mode) -> tuple[Entry, str]:
    """A new version that gets all requests once it answers. Raises what `add_version` raises, ConflictError (one is under way)."""
    if entry.pending is not None and entry.pending.what == "swap":
        raise ConflictError(
            f"{entry.name}: the swap to {names_of(list(entry.pending.weights))} is still under way", "wait for it, or roll it back"
        )
    added, name = add_version(entry, version, now)
    pending = PendingRoute("swap", by, now, {name: _FIRST_WEIGHT}, mode)
    return replace(added, pending=pending, asleep=None, revision=added.revision + 1), name


def rollback(entry: Entry, ready: Collection[str], *, by: str, now: float) -> Entry:
    """Back to the version before: what is pending is given up, else the weights before hold again. Raises ConflictError."""
    if entry.pending is not None:
        return give_up(entry, f"rolled back by {by} before it was ready", by, now)
    target = previous(entry)
    if target is None:
        raise ConflictError(f"{entry.name} has no version to go back to", "its route never changed, or those versions are gone")
    return reroute(entry, target, ready, what="rollback", by=by, now=now)


def previous(entry: Entry) -> Weights | None:
    """What a rollback goes back to: of a canary the version before it, else the version that answered before this one."""
    present, known = only_positive(entry.weights), set(entry.weights)
    earlier = [only_positive(change["before"]) for change in reversed(entry.history) if change["what"] in _ROUTES]
    possible = [weights for weights in earlier if weights and set(weights) <= known and weights != present]
    single = [weights for weights in possible if len(weights) == 1 and (len(present) > 1 or set(weights) != set(present))]
    found = single or possible
    return found[0] if found else None


def settle(entry: Entry, ready: Collection[str], now: float) -> Entry:
    """What was pending becomes true once all its versions have a server that answers."""
    pending = entry.pending
    if pending is None or not all(name in ready for name in pending.weights):
        return entry
    return _turn(entry, pending.weights, pending.what, pending.by, now)


def give_up(entry: Entry, why: str, by: str, now: float) -> Entry:
    """What was pending will not be; the versions before go on."""
    if entry.pending is None:
        return entry
    weights = only_positive(entry.weights)
    back = entry.noted(f"{entry.pending.what} given up: {why}", by, now, weights, weights)
    resting = {**entry.resting, **dict.fromkeys((name for name in entry.pending.weights if not entry.weights.get(name)), 0.0)}
    return replace(back, pending=None, resting=resting, fresh_since={**entry.fresh_since, **dict.fromkeys(weights, now)})


def remove_version(entry: Entry, name: str, by: str, now: float) -> Entry:
    """Without a version that gets no requests. Raises NotFoundError, ConflictError."""
    if name not in entry.weights:
        raise NotFoundError(f"{entry.name} has no version {name!r}", f"it has {names_of(list(entry.weights))}")
    if len(entry.weights) == 1:
        raise ConflictError(f"{name} is the only version of {entry.name}", f"stop it: `llmops-tui endpoints stop {entry.name}`")
    if entry.weights[name] > 0 or (entry.pending and name in entry.pending.weights):
        raise ConflictError(
            f"{name} of {entry.name} gets requests", f"route them elsewhere first: `llmops-tui endpoints route {entry.name} …`"
        )
    if riders := [version.name for version in entry.spec.versions if version.adapter_of == name]:
        raise ConflictError(f"{name} of {entry.name} carries the adapters {names_of(riders)}", "remove those first")
    versions = [version.model_dump(mode="json") for version in entry.spec.versions if version.name != name]
    mirror = [each.model_dump(mode="json") for each in entry.spec.mirror if each.version != name]
    changed = entry.with_spec(versions=versions, mirror=mirror)
    weights = only_positive(entry.weights)
    return replace(changed, resting={each: t for each, t in entry.resting.items() if each != name}).noted(
        f"removed {name}", by, now, weights, weights
    )


def scaled(entry: Entry, name: str, count: int, by: str, now: float) -> Entry:
    """Another number of servers of a version. Raises NotFoundError, UsageError."""
    version = entry.spec.version(name)
    if version is None:
        raise NotFoundError(f"{entry.name} has no version {name!r}", f"it has {names_of(list(entry.weights))}")
    if version.provider or version.adapter_of:
        what = f"a provider ({version.provider})" if version.provider else f"an adapter on {version.adapter_of}"
        raise UsageError(f"{name} of {entry.name} is {what} and has no servers of its own", "scale the version that has")
    if count == 0 and entry.routed.get(name):
        raise ConflictError(f"{name} of {entry.name} gets requests and needs a server", "route them elsewhere first")
    versions = [{**each.model_dump(mode="json"), "replicas": count if each.name == name else each.replicas} for each in entry.spec.versions]
    changed = entry.with_spec(versions=versions)
    weights = only_positive(entry.weights)
    return replace(changed, fresh_since={**entry.fresh_since, name: now}).noted(f"scale {name} to {count}", by, now, weights, weights)


def _turn(entry: Entry, weights: Weights, what: str, by: str, now: float) -> Entry:
    before = only_positive(entry.weights)
    versions = [{**version.model_dump(mode="json"), "weight": weights.get(version.name, 0.0)} for version in entry.spec.versions]
    changed = replace(entry.with_spec(versions=versions), pending=None, asleep=None)
    return _resting(changed, entry, now).noted(what, by, now, before, dict(weights))


def _resting(changed: Entry, entry: Entry, now: float) -> Entry:
    """Who gets no requests any more rests from now on."""
    used = used_versions(changed)
    return replace(changed, resting={name: entry.resting.get(name, now) for name in changed.weights if name not in used})


def used_versions(entry: Entry) -> set[str]:
    """Those that get requests, or their copies, or carry an adapter that does."""
    used = {name for name, weight in entry.weights.items() if weight > 0} | {mirror.version for mirror in entry.spec.mirror}
    return used | {version.adapter_of for version in entry.spec.versions if version.name in used and version.adapter_of}


def _without_old(entry: Entry) -> list[dict[str, Any]]:
    """The versions, of those without requests only the newest few: the rest would only make the list longer."""
    busy = used_versions(entry) | set(entry.pending.weights if entry.pending else ()) | {each.adapter_of for each in entry.spec.versions}
    idle = sorted((name for name in entry.weights if name not in busy), key=lambda name: entry.resting.get(name, 0.0))
    dropped = set(idle[: max(0, len(idle) - KEPT_VERSIONS + 1)])
    return [version.model_dump(mode="json") for version in entry.spec.versions if version.name not in dropped]


def last_route(history: tuple[EndpointChange, ...]) -> EndpointChange | None:
    """The newest change of who answers."""
    return next((change for change in reversed(history) if change["what"] in _ROUTES), None)
