"""The gateway's configuration from what is wished and what is there. Pure; the format is the gateway's (serving/gateway/config.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.specs.settings_serving import ServingSettings

Config = dict[str, Any]


def compile_config(
    entries: Sequence[Entry], servers: Mapping[str, Sequence[Server]], keys: Sequence[Mapping[str, Any]], settings: ServingSettings
) -> Config:
    """Everything but the revision. `servers` by endpoint, `keys` as at rest."""
    names = {entry.name for entry in entries}
    return {
        "listen": {"host": settings.host, "port": settings.port},
        "auth": "keys" if settings.needs_keys else "none",
        "limits": settings.limits.model_dump(mode="json"),
        "keys": [
            {
                name: key[name]
                for name in ("id", "sha256", "endpoints", "requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent")
            }
            for key in keys
            if not key.get("revoked")
        ],
        "replicas": {
            server.run: _replica(server)
            for those in servers.values()  # those of an endpoint that is gone too: they finish what is under way
            for server in those
            if server.phase in ("ready", "draining") and server.port
        },
        "providers": {name: provider.model_dump(mode="json") for name, provider in settings.providers.items()},
        "endpoints": {entry.name: _endpoint(entry, servers.get(entry.name, ()), names, settings) for entry in entries},
        "redactors": [redactor.model_dump(mode="json") for redactor in settings.all_redactors],
    }


def waits_for_servers(entry: Entry) -> bool:
    """Whether a request that finds no server waits for one instead of failing."""
    pending = entry.pending
    return (
        entry.spec.on_demand
        or entry.spec.idle_unload_seconds > 0
        or entry.asleep is not None
        or (pending is not None and pending.mode == "instead")
    )


def comes_up(entry: Entry, servers: Sequence[Server]) -> bool:
    """Whether its first server is on its way and none has failed: whoever woke it goes on waiting, and the next one does too."""
    homes = {version.adapter_of or version.name for version in entry.spec.versions if version.name in entry.routed and not version.provider}
    kept = any(version.replicas for version in entry.spec.versions if version.name in homes)
    own = [server for server in servers if server.version in homes]
    return kept and not any(server.phase == "ready" or server.failed for server in own)


def _replica(server: Server) -> Config:
    return {
        "host": server.host,
        "port": server.port,
        "model": server.model,
        "slots": server.slots,
        "context": server.context,
        "state": server.phase,
        "adapters": dict(server.adapters),
    }


def _endpoint(entry: Entry, servers: Sequence[Server], names: set[str], settings: ServingSettings) -> Config:
    spec, routed = entry.spec, entry.routed
    listed = [server for server in servers if server.phase in ("ready", "draining") and server.port]
    versions: list[Config] = []
    for version in spec.versions:
        base: Config = {"name": version.name, "weight": routed.get(version.name, 0.0)}
        if version.provider:
            if version.provider in settings.providers:  # else it was taken from the settings since
                versions.append({**base, "provider": version.provider, "model": version.provider})
            continue
        home = version.adapter_of or version.name
        replicas = [server.run for server in listed if server.version == home]
        versions.append({**base, "model": version.model, "replicas": replicas, "adapter": version.name if version.adapter_of else ""})
    known = {version["name"] for version in versions}
    return {
        "aliases": list(spec.aliases),
        "versions": versions,
        "mirror": [mirror.model_dump(mode="json") for mirror in spec.mirror if mirror.version in known],
        "sticky": spec.sticky,
        "balance": spec.balance,
        "fallbacks": [name for name in spec.fallbacks if name in names and name != entry.name],
        "retries": spec.retries,
        "on_demand": waits_for_servers(entry) or comes_up(entry, servers),
        "on_demand_seconds": spec.on_demand_seconds,
        "slo": spec.slo.model_dump(mode="json"),
        "text_fraction": spec.record.text_fraction,
        "redact": spec.record.redact,
    }
