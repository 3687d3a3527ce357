"""The shapes of what is told of endpoints, their replicas, the gateway and its keys.

Times are Unix seconds; `None` is what is not known or has not happened.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict


class ReplicaState(TypedDict):
    """One server. `run` is its run's id; `state`: waiting, starting, ready, draining, unhealthy or ended.

    `outstanding` requests are with it now; `cause` says why it is not ready.
    """

    run: str
    version: str
    state: str
    host: str
    port: int
    runtime: str
    context: int
    slots: int
    adapters: list[str]
    healthy: bool
    breaker: str
    outstanding: int
    cause: str
    started_at: float | None


class VersionState(TypedDict):
    """One version of an endpoint. `state`: ready, starting, cold (no server is kept), broken or remote (a provider).

    `share` is the part of the requests it gets now; `target_weight` the weight it gets once it is ready, None where nothing is to
    change; `warm_until` when its servers go, None where that is not foreseen.
    """

    name: str
    model: str
    provider: str
    adapter_of: str
    weight: float
    share: float
    mirror: float
    target_weight: float | None
    replicas: int
    ready: int
    state: str
    reason: str
    warm_until: float | None
    in_flight: int
    requests: int
    errors: int


class Pending(TypedDict):
    """A change of the route that waits for servers: what was asked (swap, route, rollback), by whom, the weights to come."""

    what: str
    by: str
    since: float
    weights: dict[str, float]


class EndpointSummary(TypedDict):
    """A served name. `state`: ready, starting, degraded (it answers, with fewer servers than wished), asleep, broken.

    `previous` are the weights a rollback goes back to, None without any; `curl` a line that asks it.
    """

    name: str
    aliases: list[str]
    state: str
    reason: str
    url: str
    curl: str
    versions: list[VersionState]
    replicas: list[ReplicaState]
    sticky: str
    balance: str
    fallbacks: list[str]
    pinned: bool
    on_demand: bool
    idle_unload_seconds: float
    last_used: float | None
    pending: Pending | None
    previous: dict[str, float] | None
    owner: str
    revision: int
    created_at: float


class CheckedServer(TypedDict):
    """A server as it would be started; `context` is for each slot, `memory_bytes` as predicted, None where that cannot be said."""

    version: str
    model: str
    runtime: str
    runtime_version: str
    gpu: bool
    context: int
    slots: int
    threads: int
    memory_bytes: int | None


class CheckedEndpoint(TypedDict):
    """An endpoint that could be started: its whole spec, and one server for each version that has servers of its own."""

    spec: dict[str, Any]
    servers: list[CheckedServer]
    warnings: list[str]


class EndpointChange(TypedDict):
    """One line of an endpoint's history; `before` and `after` are weights by version."""

    t: float
    by: str
    what: str
    before: dict[str, float]
    after: dict[str, float]


class EndpointDetail(EndpointSummary):
    """The same with its whole spec and what was done to it, oldest first."""

    spec: dict[str, Any]
    history: list[EndpointChange]


class KeyInfo(TypedDict):
    """A key without its secret; limits of 0 are none."""

    id: str
    name: str
    owner: str
    created_at: float
    endpoints: list[str]
    requests_per_minute: float
    tokens_per_minute: float
    tokens_per_day: int
    concurrent: int
    revoked: bool


class NewKey(KeyInfo):
    """The one answer that ever holds the secret."""

    secret: str


class GatewayInfo(TypedDict):
    """The gateway process. `state`: off (no endpoint needs it), starting, running or failed; `problem` says why it is not running."""

    state: str
    problem: str
    pid: int | None
    url: str
    auth: str
    revision: int
    uptime_seconds: float | None
    rss_bytes: int | None
    connections: int | None
    in_flight: int | None
    requests_total: int | None
    warnings: list[str]
