"""Which version and replica a request goes to, of those that can take it now."""

from __future__ import annotations

from collections.abc import Callable, Collection

from llmops_tui.engine.serving.gateway import balance
from llmops_tui.engine.serving.gateway.replica import Replica
from llmops_tui.engine.serving.gateway.routes import Endpoint, Version


def choose(
    endpoint: Endpoint,
    pinned: Version | None,
    mark: bytes,
    prefix: bytes,
    tried: Collection[Replica],
    now: float,
    random: Callable[[], float],
) -> tuple[Version, Replica] | None:
    """A version by weight and one of its replicas by the endpoint's balance; None when nobody can take it.

    `mark`: the session or key whose requests stay together, empty for none; `prefix`: the beginning of the prompt; `random` in [0, 1).
    """
    open_versions: list[Version] = []
    open_replicas: list[list[Replica]] = []
    for version in endpoint.versions if pinned is None else (pinned,):
        if version.rule.weight <= 0 and pinned is None:
            continue
        adapter = version.rule.adapter
        usable = [
            replica
            for replica in version.replicas
            if replica.usable(now) and replica not in tried and (not adapter or replica.model_for(adapter) is not None)
        ]
        if usable:
            open_versions.append(version)
            open_replicas.append(usable)
    if not open_versions:
        return None
    if len(open_versions) == 1:
        version, replicas = open_versions[0], open_replicas[0]
    else:
        version = balance.by_weight(open_versions, balance.point_of(mark) if mark else random())
        replicas = open_replicas[open_versions.index(version)]
    if len(replicas) == 1:
        return version, replicas[0]
    if mark:
        return version, balance.by_affinity(replicas, mark)
    if endpoint.rule.balance == "prefix":
        return version, balance.prefix(replicas, prefix, random(), random())
    if endpoint.rule.balance == "round_robin":
        endpoint.next_turn += 1
        return version, replicas[endpoint.next_turn % len(replicas)]
    return version, balance.least_tokens(replicas, random(), random())
