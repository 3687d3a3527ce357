"""The gateway: takes each request from a client's connection to where it is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from llmops_tui.engine.serving.gateway import pages
from llmops_tui.engine.serving.gateway.answer import Answer
from llmops_tui.engine.serving.gateway.body import CHAT, COMPLETION, EMBEDDING, Body
from llmops_tui.engine.serving.gateway.client import Client
from llmops_tui.engine.serving.gateway.config import GatewayConfig, Limits
from llmops_tui.engine.serving.gateway.core import Core
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.exchange import Exchange
from llmops_tui.engine.serving.gateway.http_request import Bodies, Request
from llmops_tui.engine.serving.gateway.keys import Key
from llmops_tui.engine.serving.gateway.mirror import mirror
from llmops_tui.engine.serving.gateway.pages_of_browsers import check_page
from llmops_tui.engine.serving.gateway.record import Record
from llmops_tui.engine.serving.gateway.redaction import Redaction

_COMPLETIONS = {CHAT: "/v1/chat/completions", COMPLETION: "/v1/completions", EMBEDDING: "/v1/embeddings"}
# It stands in the request's line, and a client may send a name of megabytes.
_LONGEST_SESSION = 256


class Gateway:
    """One front of all endpoints. `directory` is HOME/serving/gateway."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        self.core = Core(loop, directory)
        self.clients: set[Client] = set()
        self.bodies = Bodies()
        self.draining = False
        self._open = True  # no key is asked for
        self.began = monotonic()
        self.applied: list[Callable[[], None]] = []  # called after each change of the configuration

    @property
    def limits(self) -> Limits:
        return self.core.limits

    def connect(self) -> Client:
        """The protocol of a new connection."""
        return Client(self)

    def apply(self, config: GatewayConfig) -> None:
        """Change to this configuration: from here on for new requests; what is under way goes on as it began."""
        core = self.core
        core.config = config
        core.limits = config.limits
        core.redaction = Redaction(config.redactors)
        self._open = config.auth == "none"
        core.routes.take(config, core.loop)
        core.keys.take(config.keys, monotonic())
        core.remembers = any(rule.endpoints is not None for rule in config.keys)
        for endpoint in core.routes.endpoints.values():
            if endpoint.waiting:
                core.wake(endpoint)
        for listener in self.applied:
            listener()

    def serve(self, client: Client, request: Request) -> None:
        """Answer a request, now or later."""
        path = request.target.partition(b"?")[0]
        if request.error is not None:
            self._refuse(client, request, path, request.error)
            return
        if self._open:
            try:
                check_page(request.host, request.origin, self.core.config.host)
            except GatewayError as error:
                self._refuse(client, request, path, error)
                return
        if path in _COMPLETIONS:
            self._complete(client, request, path)
            return
        page = pages.page_at(path)
        try:
            if page is None:
                raise GatewayError(404, f"there is nothing at {path[:200].decode('latin-1')}", "not_found")
            method, answer = page
            if request.method not in method:
                raise GatewayError(
                    405, f"{path.decode('latin-1')} wants {b' or '.join(method).decode()}", "method_not_allowed", allow=b", ".join(method)
                )
            answer(self.core, client, request, self._key(client, request) if path != b"/health" else None)
        except GatewayError as error:
            self._refuse(client, request, path, error)

    def _complete(self, client: Client, request: Request, path: bytes) -> None:
        core = self.core
        record = Record(core.new_id(), _COMPLETIONS[path], time.time())
        key: Key | None = None
        try:
            if request.method != b"POST":
                raise GatewayError(405, f"{record.path} wants POST", "method_not_allowed", allow=b"POST")
            key = self._key(client, request)
            if key is not None:
                record.key = key.rule.id
            body = Body(path, request.body)
            target = core.routes.names.get(body.model)
            if target is None:
                raise GatewayError(404, f"there is no model called {body.model[:200]!r}", "model_not_found", "model")
            record.session = (request.session.decode("latin-1") or body.user)[:_LONGEST_SESSION]
            if key is not None:
                record.endpoint = target.endpoint.name
                key.admit(target.endpoint.name, monotonic())
        except GatewayError as error:
            self._refuse(client, request, path, error, record)
            return
        if core.remembers:
            core.remember(record.id, target.endpoint.name)
        exchange = Exchange(core, client, body, target.endpoint, target.version, key, record, request.began)
        client.exchange = exchange
        exchange.start()
        if target.endpoint.rule.mirror:
            mirror(core, body, target.endpoint, record, exchange.version_name)

    def _key(self, client: Client, request: Request) -> Key | None:
        """Who asks. Raises GatewayError 401 where a key is wanted and this is none."""
        authorization, keys = request.authorization, self.core.keys
        if authorization and client.authorization == authorization and client.keys is keys.table:
            return client.key
        key = keys.find(authorization) if authorization else None
        if key is None and self.core.config.auth == "keys":
            if not request.authorization:
                raise GatewayError(401, "this gateway wants a key: Authorization: Bearer KEY", "missing_api_key")
            raise GatewayError(401, "this key is not known here", "invalid_api_key")
        client.authorization, client.keys, client.key = authorization, keys.table, key
        return key

    def _refuse(self, client: Client, request: Request, path: bytes, error: GatewayError, record: Record | None = None) -> None:
        """An error that no upstream had a part in: recorded as every other request is."""
        core = self.core
        if record is None:
            record = Record(core.new_id(), path[:200].decode("latin-1"), time.time())
        record.status = error.status
        record.error = error.message
        now = monotonic()
        record.total_seconds = now - request.began
        core.record(record, Answer(), None, None, request.began, now)
        core.write_records()
        client.refuse(error, f"x-request-id: {record.id}\r\n".encode())
