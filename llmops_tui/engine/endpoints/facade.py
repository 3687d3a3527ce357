"""Endpoints put together, as the rest of the engine sees them: what keeps them, what may be wished of them, and how they are asked."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from llmops_tui.engine.endpoints.chat import Asked, ask_gateway
from llmops_tui.engine.endpoints.keeping import Keeping
from llmops_tui.engine.endpoints.keys import KeyRecord, digest
from llmops_tui.engine.endpoints.server_starts import Queue
from llmops_tui.engine.endpoints.showing import gateway_url, reach_host
from llmops_tui.engine.endpoints.wishes import EndpointWishes, Prepare
from llmops_tui.engine.submitter import account_of
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample, ModelInfo
from llmops_tui.specs.answers_serving import GatewayInfo
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.settings_serving import ServingSettings

_CONSOLE_KEY = "console"


class Catalog(Protocol):
    """What is asked of the catalog of models; it blocks."""

    def list_models(self, uid: int) -> list[ModelInfo]: ...

    def prepare(self, uid: int, spec: RunSpec, cwd: Path) -> dict[str, Any]: ...


class Endpoints:
    """One per engine."""

    def __init__(
        self,
        home: Home,
        settings: ServingSettings,
        queue: Queue,
        catalog: Catalog,
        prepare: Prepare,
        prepare_now: Callable[[int, RunSpec, Path], dict[str, Any]],
        tell: Callable[[str, dict[str, Any]], object],
        gpus: Callable[[], Sequence[GpuSample]],
    ) -> None:
        # The console's own key is never at rest: a new engine makes a new one.
        self._secret = f"lk-{secrets.token_urlsafe(32)}"
        self._catalog = catalog
        self._queue = queue
        self._settings = settings
        self.keeping = Keeping(home, settings, queue, catalog.prepare, prepare_now, tell, _console_key(self._secret), gpus)
        self.wishes = EndpointWishes(self.keeping, prepare, self._resolve)

    async def ask(self, path: str, body: Mapping[str, Any]) -> Asked:
        """A request to the gateway, as a client makes it. Raises ConflictError, EngineUnavailableError."""
        if not self.keeping.gateway.alive():
            raise ConflictError(
                self.keeping.gateway.problem or "the gateway does not run: no endpoint needs it",
                "see `llmops-tui endpoints gateway`" if self.keeping.gateway.problem else "start one: `llmops-tui endpoints start MODEL`",
            )
        return await ask_gateway(reach_host(self._settings.host), self._settings.port, path, body, self._secret)

    def gateway_info(self) -> GatewayInfo:
        """The process, from memory."""
        gateway = self.keeping.gateway
        status, alive = gateway.status, gateway.alive()
        state = "running" if alive and status else "starting" if alive else "failed" if gateway.problem else "off"
        return GatewayInfo(
            state=state,
            problem=gateway.problem,
            pid=_whole(status, "pid"),
            url=gateway_url(self._settings),
            auth="keys" if self._settings.needs_keys else "none",
            revision=gateway.revision,
            uptime_seconds=float(uptime) if isinstance(uptime := status.get("uptime_seconds"), int | float) else None,
            rss_bytes=_whole(status, "rss_bytes"),
            connections=_whole(status, "connections"),
            in_flight=_whole(status, "in_flight"),
            requests_total=_whole(status, "requests_total"),
            warnings=list(self.keeping.book.problems),
        )

    async def _resolve(self, uid: int, model: str, cwd: Path) -> str:
        """A finished run's id stands for the newest model it made; a path is made absolute. Raises ConflictError."""
        run = next((run for run in self._queue.runs() if run.id == model), None)
        if run is not None:
            models = await asyncio.to_thread(self._catalog.list_models, uid)
            made = [found for found in models if found["run"] == model and found["version"] is not None]
            if not made:
                raise ConflictError(
                    f"{model} has made no model: {run.state}",
                    "name a model: `llmops-tui models list`",
                    [{"field": "model", "message": "made none"}],
                )
            newest = max(made, key=lambda found: found["created_at"] or 0.0)
            return f"{newest['name']}@v{newest['version']}"
        account = account_of(uid)
        home = account.home if account else os.path.expanduser("~")
        path = Path(home, model[2:]) if model.startswith("~/") else Path(model)
        # Another user's directories are not looked into here: what is no path by its looks is found by that user's own preflight.
        there = account is None and os.sep in model and (cwd / path).exists()
        if model.startswith((".", os.sep, "~/")) or there or model.endswith(".gguf"):
            return os.path.abspath(cwd / path)
        return model


def _console_key(secret: str) -> KeyRecord:
    return KeyRecord(
        id=_CONSOLE_KEY, name=_CONSOLE_KEY, sha256=digest(secret), created=0.0, owner="", uid=os.geteuid(), endpoints=["*"],
        requests_per_minute=0.0, tokens_per_minute=0.0, tokens_per_day=0, concurrent=0, revoked=False,
    )  # fmt: skip


def _whole(values: Mapping[str, Any], name: str) -> int | None:
    value = values.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
