"""One request on its way: to a replica, to another one when that fails before it said anything, back to the client, into the record.

Whatever happens, `_finish` is called once, and the record is written there: before the last byte of the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from time import monotonic
from typing import Protocol

import orjson

from llmops_tui.engine.serving.gateway.answer import Answer
from llmops_tui.engine.serving.gateway.body import Body
from llmops_tui.engine.serving.gateway.choosing import choose
from llmops_tui.engine.serving.gateway.core import Core
from llmops_tui.engine.serving.gateway.errors import GatewayError, upstream_error
from llmops_tui.engine.serving.gateway.keys import Key
from llmops_tui.engine.serving.gateway.providers.provider import Provider
from llmops_tui.engine.serving.gateway.record import Record
from llmops_tui.engine.serving.gateway.redaction import TooSlowError
from llmops_tui.engine.serving.gateway.replica import Replica
from llmops_tui.engine.serving.gateway.routes import Endpoint, Version
from llmops_tui.engine.serving.gateway.sse import DONE_EVENT, EventStream
from llmops_tui.engine.serving.gateway.upstream import Answering, Upstream

_NEVER = float("inf")
_LONGEST_ERROR = 500
_log = logging.getLogger("gateway")
# The server did not begin the work: another one may. 500 is not here: the same request would probably meet the same end.
_BUSY = frozenset((429, 502, 503))


class Asker(Protocol):
    """Who gets the answer: a client's connection, or nobody (a mirrored request)."""

    full: bool

    def answer(self, status: int, body: bytes, extra: bytes = b"") -> None: ...
    def refuse(self, error: GatewayError, extra: bytes = b"") -> None: ...
    def begin_events(self, extra: bytes) -> bytes: ...
    def send_events(self, data: bytes, head: bytes = b"") -> None: ...
    def end_events(self, data: bytes, head: bytes = b"") -> None: ...
    def break_off(self, status: int, message: str, code: str) -> None: ...


class Exchange:
    """Times are of the monotonic clock; `began` is when the request's first byte came."""

    __slots__ = (
        "_answer", "_asker", "_attempts_here", "_core", "_deadline", "_error", "_fallbacks", "_headed", "_keep_text", "_key", "_mark",
        "_new_connection", "_over", "_payload", "_payload_for", "_pinned", "_replica", "_sent_at", "_shadow", "_task", "_tried",
        "_upstream", "_version", "began", "body", "endpoint", "record",
    )  # fmt: skip

    def __init__(
        self,
        core: Core,
        asker: Asker,
        body: Body,
        endpoint: Endpoint,
        pinned: Version | None,
        key: Key | None,
        record: Record,
        began: float,
        shadow: bool = False,
    ) -> None:
        """`shadow`: nobody waits for the answer, so that nothing is done to have one after all."""
        rule = endpoint.rule
        self._core = core
        self._asker = asker
        self.body = body
        self.endpoint = endpoint
        self.record = record
        self.began = began
        self._pinned = pinned
        self._key = key
        self._shadow = shadow
        self._fallbacks = () if shadow else rule.fallbacks
        self._mark = b""
        if rule.sticky != "none":
            self._mark = (record.key if rule.sticky == "key" else record.session).encode("utf-8", "surrogateescape")
        self._keep_text = rule.text_fraction > 0 and not shadow and core.random() < rule.text_fraction
        self._answer = Answer()
        self._attempts_here = 0
        self._deadline = _NEVER
        self._error: GatewayError | None = None
        self._headed = False
        self._new_connection = False
        self._over = False
        self._payload = b""
        self._payload_for: tuple[str, int | None] = "", None
        self._replica: Replica | None = None
        self._sent_at = -1.0
        self._task: asyncio.Task[None] | None = None
        self._tried: tuple[Replica, ...] = ()
        self._upstream: Upstream | None = None
        self._version: Version | None = None
        record.endpoint = endpoint.name
        record.stream = body.stream
        record.prompt_hash = body.prompt_hash

    @property
    def version_name(self) -> str:
        """The version that the request is at; empty while it waits for one."""
        return self._version.name if self._version is not None else ""

    # To a replica

    def start(self) -> None:
        core = self._core
        core.active.add(self)
        self._route(monotonic())

    def woken(self) -> None:
        """A replica may have become ready."""
        if self._over or self._replica is not None:
            return
        self._route(monotonic())

    def forsaken(self) -> None:
        """Its endpoint was stopped while it waited there: no server will come."""
        if self._over or self._replica is not None:
            return
        self._deadline = _NEVER
        name = self.endpoint.name
        self._next_endpoint(GatewayError(404, f"{name} was stopped while the request waited for its server", "model_not_found", "model"))

    def _route(self, now: float) -> None:
        core, endpoint = self._core, self.endpoint
        endpoint.last_used = unix_now = time.time()
        chosen = choose(endpoint, self._pinned, self._mark, self.body.prompt_prefix, self._tried, now, core.random)
        if chosen is not None:
            if endpoint.waiting:
                self._wait_no_more()
            self._send_to(*chosen, now, unix_now)
        elif endpoint.rule.on_demand and not self._tried and not self._shadow:
            if self not in endpoint.waiting:
                endpoint.waiting.add(self)
                endpoint.wanted_since = endpoint.wanted_since or unix_now
                self._deadline = now + endpoint.rule.on_demand_seconds
        else:
            self._next_endpoint(self._error or _nobody(endpoint))

    def _send_to(self, version: Version, replica: Replica, now: float, unix_now: float) -> None:
        self._attempts_here += 1
        self.record.attempts += 1
        self._version = version
        self._replica = replica
        version.in_flight += 1
        replica.took(self.body.estimated_tokens, unix_now)
        self._deadline = _NEVER
        if self.record.attempts > 1:
            self._answer = Answer()
        upstream = None if self._new_connection else replica.pool.take(now)
        if upstream is not None:
            self._send(upstream, version, replica, now)
        else:
            self._task = self._core.loop.create_task(self._connect(version, replica))

    async def _connect(self, version: Version, replica: Replica) -> None:
        try:
            upstream = await replica.pool.connect()
        except (OSError, TimeoutError) as error:
            self._task = None
            if not self._over and self._replica is replica:
                self._failed(f"no connection to {replica.id}: {str(error) or 'timed out'}", retry=True)
            return
        self._task = None
        if self._over or self._replica is not replica:
            replica.pool.put(upstream, keep=True, now=monotonic())
            return
        try:
            self._send(upstream, version, replica, monotonic())
        except Exception as error:  # noqa: BLE001 - in a task nobody would hear of it, and the client would wait
            _log.exception("a request could not be sent")
            self._abort_upstream()
            self._broken(GatewayError(500, f"the gateway failed: {type(error).__name__}", "internal_error"), blame=False)

    def _send(self, upstream: Upstream, version: Version, replica: Replica, now: float) -> None:
        target = self.body.kind
        handler: Answering = self
        try:
            if isinstance(replica, Provider):
                target, payload = replica.ask(self.body)
                handler = replica.listener(self, self.body)
            else:
                payload = self._payload_for_replica(version, replica)
        except GatewayError as error:  # this upstream cannot be asked that; another one may
            replica.pool.put(upstream, keep=True, now=now)
            replica.breaker.abandoned()
            self._move_on(error, retry=False)
            return
        self._upstream = upstream
        if self._sent_at < 0:
            self._sent_at = now
        self._deadline = now + self._core.limits.first_byte_seconds
        upstream.send(
            handler,
            b"".join(
                (
                    b"POST ",
                    target,
                    b" HTTP/1.1\r\n",
                    replica.request_head,
                    b"X-Request-Id: %b\r\nContent-Length: %d\r\n\r\n" % (self.record.id.encode(), len(payload)),
                    payload,
                )
            ),
        )
        if self._asker.full:
            upstream.pause()

    def _payload_for_replica(self, version: Version, replica: Replica) -> bytes:
        model = replica.model_for(version.rule.adapter) or self.body.model
        lora = replica.lora_for(version.rule.adapter) if version.rule.adapter else None
        if not self._payload or (model, lora) != self._payload_for:
            self._payload = self.body.for_upstream(model, lora)
            self._payload_for = model, lora
        return self._payload

    # The answer

    def on_head(self, status: int, content_type: bytes) -> None:
        answer, replica = self._answer, self._replica
        if replica is None:
            return
        answer.status = status
        streamed = content_type[:17].lower() == b"text/event-stream"
        if status == 200 and streamed is not self.body.stream:
            self._abort_upstream()
            kind = replica.scrubbed(content_type)[:60].decode("latin-1") or "no content type"
            wanted = "a stream of events" if self.body.stream else "one JSON object"
            self._broken(GatewayError(502, f"the model's server answered with {kind}, not {wanted}", "upstream_nonsense"))
            return
        if status == 200 and streamed:
            answer.stream = EventStream(strip_usage=self.body.stream and not self.body.usage_asked, keep_text=self._keep_text)
        self._deadline = replica.pool.heard_at + self._core.limits.stall_seconds

    def on_payload(self, data: bytes, pieces: Sequence[bytes] = ()) -> None:
        stream, replica = self._answer.stream, self._replica
        if replica is None:
            return
        now = replica.pool.heard_at
        self._deadline = now + self._core.limits.stall_seconds
        try:
            if stream is None:
                self._answer.add(data)
                return
            data = stream.take(data, now, pieces)
        except GatewayError as error:
            self.spoiled(error)
            return
        if stream.new_chunks:
            assert self._version is not None
            meters = self._version.mirrored if self._shadow else self._version.meters
            meters.gap(now, stream.new_gap, stream.new_chunks - 1)
        if stream.error is not None:
            if not self._headed:
                self._abort_upstream()
                self._rejected(500, orjson.dumps({"error": stream.error}))
                return
            data = replica.scrubbed(data)
        if stream.done:
            self._complete_stream(data)
        elif data:
            if self._headed:
                self._asker.send_events(data)
            else:
                self._headed = True
                self._asker.send_events(data, self._asker.begin_events(self._marks()))

    def on_end(self) -> None:
        self._upstream = None
        if self._over:
            return
        answer = self._answer
        stream = answer.stream
        if stream is not None:
            if stream.finish or stream.error:
                self._complete_stream(DONE_EVENT)
            else:
                self._broken(GatewayError(502, "the model's server ended its stream before the answer was complete", "upstream_closed"))
            return
        raw = answer.raw()
        if not 200 <= answer.status < 300:
            self._rejected(answer.status, raw)
            return
        try:
            answer.read_json(raw, self._keep_text)
        except GatewayError as error:
            self._broken(error)
            return
        self._finish(answer.status, "")
        self._core.after_records(self._asker.answer, answer.status, raw, self._marks())

    def spoiled(self, error: GatewayError) -> None:
        """Nothing more can be made of this answer."""
        self._abort_upstream()
        self._broken(error)

    def on_failure(self, cause: str, stale: bool, touched: bool) -> None:
        self._upstream = None
        if self._headed or touched:
            self._broken(GatewayError(502, cause, "upstream_closed"))
        elif stale and not self._new_connection:
            version, replica = self._version, self._replica
            assert version is not None
            assert replica is not None
            self._new_connection = True
            self.record.attempts += 1
            self._task = self._core.loop.create_task(self._connect(version, replica))
        else:
            self._failed(cause, retry=True)

    def _complete_stream(self, data: bytes) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.let_go()
        error = self._answer.stream.error if self._answer.stream is not None else None
        message = "" if error is None else str(error.get("message", "error"))
        if message and self._replica is not None:
            message = self._replica.scrubbed_text(message)
        self._finish(200 if error is None else 502, message[:300])
        self._core.write_records()  # at once: a burst of events that waits costs more than a write
        head = b"" if self._headed else self._asker.begin_events(self._marks())
        self._asker.end_events(data, head)

    def _marks(self) -> bytes:
        """The header lines that tell who answered."""
        version = self._version.name if self._version is not None else ""
        replica = self._replica.id if self._replica is not None else self.record.replica
        return f"x-request-id: {self.record.id}\r\nx-llmops-version: {version}\r\nx-llmops-replica: {replica}\r\n".encode()

    # What can go wrong

    def _rejected(self, status: int, raw: bytes) -> None:
        """The upstream answered with an error: another one may take it when that one was busy, else the client gets to read it."""
        replica = self._replica
        assert replica is not None
        body, message, code = upstream_error(status, replica.scrubbed(raw))
        if replica.provider:  # again: what it wrote with escapes is plain now
            body, message, code = replica.scrubbed(body), replica.scrubbed_text(message), replica.scrubbed_text(code)
        if status >= 500:
            told = status if status in (500, 501, 503, 504) else 502
            error = GatewayError(told, message, code, retry_after=1 if told == 503 else 0)
            if status in _BUSY:
                self._failed(message, retry=True, error=error)
            else:
                self._failed(message, retry=False, error=error)
            return
        if status in _BUSY:
            replica.breaker.abandoned()
            self._move_on(GatewayError(status, message, code, retry_after=1), retry=True)
            return
        if replica.provider and status in (401, 403):
            self._failed(
                message, retry=False, error=GatewayError(502, f"{replica.provider} refused its key: {message}", "provider_key_refused")
            )
            return
        if not 400 <= status < 500:
            self._broken(GatewayError(502, f"the model's server answered {status}", "upstream_nonsense"))
            return
        replica.breaker.succeeded()
        self._finish(status, message)
        self._core.after_records(self._asker.answer, status, body, self._marks())

    def _failed(self, cause: str, retry: bool, error: GatewayError | None = None) -> None:
        """The replica failed and said nothing to the client."""
        assert self._replica is not None
        self._replica.failed(cause)
        self._move_on(error or GatewayError(502, cause, "upstream_failed"), retry)

    def _move_on(self, error: GatewayError, retry: bool) -> None:
        replica = self._replica
        assert replica is not None
        self._leave()
        self._tried = (*self._tried, replica)
        self._error = error
        self._new_connection = False
        if retry and self._attempts_here <= self.endpoint.rule.retries and not self._shadow:
            self._route(monotonic())
        else:
            self._next_endpoint(error)

    def _next_endpoint(self, error: GatewayError) -> None:
        """The next fallback, or the error when there is none left."""
        if self._over:
            return
        self._wait_no_more()
        while self._fallbacks:
            name, *left = self._fallbacks
            self._fallbacks = tuple(left)
            endpoint = self._core.routes.endpoints.get(name)
            if endpoint is not None:
                self.record.fallback_from = self.record.fallback_from or self.endpoint.name
                self.endpoint = endpoint
                self.record.endpoint = endpoint.name
                self.record.version = self.record.replica = self.record.provider = ""
                self._version = self._pinned = None
                self._tried = ()
                self._attempts_here = 0
                self._error = error
                self._route(monotonic())
                return
        marks = self._marks()
        self._finish(error.status, error.message)
        self._core.after_records(self._asker.refuse, error, marks)

    def _broken(self, error: GatewayError, blame: bool = True) -> None:
        """An answer that had begun cannot be had whole: the client is told, by status or, where that is out, visibly in the stream.

        `blame`: it is the replica's failure."""
        if self._over:
            return
        if self._replica is not None:
            if blame:
                self._replica.failed(error.message)
            else:
                self._replica.breaker.abandoned()
        marks = self._marks()
        headed = self._headed
        self._finish(error.status, error.message)
        if headed:
            self._core.after_records(self._asker.break_off, error.status, error.message, error.code)
        else:
            self._core.after_records(self._asker.refuse, error, marks)

    def _abort_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    # The client, the clock

    def client_gone(self) -> None:
        """Nobody reads the answer any more: the upstream's work stops."""
        if self._over:
            return
        self._abort_upstream()
        if self._replica is not None:
            self._replica.breaker.abandoned()
        self.record.client_gone = True
        self._finish(499, "the client went away")
        self._core.write_records()

    def client_full(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()
            self._deadline = _NEVER

    def client_ready(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()
            self._deadline = monotonic() + self._core.limits.stall_seconds

    def sweep(self, now: float) -> None:
        """Give up what takes too long; called by the gateway's clock."""
        if self._over:
            return
        limits = self._core.limits
        if now - self.began > limits.request_seconds:
            self._abort_upstream()
            late = GatewayError(504, f"the request took longer than {limits.request_seconds:g} s", "request_timeout")
            self._broken(late, blame=not self._asker.full)  # a client that does not read makes every server late
        elif now > self._deadline:
            self._deadline = _NEVER
            if self._replica is None:
                self._next_endpoint(_nobody(self.endpoint))
                return
            self._abort_upstream()
            if self._answer.status:
                self._broken(GatewayError(504, f"the model's server sent nothing for {limits.stall_seconds:g} s", "upstream_stalled"))
            else:
                cause = f"the model's server sent no answer within {limits.first_byte_seconds:g} s"
                self._failed(cause, retry=False, error=GatewayError(504, cause, "upstream_timeout"))

    # The end

    def _wait_no_more(self) -> None:
        """It has got a replica, or wants none any more: none is started for nobody."""
        endpoint = self.endpoint
        endpoint.waiting.discard(self)
        if not endpoint.waiting:
            endpoint.wanted_since = None

    def _leave(self) -> None:
        """Give the replica's share back."""
        if self._replica is not None:
            self._replica.gave_back(self.body.estimated_tokens)
            self.record.replica = self._replica.id
            self.record.provider = self._replica.provider
            self._replica = None
        if self._version is not None:
            self._version.in_flight -= 1
            self.record.version = self._version.name

    def _finish(self, status: int, error: str) -> None:
        """The end, whatever it is: counted, recorded."""
        if self._over:
            return
        self._over = True
        core, record, answer, replica = self._core, self.record, self._answer, self._replica
        core.active.discard(self)
        now = monotonic()
        if answer.stream is not None:
            answer.read_stream()
        if replica is not None and 200 <= status < 300:
            replica.succeeded(record.t + now - self.began, now)
        if replica is not None:
            self._leave()
        else:
            self._wait_no_more()
        if status == 499 or status < 300 or self._headed:
            answer.estimate(self.body.prompt_tokens if self._sent_at >= 0 else 0)
        if self._key is not None:
            self._key.ended(answer.tokens_used())
        record.status = status
        record.error = error[:_LONGEST_ERROR]
        record.total_seconds = now - self.began
        record.queue_seconds = (self._sent_at if self._sent_at >= 0 else now) - self.began
        core.record(record, answer, self._version, self.endpoint, self.began, now)
        if self._keep_text and status < 400:
            try:
                core.keep_text(record, self.body, answer.text, self.endpoint)
            except TooSlowError:
                pass  # the log says it once, and not of every request
            except Exception:  # noqa: BLE001 - a text that cannot be kept must not keep its answer from the client
                _log.exception("the text of %s could not be kept", record.id)


def _nobody(endpoint: Endpoint) -> GatewayError:
    causes = {replica.cause for version in endpoint.versions for replica in version.replicas if replica.provider and not replica.healthy}
    why = "".join(f": {cause}" for cause in sorted(causes))
    return GatewayError(503, f"no replica of {endpoint.name} is ready{why}", "no_replica", retry_after=2)
