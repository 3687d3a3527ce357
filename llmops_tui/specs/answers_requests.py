"""The shapes of what is told of answered requests, of their latency, and of the runtimes that answer them.

Times are Unix seconds, durations milliseconds; `None` is what is not known or does not apply.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict


class RequestRow(TypedDict):
    """One request as the gateway recorded it.

    `estimated`: the answer was cut off before its tokens were counted; `good`: it kept to the SLO of then; `has_text`: its prompt and
    answer were kept; `rating` is the newest feedback's.
    """

    id: str
    t: float
    endpoint: str
    version: str
    replica: str
    provider: str
    key: str
    session: str
    path: str
    stream: bool
    status: int
    finish: str
    error: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    estimated: bool
    queue_ms: float | None
    ttft_ms: float | None
    itl_ms: float | None
    itl_max_ms: float | None
    total_ms: float | None
    attempts: int
    fallback_from: str
    mirror: bool
    prompt_hash: str
    response_hash: str
    cost: float | None
    client_gone: bool
    good: bool
    has_text: bool
    rating: str


class RequestPage(TypedDict):
    """Newest first. `total` counts all that match (None where counting was not asked for); `next` is the `before` of the next page."""

    rows: list[RequestRow]
    total: int | None
    next: float | None


class Feedback(TypedDict):
    """What somebody thought of an answer. `rating`: up, down or a number as text; empty where only words were left."""

    t: float
    id: str
    key: str
    rating: str
    comment: str
    correction: str


class RequestDetail(TypedDict):
    """One request with its text (empty where it was not kept, redacted where configured) and all feedback, oldest first.

    `prompt` is to be read; of a chat `messages` is what was sent. `redacted` counts what was replaced in the text.
    """

    row: RequestRow
    prompt: str
    messages: list[Any] | None
    response: str
    redacted: int
    feedback: list[Feedback]


class LatencyPoint(TypedDict):
    """One stretch of `LatencyHistory.seconds`, from `t` on. Quantiles are exact over its requests; `good` kept to the SLO of then."""

    t: float
    requests: int
    errors: int
    good: int
    completion_tokens: int
    prompt_tokens: int
    ttft_p50: float | None
    ttft_p95: float | None
    ttft_p99: float | None
    itl_p50: float | None
    itl_p95: float | None
    itl_p99: float | None
    total_p50: float | None
    total_p95: float | None
    total_p99: float | None
    queue_p50: float | None
    queue_p95: float | None
    queue_p99: float | None


class LatencyHistory(TypedDict):
    """The history of an endpoint by version; stretches without a request are left out. Kept after every quit.

    `mirrored` is that of shadow traffic, which nobody waited for. What no version was reached for stands under an empty name.
    """

    endpoint: str
    since: float
    until: float
    seconds: float
    versions: dict[str, list[LatencyPoint]]
    mirrored: dict[str, list[LatencyPoint]]


class EngineLoad(TypedDict):
    """What a version's servers say of themselves now, summed or averaged over its replicas."""

    running: float | None
    waiting: float | None
    kv_cache_fraction: float | None
    prefix_hit_fraction: float | None
    generated_tokens_per_second: float | None


class VersionLive(TypedDict):
    """One version now. `windows`: by 60, 300 and 3600 seconds, the gateway's own sketches (requests, errors, good, ttft_p50 …).

    `mirrored` are those of shadow traffic. Joules and money are those of the last hour at most, by the tokens answered in it.
    """

    windows: dict[str, dict[str, float]]
    mirrored: dict[str, dict[str, float]]
    load: EngineLoad
    joules_per_1k_tokens: float | None
    cost_per_1k_tokens: float | None


class EndpointLive(TypedDict):
    """An endpoint's panel: what the last minutes were like. `energy_basis` says how joules were found, or why not."""

    endpoint: str
    t: float
    versions: dict[str, VersionLive]
    energy_basis: str
    currency: str


class RuntimeInfo(TypedDict):
    """A serving engine or quantizer. `source`: settings, made, project, or empty where it is not installed.

    `checked`, `gpu`, `devices`, `problem` and `warning` come of asking it, which is done by `check` alone.
    """

    name: str
    purpose: str
    told: str
    source: str
    python: str
    version: str
    wanted: list[str]
    checked: bool
    gpu: bool
    devices: list[str]
    problem: str
    warning: str
