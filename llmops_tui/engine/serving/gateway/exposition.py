"""The gateway's figures in Prometheus' text format 0.0.4."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmops_tui.engine.serving.gateway.core import Core
from llmops_tui.engine.serving.gateway.keys import Key
from llmops_tui.engine.serving.gateway.meters import Histogram, Meters

_LABEL_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

_HISTOGRAMS: tuple[tuple[str, str, Callable[[Meters], Histogram]], ...] = (
    ("request_seconds", "Time from a request's first byte to its answer's last.", lambda meters: meters.whole),
    ("ttft_seconds", "Time to the first content of a stream.", lambda meters: meters.time_to_first),
    ("inter_token_seconds", "Gaps between pieces of content.", lambda meters: meters.inter_token),
)


def exposition(core: Core, key: Key | None = None) -> str:
    """Every figure that this key may know, as one page."""
    limited = key if key is not None and key.rule.endpoints is not None else None
    return "\n".join(_lines(core, limited)) + "\n"


def _lines(core: Core, limited: Key | None) -> Iterator[str]:
    endpoints = [endpoint for endpoint in core.routes.endpoints.values() if limited is None or limited.reaches(endpoint.name)]
    versions = [(endpoint, version) for endpoint in endpoints for version in endpoint.versions]
    labelled = [(_labels(endpoint=endpoint.name, version=version.name), version) for endpoint, version in versions]

    yield from _head("llmops_requests_total", "counter", "Requests by outcome; version is empty where none was reached.")
    for endpoint, version in versions:
        for status, count in sorted(version.meters.by_status.items()):
            yield f"llmops_requests_total{_labels(endpoint=endpoint.name, version=version.name, status=str(status))} {count}"
    for (name, status), count in sorted(core.refusals.items()):
        if limited is None or limited.reaches(name):
            yield f"llmops_requests_total{_labels(endpoint=name, version='', status=str(status))} {count}"
    yield from _head("llmops_tokens_total", "counter", "Tokens by usage.")
    for endpoint, version in versions:
        for kind, count in (("prompt", version.meters.prompt_tokens), ("completion", version.meters.completion_tokens)):
            yield f"llmops_tokens_total{_labels(endpoint=endpoint.name, version=version.name, kind=kind)} {count}"
    yield from _head("llmops_retries_total", "counter", "Attempts beyond the first.")
    yield from (f"llmops_retries_total{labels} {version.meters.retries}" for labels, version in labelled)
    yield from _head("llmops_cost_total", "counter", "Money spent at providers, in the tariff's unit.")
    yield from (f"llmops_cost_total{labels} {version.meters.cost!r}" for labels, version in labelled)
    yield from _head("llmops_requests_in_flight", "gauge", "Requests under way.")
    yield from (f"llmops_requests_in_flight{labels} {version.in_flight}" for labels, version in labelled)
    for name, help_text, pick in _HISTOGRAMS:
        yield from _head(f"llmops_{name}", "histogram", help_text)
        for labels, version in labelled:
            yield from _histogram(f"llmops_{name}", labels, pick(version.meters))
    yield from _head("llmops_mirrored_requests_total", "counter", "Shadow requests, whose answers nobody gets, by outcome.")
    for endpoint, version in versions:
        for status, count in sorted(version.mirrored.by_status.items()):
            yield f"llmops_mirrored_requests_total{_labels(endpoint=endpoint.name, version=version.name, status=str(status))} {count}"
    shadowed = [(labels, version) for labels, version in labelled if version.mirrored.by_status]
    for name, help_text, pick in _HISTOGRAMS:
        yield from _head(f"llmops_mirrored_{name}", "histogram", f"{help_text} Of shadow requests.")
        for labels, version in shadowed:
            yield from _histogram(f"llmops_mirrored_{name}", labels, pick(version.mirrored))

    upstreams = {**core.routes.replicas, **core.routes.providers}
    if limited is not None:
        serving = {replica.id for _, version in versions for replica in version.replicas}
        upstreams = {name: replica for name, replica in upstreams.items() if name in serving}
    replicas = [(_labels(replica=name), replica) for name, replica in upstreams.items()]
    yield from _head("llmops_replica_healthy", "gauge", "1 when a replica gets requests.")
    yield from (f"llmops_replica_healthy{labels} {int(replica.healthy)}" for labels, replica in replicas)
    yield from _head("llmops_replica_outstanding_tokens", "gauge", "Estimated tokens under way at a replica.")
    yield from (f"llmops_replica_outstanding_tokens{labels} {replica.outstanding_tokens}" for labels, replica in replicas)
    yield from _head("llmops_replica_failures_total", "counter", "Failures of a replica.")
    yield from (f"llmops_replica_failures_total{labels} {replica.failures}" for labels, replica in replicas)
    yield from _head("llmops_spool_waiting", "gauge", "Records that the disk has refused so far.")
    yield f"llmops_spool_waiting {core.spool.waiting}"
    yield from _head("llmops_spool_lost_total", "counter", "Records that could not be kept at all.")
    yield f"llmops_spool_lost_total {core.spool.lost}"
    yield from _head("llmops_config_revision", "gauge", "Revision of the configuration in use.")
    yield f"llmops_config_revision {core.config.revision}"


def _head(name: str, kind: str, help_text: str) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in labels.items()) + "}"


def _histogram(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    seen = 0
    inner = labels[:-1]
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        seen += count
        yield f'{name}_bucket{inner},le="{bound:g}"}} {seen}'
    seen += histogram.counts[-1]
    yield f'{name}_bucket{inner},le="+Inf"}} {seen}'
    yield f"{name}_sum{labels} {histogram.total:.6f}"
    yield f"{name}_count{labels} {seen}"
