"""An endpoint's panel as it is now, from the gateway's windows, the servers' own metrics and what the last hour took. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.engine.recorded.spending import LEAST_SECONDS, Spending, Spent
from llmops_tui.engine.tariff import Tariff
from llmops_tui.specs.answers_requests import EndpointLive, EngineLoad, VersionLive

_NO_TOKENS = "no token was answered in the last hour"


def endpoint_live(
    entry: Entry,
    servers: Sequence[Server],
    status: Mapping[str, Any],
    latest: Mapping[str, Mapping[str, float]],
    spending: Spending,
    tariff: Tariff,
    currency: str,
    gpus: int,
    now: float,
) -> EndpointLive:
    """`status` is the gateway's; `latest` the newest metrics of each run; `gpus` how many the box has."""
    living = [server for server in servers if server.run and server.phase in ("ready", "draining")]
    homes = {server.run: server.version for server in servers if server.run}
    riders = {version.name: version.adapter_of for version in entry.spec.versions if version.adapter_of}
    windows, mirrored = (_part(_part(status, name), entry.name) for name in ("latency", "latency_mirrored"))
    spent = {version.name: spending.of(version.name, riders, homes) for version in entry.spec.versions}
    versions = {}
    for version in entry.spec.versions:
        home = riders.get(version.name, version.name)
        taken = spent[version.name]
        thousands = taken.tokens / 1000
        known = thousands > 0 and taken.seconds >= LEAST_SECONDS
        versions[version.name] = VersionLive(
            windows=_windows(_part(windows, version.name)),
            mirrored=_windows(_part(mirrored, version.name)),
            load=_load([latest[server.run] for server in living if server.version == home and server.run in latest]),
            joules_per_1k_tokens=taken.joules / thousands if known and taken.joules is not None else None,
            cost_per_1k_tokens=cost / thousands if known and (cost := _cost(taken, tariff, version.provider)) is not None else None,
        )
    return EndpointLive(
        endpoint=entry.name, t=now, versions=versions, energy_basis=_basis(list(spent.values()), gpus, spending.seconds), currency=currency
    )


def spool_warnings(status: Mapping[str, Any]) -> list[str]:
    """What of the gateway's records did not reach the disk."""
    told = []
    for name, what in (("spool", "records of requests"), ("texts", "kept texts")):
        lost, waiting = (int(_part(status, name).get(count) or 0) for count in ("lost", "waiting"))
        if lost:
            told.append(f"{lost:,} {what} are lost: the disk did not take them in time; make room in the state directory")
        if waiting:
            told.append(f"{waiting:,} {what} wait in the gateway's memory: the disk does not take them; make room in the state directory")
    return told


def _load(metrics: Sequence[Mapping[str, float]]) -> EngineLoad:
    def told(name: str) -> list[float]:
        return [value for each in metrics if (value := each.get(f"serve/{name}")) is not None and math.isfinite(value)]

    def together(name: str) -> float | None:
        return sum(values) if (values := told(name)) else None

    def on_average(name: str) -> float | None:
        return sum(values) / len(values) if (values := told(name)) else None

    return EngineLoad(
        running=together("running"),
        waiting=together("waiting"),
        kv_cache_fraction=on_average("kv_cache_fraction"),
        prefix_hit_fraction=on_average("prefix_hit_fraction"),
        generated_tokens_per_second=together("generated_tokens_per_second"),
    )


def _cost(spent: Spent, tariff: Tariff, provider: str) -> float | None:
    """Money for the tokens of the window: what a provider took, or what the GPUs cost."""
    return (spent.paid or None) if provider else tariff.cost(spent.gpu_seconds, spent.joules)


def _basis(spent: Sequence[Spent], gpus: int, seconds: float) -> str:
    """How joules were found, or why not."""
    local = [each for each in spent if each.runs]
    if not local:
        return "no server of one's own: what a provider draws is not known"
    if not gpus:
        return "this box has no GPU: what a processor draws is not metered"
    if not any(each.gpu_seconds or each.joules is not None for each in local):
        return "its servers hold no GPU: what a processor draws is not metered" if any(e.tokens for e in local) else _NO_TOKENS
    if seconds < LEAST_SECONDS:
        return f"known once it was metered for {LEAST_SECONDS:.0f} s"
    if not any(each.tokens for each in local):
        return _NO_TOKENS
    if all(each.joules is None for each in local):
        return "the GPUs of its servers tell neither energy nor power"
    return f"GPU energy of its servers over the last {seconds / 60:.0f} min, idle time included, by the tokens they answered"


def _windows(told: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {str(seconds): dict(figures) for seconds, figures in told.items() if isinstance(figures, Mapping)}


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
