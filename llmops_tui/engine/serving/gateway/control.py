"""The engine's way in: HTTP over a Unix socket that only this user may open."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from time import monotonic
from typing import Any

import orjson

from llmops_tui.engine.serving.gateway.client import Client
from llmops_tui.engine.serving.gateway.config import Limits
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.gateway import Gateway
from llmops_tui.engine.serving.gateway.http_request import Bodies, Request
from llmops_tui.engine.serving.gateway.reload import ConfigFile
from llmops_tui.engine.serving.gateway.replica import Replica

_DRAIN_SECONDS = 30.0
_LOOK_SECONDS = 0.02


class _Later:
    """An answer that a task is working on; it is not stopped by the asker's leaving."""

    def client_gone(self) -> None: ...
    def client_full(self) -> None: ...
    def client_ready(self) -> None: ...


class Control:
    """Answers on the control socket. `stop` is called to end the process."""

    def __init__(self, gateway: Gateway, config: ConfigFile, stop: Callable[[], None]) -> None:
        self._gateway = gateway
        self._config = config
        self._stop = stop
        self._tasks: set[asyncio.Task[None]] = set()
        self.limits = Limits()
        self.clients: set[Client] = set()
        self.bodies = Bodies()
        self.draining = False

    def connect(self) -> Client:
        return Client(self)

    def serve(self, client: Client, request: Request) -> None:
        try:
            if request.error is not None:
                raise request.error
            self._serve(client, request)
        except GatewayError as error:
            client.refuse(error)

    def _serve(self, client: Client, request: Request) -> None:
        asked = (request.method, request.target)
        if asked == (b"GET", b"/control/status"):
            client.answer(200, orjson.dumps(self.status()))
        elif asked == (b"POST", b"/control/reload"):
            if not self._config.reload():
                raise GatewayError(409, self._config.error, "config_refused")
            client.answer(200, orjson.dumps({"revision": self._gateway.core.config.revision}))
        elif asked == (b"POST", b"/control/drain"):
            replica, seconds, undo = self._drain_wish(request)
            replica.draining = not undo
            client.exchange = _Later()
            task = self._gateway.core.loop.create_task(self._drain(client, replica, 0.0 if undo else seconds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif asked == (b"POST", b"/control/stop"):
            client.keep = False
            client.answer(200, orjson.dumps({"in_flight": len(self._gateway.core.active)}))
            self._stop()
        else:
            raise GatewayError(404, "there is nothing here: /control/status, reload, drain, stop", "not_found")

    def status(self) -> dict[str, Any]:
        """How everything stands."""
        gateway, core = self._gateway, self._gateway.core
        now = monotonic()
        latency = {
            endpoint.name: {version.name: windows for version in endpoint.versions if (windows := version.meters.windows(now))}
            for endpoint in core.routes.endpoints.values()
        }
        mirrored = {
            endpoint.name: {version.name: windows for version in endpoint.versions if (windows := version.mirrored.windows(now))}
            for endpoint in core.routes.endpoints.values()
        }
        return {
            "revision": core.config.revision,
            "config_error": self._config.error,
            "pid": os.getpid(),
            "uptime_seconds": round(now - gateway.began, 3),
            "rss_bytes": _rss_bytes(),
            "connections": len(gateway.clients),
            "in_flight": len(core.active),
            "requests_total": core.requests_total,
            "spool": {"waiting": core.spool.waiting, "lost": core.spool.lost},
            "texts": {"waiting": core.texts.waiting, "lost": core.texts.lost},
            "replicas": {name: _replica(replica) for name, replica in {**core.routes.replicas, **core.routes.providers}.items()},
            "endpoints": {
                endpoint.name: {
                    "last_used": endpoint.last_used or None,
                    "wanted_since": endpoint.wanted_since,
                    "waiting": len(endpoint.waiting),
                    "versions": {
                        version.name: {
                            "in_flight": version.in_flight,
                            "requests": version.meters.requests,
                            "errors": version.meters.errors,
                            "prompt_tokens": version.meters.prompt_tokens,
                            "completion_tokens": version.meters.completion_tokens,
                            "cost": version.meters.cost,
                            "mirrored": {"requests": version.mirrored.requests, "errors": version.mirrored.errors},
                        }
                        for version in endpoint.versions
                    },
                }
                for endpoint in core.routes.endpoints.values()
            },
            "keys": {"today_tokens": core.keys.used_today()},
            "latency": latency,
            "latency_mirrored": {name: versions for name, versions in mirrored.items() if versions},
        }

    def _drain_wish(self, request: Request) -> tuple[Replica, float, bool]:
        try:
            fields: Any = orjson.loads(request.body)
        except ValueError as error:
            raise GatewayError(400, f"the body is not JSON: {error}", "invalid_json") from None
        name = fields.get("replica") if isinstance(fields, dict) else None
        replica = self._gateway.core.routes.replicas.get(name) if isinstance(name, str) else None
        if replica is None:
            raise GatewayError(404, f"there is no replica called {name!r}", "not_found")
        seconds = fields.get("seconds", _DRAIN_SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 86400:
            raise GatewayError(400, "seconds: must be a number from 0 to 86400", "invalid_value")
        return replica, float(seconds), fields.get("undo") is True

    async def _drain(self, client: Client, replica: Replica, seconds: float) -> None:
        until = monotonic() + seconds
        while replica.outstanding and monotonic() < until:  # noqa: ASYNC110 - nobody tells when it becomes 0, and once a drain is rare
            await asyncio.sleep(_LOOK_SECONDS)
        client.answer(200, orjson.dumps({"replica": replica.id, "in_flight": replica.outstanding, "t": time.time()}))


def _replica(replica: Replica) -> dict[str, Any]:
    return {
        "state": "draining" if replica.draining else replica.rule.state,
        "outstanding": replica.outstanding,
        "outstanding_tokens": replica.outstanding_tokens,
        "healthy": replica.healthy,
        "breaker": replica.breaker.state,
        "last_ok": replica.last_ok or None,
        "last_used": replica.last_used or None,
        "failures": replica.failures,
        "cause": replica.cause,
    }


def _rss_bytes() -> int:
    """Resident pages of this process (man 5 proc, statm)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
