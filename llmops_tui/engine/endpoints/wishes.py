"""What users wish of endpoints: start, stop, route, swap, roll back, scale, pin.

Checked whole before anything changes, durable when answered.

Belongs to the event loop's thread. A wish only says what shall be; keeping.py makes it so.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmops_tui.engine.endpoints.changes import (
    add_version,
    begin,
    mirrored,
    remove_version,
    reroute,
    rollback,
    scaled,
    swap,
)
from llmops_tui.engine.endpoints.entry import Asleep, Entry, checked, names_of, only_positive
from llmops_tui.engine.endpoints.gateway_process import check_port
from llmops_tui.engine.endpoints.idling import awake, unloaded, woken
from llmops_tui.engine.endpoints.keeping import Keeping
from llmops_tui.engine.endpoints.replica_spec import replica_spec
from llmops_tui.engine.people import Person
from llmops_tui.errors import ConflictError, InsufficientResourcesError, NotFoundError, UsageError
from llmops_tui.specs.answers import Done
from llmops_tui.specs.answers_serving import CheckedEndpoint, CheckedServer, EndpointSummary
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.endpoint import MOST_REPLICAS, EndpointSpec, EndpointVersion

_ROUTING = ("sticky", "balance", "fallbacks")
Prepare = Callable[[int, RunSpec, Path], Awaitable[dict[str, Any]]]
# What a model is called by a registered name: a finished run's id stands for the model it made.
ResolveModel = Callable[[int, str, Path], Awaitable[str]]

log = logging.getLogger(__name__)


class EndpointWishes:
    """One at a time: each holds the keeper's lock while the entry it changes is read and written."""

    def __init__(self, keeping: Keeping, prepare: Prepare, resolve: ResolveModel) -> None:
        self._keeping = keeping
        self._prepare = prepare
        self._resolve = resolve

    async def start(self, raw: Mapping[str, Any], person: Person, cwd: Path) -> EndpointSummary:
        """A new endpoint; its servers follow. Raises UsageError, NotFoundError, ConflictError (the name or the port is in use),
        InsufficientResourcesError."""
        entry, prepared = await self._begun(raw, person, cwd)
        async with self._keeping.lock:
            self._check_names(entry.spec)
            for name, ready in prepared.items():
                version = entry.spec.version(name)
                assert version is not None
                self._keeping.starts.offer(entry, version, ready)
            await self._keeping.commit(entry)
        await self._tell_gateway()
        return self._keeping.summary(entry.name)

    async def check(self, raw: Mapping[str, Any], person: Person, cwd: Path) -> CheckedEndpoint:
        """Everything `start` checks, and what each server would be. Nothing changes. Raises what `start` raises."""
        entry, prepared = await self._begun(raw, person, cwd)
        return CheckedEndpoint(
            spec=entry.spec.model_dump(mode="json"),
            servers=[_server_to_be(version, ready) for version, ready in prepared.items()],
            warnings=[warning for ready in prepared.values() for warning in ready.get("warnings", ())],
        )

    async def _begun(self, raw: Mapping[str, Any], person: Person, cwd: Path) -> tuple[Entry, dict[str, dict[str, Any]]]:
        """The entry of a new endpoint, checked whole, and what its servers' preflight found by version."""
        spec = await self._with_models(checked(raw), person.uid, cwd)
        entry = begin(spec, owner=person.user, uid=person.uid, cwd=str(cwd), now=time.time())
        if entry.spec.on_demand:
            entry = replace(entry, asleep=Asleep(entry.created_at, "not asked for yet; the first request starts it"))
        self._check_names(entry.spec)
        self._check_upstreams(entry.spec)
        prepared = {}
        for version in entry.spec.versions:
            if not version.provider and not version.adapter_of:
                prepared[version.name] = await self._prepare(entry.uid, replica_spec(entry, version), Path(entry.cwd))
        if not self._keeping.gateway.alive():
            check_port(self._keeping.settings.host, self._keeping.settings.port)
        return entry, prepared

    async def stop(self, name: str) -> Done:
        """No new requests from now on; those under way are answered, then its servers go. Raises NotFoundError."""
        async with self._keeping.lock:
            entry = self._keeping.book.get(name)
            serving = sum(server.phase != "ended" for server in self._keeping.servers.get(entry.name, ()))
            await self._keeping.forget(entry.name)
        await self._tell_gateway()
        servers = "no server was running" if not serving else "1 server ends" if serving == 1 else f"{serving} servers end"
        return Done(done=f"{entry.name} is stopped: {servers}" + (" once what is under way is answered" if serving else ""))

    async def route(
        self, name: str, weights: Mapping[str, float] | None, mirror: Mapping[str, float] | None, settings: Mapping[str, Any], by: str
    ) -> EndpointSummary:
        """Other weights, shadow traffic, or ways of choosing; what is None stays. Raises NotFoundError, UsageError."""
        if weights is None and mirror is None and not settings:
            raise UsageError("nothing is to be changed", "give weights (v3=95 v4=5), --mirror, --sticky, --balance or --fallback")

        def change(entry: Entry, now: float) -> Entry:
            if settings:
                entry = self._chosen(entry, settings, by, now)
            if mirror is not None:
                entry = mirrored(entry, mirror, by, now)
            return entry if weights is None else reroute(entry, weights, self._keeping.ready(entry), what="route", by=by, now=now)

        return await self._change(name, change)

    async def swap(self, name: str, model: str, serve: Mapping[str, Any] | None, person: Person, cwd: Path) -> EndpointSummary:
        """A new version in the place of the one that answers. Raises what `start` raises, ConflictError (a swap is under way)."""
        entry = self._keeping.book.get(name)
        leader = max(entry.spec.versions, key=lambda version: version.weight)
        kept = leader if not leader.provider and not leader.adapter_of else None
        version = _version(
            model=await self._resolve(person.uid, model, cwd),
            serve={**(kept.serve if kept else {}), **(serve or {})},
            replicas=kept.replicas if kept else 1,
        )
        mode = "instead" if entry.spec.swap == "drain" else "beside"
        now = time.time()
        tried, new = swap(entry, version, by=person.user, now=now, mode="beside")
        added = tried.spec.version(new)
        assert added is not None
        try:
            await self._check_server(tried, added)
        except InsufficientResourcesError:
            if entry.spec.swap == "blue_green":
                raise
            mode = "instead"
        return await self._change(name, lambda entry, now: swap(entry, version, by=person.user, now=now, mode=mode)[0])  # type: ignore[arg-type]

    async def rollback(self, name: str, by: str) -> EndpointSummary:
        """Back to the version before, for the next request where it is still warm. Raises ConflictError."""
        return await self._change(name, lambda entry, now: rollback(entry, self._keeping.ready(entry), by=by, now=now))

    async def pin(self, name: str, pinned: bool, by: str) -> EndpointSummary:
        """Never unloaded, or as its spec says."""

        def change(entry: Entry, now: float) -> Entry:
            weights = only_positive(entry.weights)
            changed = entry.with_spec(pinned=pinned).noted("pin" if pinned else "unpin", by, now, weights, weights)
            return awake(changed, now) if pinned and changed.asleep is not None else changed

        return await self._change(name, change)

    async def sleep(self, name: str, by: str) -> EndpointSummary:
        """Unloaded until the next request. Raises ConflictError."""
        return await self._change(name, lambda entry, now: unloaded(entry, by, now))

    async def wake(self, name: str, by: str) -> EndpointSummary:
        """Its servers start again, without a request."""
        return await self._change(name, lambda entry, now: woken(entry, by, now))

    async def scale(self, name: str, version: str, count: int, by: str) -> EndpointSummary:
        """Another number of servers of a version; empty: of the one with the most requests. Raises UsageError, NotFoundError."""
        if not 0 <= count <= MOST_REPLICAS:
            raise UsageError(f"{count} servers: must be from 0 to {MOST_REPLICAS}", "", [{"field": "count", "message": "out of range"}])

        def change(entry: Entry, now: float) -> Entry:
            chosen = version or max(entry.spec.versions, key=lambda each: each.weight).name
            return scaled(entry, chosen, count, by, now)

        return await self._change(name, change)

    async def add(self, name: str, values: Mapping[str, Any], person: Person, cwd: Path) -> EndpointSummary:
        """A version more, without requests yet: a candidate, a provider, or an adapter on the servers of another version."""
        entry = self._keeping.book.get(name)
        version = _version(**{**values, "weight": 0.0})
        if version.model:
            version = version.model_copy(update={"model": await self._resolve(person.uid, version.model, cwd)})
        tried, new = add_version(entry, version, time.time())
        self._check_upstreams(tried.spec)
        added = tried.spec.version(version.adapter_of or new)
        if added is not None:
            try:
                await self._check_server(tried, added)
            except InsufficientResourcesError:
                if not self._takes_adapters(entry, version.adapter_of):
                    raise
        by = person.user

        def change(entry: Entry, now: float) -> Entry:
            changed, new = add_version(entry, version, now)
            weights = only_positive(entry.weights)
            return changed.noted(f"added {new}", by, now, weights, weights)

        return await self._change(name, change)

    async def remove(self, name: str, version: str, by: str) -> EndpointSummary:
        """Without a version that gets no requests. Raises ConflictError, NotFoundError."""
        return await self._change(name, lambda entry, now: remove_version(entry, version, by, now))

    async def _change(self, name: str, change: Callable[[Entry, float], Entry]) -> EndpointSummary:
        """Read, change, write, and tell the gateway before this returns: it holds for the next request."""
        async with self._keeping.lock:
            entry = self._keeping.book.get(name)
            changed = change(entry, time.time())
            if changed != entry:
                await self._keeping.commit(changed)
        await self._tell_gateway()
        return self._keeping.summary(entry.name)

    async def _tell_gateway(self) -> None:
        """What was wished is durable already: where the gateway cannot be told now, the next pass does."""
        try:
            await self._keeping.publish()
        except OSError as error:
            log.warning("the gateway is told later: %s", error)

    def _chosen(self, entry: Entry, settings: Mapping[str, Any], by: str, now: float) -> Entry:
        values = {name: settings[name] for name in _ROUTING if settings.get(name) is not None}
        for fallback in values.get("fallbacks", ()):
            if fallback not in self._keeping.book.entries:
                raise NotFoundError(f"fallbacks: no endpoint {fallback!r}", "see `llmops-tui endpoints list`")
        weights = only_positive(entry.weights)
        words = " ".join(f"{name}={names_of(value) if isinstance(value, list) else value}" for name, value in values.items())
        return entry.with_spec(**values).noted(words, by, now, weights, weights)

    def _check_names(self, spec: EndpointSpec) -> None:
        book = self._keeping.book
        for field, name in (("name", spec.name), *(("aliases", alias) for alias in spec.aliases)):
            if book.taken(name):
                other = next(entry.name for entry in book.entries.values() if name == entry.name or name in entry.spec.aliases)
                what = "in use" if other == name else f"in use: it leads to {other}"
                message = f"the name {name!r} is {what}"
                raise ConflictError(message, f"choose another, or `llmops-tui endpoints stop {other}`", [{"field": field, "message": what}])
            if name in book.unreadable:
                raise ConflictError(
                    f"the name {name!r} belongs to an endpoint whose file is damaged", "see the warnings of `llmops-tui status`"
                )
        for fallback in spec.fallbacks:
            if fallback not in book.entries:
                raise NotFoundError(
                    f"fallbacks: no endpoint {fallback!r}",
                    "see `llmops-tui endpoints list`",
                    [{"field": "fallbacks", "message": "no such endpoint"}],
                )

    def _check_upstreams(self, spec: EndpointSpec) -> None:
        for version in spec.versions:
            if not version.provider:
                continue
            provider = self._keeping.settings.providers.get(version.provider)
            field = [{"field": "provider", "message": "not usable"}]
            if provider is None:
                known = names_of(list(self._keeping.settings.providers))
                raise NotFoundError(f"no provider {version.provider!r}", f"the settings have {known} under serving.providers", field)
            if provider.key_env and not os.environ.get(provider.key_env):
                raise UsageError(
                    f"the provider {version.provider!r} has no key: the engine's environment has no {provider.key_env}",
                    "set it where the engine is started, and restart the engine", field,
                )  # fmt: skip

    def _takes_adapters(self, entry: Entry, base: str) -> bool:
        """Whether this version's servers are given an adapter as they are: no memory is needed for another server."""
        living = [each for each in self._keeping.servers.get(entry.name, ()) if each.version == base and each.phase != "ended"]
        return bool(living) and all(each.takes_adapters for each in living)

    async def _check_server(self, entry: Entry, version: EndpointVersion) -> None:
        """Everything a server of it needs, before anything changes. Raises what the preflight of `serve` raises."""
        if version.provider or version.adapter_of:
            return
        prepared = await self._prepare(entry.uid, replica_spec(entry, version), Path(entry.cwd))
        self._keeping.starts.offer(entry, version, prepared)

    async def _with_models(self, spec: EndpointSpec, uid: int, cwd: Path) -> EndpointSpec:
        versions = [
            version.model_copy(update={"model": await self._resolve(uid, version.model, cwd)}) if version.model else version
            for version in spec.versions
        ]
        return spec.model_copy(update={"versions": versions})


def _server_to_be(version: str, prepared: Mapping[str, Any]) -> CheckedServer:
    found = prepared.get("serving") or {}
    return CheckedServer(
        version=version,
        model=str(found.get("model_name", "")),
        runtime=str(found.get("runtime", "")),
        runtime_version=str(found.get("runtime_version", "")),
        gpu=bool(found.get("gpu")),
        context=int(found.get("context") or 0),
        slots=int(found.get("slots") or 0),
        threads=int(found.get("threads") or 0),
        memory_bytes=found.get("memory_bytes"),
    )


def _version(**values: Any) -> EndpointVersion:
    """One version, checked as one of an endpoint. Raises UsageError naming the field."""
    adapter_of = values.get("adapter_of") or ""
    name = str(values.get("name") or "new")
    base: Sequence[dict[str, Any]] = [{"name": adapter_of, "model": "base"}] if adapter_of and adapter_of != name else []
    versions = checked({"name": "checked", "versions": [*base, {**values, "name": name}]}).versions
    return versions[-1].model_copy(update={"name": values.get("name") or ""})
