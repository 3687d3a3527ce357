"""The table of endpoints: which name leads where, kept through reloads so that counts and connections go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from llmops_tui.engine.serving.gateway.config import EndpointRule, GatewayConfig, VersionRule
from llmops_tui.engine.serving.gateway.meters import Meters
from llmops_tui.engine.serving.gateway.providers.provider import Provider
from llmops_tui.engine.serving.gateway.replica import Replica


class Waiter(Protocol):
    """A request that waits for a replica to be started."""

    def woken(self) -> None: ...
    def forsaken(self) -> None:
        """Its endpoint is served no more."""


class Version:
    """One version of an endpoint: its rule, who serves it, what is counted of it, and apart from that of its shadow traffic."""

    __slots__ = ("in_flight", "meters", "mirrored", "name", "replicas", "rule")

    def __init__(self, rule: VersionRule) -> None:
        self.name = rule.name
        self.rule = rule
        self.replicas: list[Replica] = []
        self.meters = Meters()
        self.mirrored = Meters()
        self.in_flight = 0

    @property
    def weight(self) -> float:
        return self.rule.weight


class Endpoint:
    """A served name."""

    __slots__ = ("last_used", "name", "next_turn", "rule", "versions", "waiting", "wanted_since")

    def __init__(self, rule: EndpointRule) -> None:
        self.name = rule.name
        self.rule = rule
        self.versions: list[Version] = []
        self.last_used = 0.0
        self.wanted_since: float | None = None  # unix seconds since which requests wait for a replica
        self.waiting: set[Waiter] = set()
        self.next_turn = 0

    def version(self, name: str) -> Version | None:
        return next((version for version in self.versions if version.name == name), None)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model's name leads: an endpoint, and the version when one was named outright."""

    endpoint: Endpoint
    version: Version | None = None


class Routes:
    """Names, endpoints and replicas of one configuration."""

    def __init__(self) -> None:
        self.names: dict[str, Target] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.replicas: dict[str, Replica] = {}
        self.providers: dict[str, Provider] = {}

    def take(self, config: GatewayConfig, loop: asyncio.AbstractEventLoop) -> None:
        """Change to this configuration. What is under way keeps the objects that it began with; what waits for an endpoint that went is
        told so, once the new table stands."""
        self._take_providers(config, loop)
        self._take_replicas(config, loop)
        endpoints: dict[str, Endpoint] = {}
        names: dict[str, Target] = {}
        for rule in config.endpoints.values():
            endpoint = self.endpoints.get(rule.name) or Endpoint(rule)
            endpoint.rule = rule
            known = {version.name: version for version in endpoint.versions}
            endpoint.versions = [self._version(known.get(part.name), part) for part in rule.versions]
            endpoints[rule.name] = endpoint
        for endpoint in endpoints.values():
            for alias in endpoint.rule.aliases:
                names[alias] = Target(endpoint)
        for endpoint in endpoints.values():
            names[endpoint.name] = Target(endpoint)
            for version in endpoint.versions:
                for mark in "@:":
                    names.setdefault(f"{endpoint.name}{mark}{version.name}", Target(endpoint, version))
        gone = [endpoint for name, endpoint in self.endpoints.items() if name not in endpoints]
        self.endpoints = endpoints
        self.names = names
        for endpoint in gone:
            for waiter in list(endpoint.waiting):
                waiter.forsaken()

    def _take_replicas(self, config: GatewayConfig, loop: asyncio.AbstractEventLoop) -> None:
        replicas: dict[str, Replica] = {}
        for rule in config.replicas.values():
            known = self.replicas.get(rule.id)
            if known is not None and (known.rule.host, known.rule.port) == (rule.host, rule.port):
                if rule.state == "ready" and known.rule.state != "ready":
                    known.draining, known.misses = False, 0
                    known.healthy = known.healthy or known.rule.state != "draining"  # it is said to be back; the health watch will see
                known.rule = rule
                replicas[rule.id] = known
            else:
                replicas[rule.id] = Replica(loop, rule)
        for name, replica in self.replicas.items():
            if replicas.get(name) is not replica:
                replica.pool.close()
        self.replicas = replicas

    def _take_providers(self, config: GatewayConfig, loop: asyncio.AbstractEventLoop) -> None:
        providers: dict[str, Provider] = {}
        for rule in config.providers.values():
            known = self.providers.get(rule.name)
            providers[rule.name] = known if known is not None and known.provider_rule == rule else Provider(loop, rule)
        for name, provider in self.providers.items():
            if providers.get(name) is not provider:
                provider.pool.close()
        self.providers = providers

    def _version(self, known: Version | None, rule: VersionRule) -> Version:
        version = known or Version(rule)
        version.rule = rule
        if rule.provider:
            provider = self.providers.get(rule.provider)
            version.replicas = [provider] if provider is not None else []
        else:
            version.replicas = [self.replicas[name] for name in rule.replicas]
        return version
