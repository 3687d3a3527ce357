"""How endpoints are told: from the entry, its servers and what the gateway says of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_tui.engine.endpoints.changes import previous
from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.planning import Server, Steps, ready_versions, wished
from llmops_tui.specs.answers_serving import EndpointDetail, EndpointSummary, Pending, ReplicaState, VersionState
from llmops_tui.specs.settings_serving import ServingSettings

_ENDED_SHOWN_SECONDS = 600.0


def gateway_url(settings: ServingSettings) -> str:
    """Where a client on this box reaches it."""
    host = reach_host(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/v1"


def reach_host(host: str) -> str:
    """The address to connect to where one listens on all of them."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def curl_line(url: str, name: str, needs_key: bool) -> str:
    """A request to copy."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hello"}]})
    key = ' -H "authorization: Bearer $LLMOPS_KEY"' if needs_key else ""
    return f"curl {url}/chat/completions -H 'content-type: application/json'{key} -d '{body}'"


def summarise(
    entry: Entry, servers: Sequence[Server], plan: Steps, status: Mapping[str, Any], settings: ServingSettings, now: float, reason: str = ""
) -> EndpointSummary:
    """One endpoint. `status` is the gateway's own; `plan` says what is broken; `reason` is said where nothing worse is."""
    told = _part(_part(status, "endpoints"), entry.name)
    replicas = [
        _replica(server, _part(_part(status, "replicas"), server.run))
        for server in servers
        if server.phase != "ended" or (server.failed and server.ended_at > now - _ENDED_SHOWN_SECONDS)
    ]
    unhealthy = {replica["run"]: replica["cause"] for replica in replicas if replica["state"] == "unhealthy"}
    versions = _versions(entry, servers, plan, told, unhealthy, now)
    state, why = _state(entry, versions, reason)
    url, pending = gateway_url(settings), entry.pending
    last_used = told.get("last_used")
    return EndpointSummary(
        name=entry.name,
        aliases=list(entry.spec.aliases),
        state=state,
        reason=why,
        url=url,
        curl=curl_line(url, entry.name, settings.needs_keys),
        versions=versions,
        replicas=replicas,
        sticky=entry.spec.sticky,
        balance=entry.spec.balance,
        fallbacks=list(entry.spec.fallbacks),
        pinned=entry.spec.pinned,
        on_demand=entry.spec.on_demand,
        idle_unload_seconds=entry.spec.idle_unload_seconds,
        last_used=float(last_used) if isinstance(last_used, int | float) and last_used else None,
        pending=Pending(what=pending.what, by=pending.by, since=pending.since, weights=dict(pending.weights)) if pending else None,
        previous=previous(entry),
        owner=entry.owner,
        revision=entry.revision,
        created_at=entry.created_at,
    )


def detailed(summary: EndpointSummary, entry: Entry) -> EndpointDetail:
    """With its spec and history."""
    return EndpointDetail(**summary, spec=entry.spec.model_dump(mode="json"), history=list(entry.history))


def _replica(server: Server, told: Mapping[str, Any]) -> ReplicaState:
    healthy = server.phase == "ready" and bool(told.get("healthy", True))
    state = "unhealthy" if server.phase == "ready" and not healthy else server.phase
    return ReplicaState(
        run=server.run,
        version=server.version,
        state=state,
        host=server.host,
        port=server.port,
        runtime=server.runtime,
        context=server.context,
        slots=server.slots,
        adapters=[name for name, _ in server.adapters],
        healthy=healthy,
        breaker=str(told.get("breaker") or ""),
        outstanding=_count(told, "outstanding"),
        cause=str(told.get("cause") or "") if state == "unhealthy" else server.reason,
        started_at=server.since or None,
    )


def _versions(
    entry: Entry, servers: Sequence[Server], plan: Steps, told: Mapping[str, Any], unhealthy: Mapping[str, str], now: float
) -> list[VersionState]:
    wishes, routed = wished(entry, now), entry.routed
    ready = ready_versions(entry, servers, unhealthy)
    ill = {server.version: unhealthy[server.run] or f"{server.run} does not answer" for server in servers if server.run in unhealthy}
    total = sum(weight for name, weight in routed.items() if name in ready) or sum(routed.values())
    shown = []
    for version in entry.spec.versions:
        home = version.adapter_of or version.name
        answering = sum(server.version == home and server.phase == "ready" and server.run not in unhealthy for server in servers)
        counts = _part(_part(told, "versions"), version.name)
        state, why = _version_state(entry, version.name, home, version.provider, plan, wishes, ready, ill)
        rests = entry.resting.get(version.name)
        warm = (
            rests is not None
            and home in wishes
            and not version.adapter_of
            and version.name not in (entry.pending.weights if entry.pending else ())
        )
        weight = routed.get(version.name, 0.0)
        shown.append(
            VersionState(
                name=version.name,
                model=version.model,
                provider=version.provider,
                adapter_of=version.adapter_of,
                weight=weight,
                share=weight / total if total and (version.name in ready or not ready & set(routed)) else 0.0,
                mirror=sum(mirror.fraction for mirror in entry.spec.mirror if mirror.version == version.name),
                target_weight=entry.pending.weights.get(version.name, 0.0) if entry.pending else None,
                replicas=version.replicas,
                ready=answering,
                state=state,
                reason=why,
                warm_until=rests + entry.spec.keep_previous_seconds if warm and rests is not None else None,
                in_flight=_count(counts, "in_flight"),
                requests=_count(counts, "requests"),
                errors=_count(counts, "errors"),
            )
        )
    return shown


def _version_state(
    entry: Entry, name: str, home: str, provider: str, plan: Steps, wishes: Mapping[str, int], ready: set[str], ill: Mapping[str, str]
) -> tuple[str, str]:
    """`ill`: the cause of what has servers, none of which answers."""
    if provider:
        return "remote", ""
    if home in plan.broken:
        return "broken", plan.broken[home]
    if name in ready:
        return "ready", ""
    if wishes.get(home, 0) == 0:
        return "cold", ""
    if home in ill:
        return "broken", ill[home]
    return "starting", plan.pauses[home][1] if home in plan.pauses else ""


def _state(entry: Entry, versions: Sequence[VersionState], reason: str) -> tuple[str, str]:
    """Of the whole, by the versions that get requests."""
    if entry.asleep is not None:
        return "asleep", entry.asleep.cause
    serving = [version for version in versions if version["weight"] > 0]
    answering = [version for version in serving if version["state"] in ("ready", "remote")]
    worst = next((version for version in serving if version["state"] == "broken"), None)
    if not answering:
        if worst is not None:
            return "broken", f"{worst['name']}: {worst['reason']}"
        return "starting", reason or next((version["reason"] for version in serving if version["reason"]), "")
    fewer = [
        version
        for version in serving
        if version["state"] != "remote" and not version["adapter_of"] and version["ready"] < version["replicas"]
    ]
    if len(answering) < len(serving) or fewer:
        named = worst or next((version for version in serving if version not in answering), fewer[0] if fewer else serving[0])
        return (
            "degraded",
            reason
            or f"{named['name']} has {named['ready']} of {named['replicas']} servers{': ' + named['reason'] if named['reason'] else ''}",
        )
    return "ready", reason


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0
