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
    usable: dict[Version, list[Replica]] = {}
    for version in endpoint.versions if pinned is None else (pinned,):
        if version.rule.weight <= 0 and pinned is None:
            continue
        adapter = version.rule.adapter
        found = [replica for replica in version.replicas if replica.usable(now)]
        if tried or adapter:
            found = [replica for replica in found if replica not in tried and (not adapter or replica.model_for(adapter) is not None)]
        if found:
            usable[version] = replicas = found
            chosen = version
    if not usable:
        return None
    if len(usable) > 1:
        chosen = balance.by_weight(list(usable), balance.point_of(mark) if mark else random())
        replicas = usable[chosen]
    if len(replicas) == 1:
        return chosen, replicas[0]
    if mark:
        return chosen, balance.by_affinity(replicas, mark)
    if endpoint.rule.balance == "prefix":
        return chosen, balance.prefix(replicas, prefix, random(), random())
    if endpoint.rule.balance == "round_robin":
        endpoint.next_turn += 1
        return chosen, replicas[endpoint.next_turn % len(replicas)]
    return chosen, balance.least_tokens(replicas, random(), random())
