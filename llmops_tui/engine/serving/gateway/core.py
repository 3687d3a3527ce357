"""What every request shares: the configuration, the routes, the keys, the spool and the figures."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from llmops_tui.engine.serving.gateway.answer import Answer
from llmops_tui.engine.serving.gateway.body import CHAT, EMBEDDING, Body
from llmops_tui.engine.serving.gateway.config import GatewayConfig, Limits
from llmops_tui.engine.serving.gateway.keys import Keyring, Unkeyed
from llmops_tui.engine.serving.gateway.record import Record
from llmops_tui.engine.serving.gateway.redaction import Redaction
from llmops_tui.engine.serving.gateway.routes import Endpoint, Routes, Version
from llmops_tui.engine.serving.gateway.spool import Spool

T = TypeVar("T")
_LONGEST_KEPT = 1 << 20
_LONGEST_DATA = 256
_ID_BYTES = 12
_IDS_AT_ONCE = 256
_MOST_REMEMBERED = 32_768
_log = logging.getLogger("gateway")


class Sweeping(Protocol):
    """A request under way."""

    def sweep(self, now: float) -> None: ...


class Core:
    """Shared by all requests of one gateway. Raises OSError when the spool cannot be made."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        self.loop = loop
        self.directory = directory
        self.config = GatewayConfig()
        self.limits: Limits = self.config.limits
        self.routes = Routes()
        self.keys = Keyring()
        self.unkeyed = Unkeyed()
        self.redaction = Redaction()
        self.spool = Spool(directory / "spool", "requests")
        self.texts = Spool(directory / "spool", "texts")
        self.active: set[Sweeping] = set()
        self._lines: list[bytes] = []  # of requests that are over, to be written before their ends are sent
        self._endings: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self.random = random.random
        self.requests_total = 0
        self.refusals: dict[tuple[str, int], int] = {}  # by endpoint, or "" where none was found, and status: what no version answered
        self._ids = _unguessable_ids()
        self.remembers = False  # some key is limited to endpoints, so that it matters later what was asked for
        self._asked: dict[str, str] = {}  # the newest requests' endpoints by their ids
        self._asked_before: dict[str, str] = {}

    def new_id(self) -> str:
        """Known to those who got the answer and to nobody else: whoever knows it may say what the answer was worth."""
        return next(self._ids)

    def remember(self, request_id: str, endpoint: str) -> None:
        """Which endpoint a request asked for; the oldest are forgotten, half of them at a time."""
        if len(self._asked) >= _MOST_REMEMBERED:
            self._asked, self._asked_before = {}, self._asked
        self._asked[request_id] = endpoint

    def endpoint_asked(self, request_id: str) -> str | None:
        """The endpoint that a request asked for; None when it was never remembered or is forgotten."""
        return self._asked.get(request_id) or self._asked_before.get(request_id)

    def record(self, record: Record, answer: Answer, version: Version | None, endpoint: Endpoint | None, began: float, now: float) -> None:
        """Count a request that is over, and keep its line: it is written by `write_records`, or before what `after_records` sends."""
        record.finish = answer.finish
        record.prompt_tokens = answer.prompt_tokens
        record.completion_tokens = answer.completion_tokens
        record.cached_tokens = answer.cached_tokens
        record.estimated = answer.estimated
        record.response_hash = answer.response_hash
        stream = answer.stream
        if stream is not None and stream.chunks:
            record.first_seconds = stream.first - began
            record.gap_most = stream.gap_most
            pieces = answer.completion_tokens or stream.chunks
            if pieces > 1:
                record.gap_mean = (stream.last - stream.first) / (pieces - 1)
        if record.provider:
            self._add_cost(record)
        if endpoint is not None:
            slo = endpoint.rule.slo
            record.good = (
                record.status < 400
                and (not slo.ttft_ms or record.first_seconds * 1000 <= slo.ttft_ms)
                and (not slo.itl_ms or record.gap_mean * 1000 <= slo.itl_ms)
                and (not slo.total_ms or record.total_seconds * 1000 <= slo.total_ms)
            )
        if record.error and (endpoint is None or endpoint.rule.redact):  # servers quote the prompt in what they complain about
            record.error = self.redaction.text_or_mark(record.error)[0]
        self.requests_total += 1
        self._lines.append(record.line())
        if version is None or endpoint is None:
            self.refused(record.endpoint, record.status)
            return
        meters = version.mirrored if record.mirror else version.meters
        meters.cost += record.cost or 0.0
        meters.retries += max(0, record.attempts - 1)
        meters.ended(
            now, record.status, record.queue_seconds, record.first_seconds, record.total_seconds,
            record.prompt_tokens or 0, record.completion_tokens or 0, record.good,
        )  # fmt: skip

    def after_records(self, send: Callable[..., None], *answer: object) -> None:
        """Send the end of an answer once its record is written: with those of the other requests that end in this turn of the loop."""
        if not self._endings:
            self.loop.call_soon(self.send_endings)
        self._endings.append((send, answer))

    def write_records(self) -> None:
        """Write the lines of all requests that are over; only then may anybody hear of their ends."""
        lines, self._lines = self._lines, []
        self.spool.write(*lines)

    def send_endings(self) -> None:
        """What `after_records` was asked to send."""
        self.write_records()
        endings, self._endings = self._endings, []
        for send, answer in endings:
            try:
                send(*answer)
            except Exception:  # noqa: BLE001 - one that fails must not keep the others from their ends
                _log.exception("an answer could not be ended")

    def refused(self, endpoint: str, status: int) -> None:
        self.refusals[endpoint, status] = self.refusals.get((endpoint, status), 0) + 1

    def keep_text(self, record: Record, body: Body, response: str, endpoint: Endpoint) -> None:
        """Keep what was said, with what must not be kept replaced. Raises TooSlowError where that cannot be done: nothing is kept then."""
        asked = body.fields.get("messages" if body.kind == CHAT else "input" if body.kind == EMBEDDING else "prompt")
        asked, response = _bounded(asked), _bounded(response)
        replaced = 0
        if endpoint.rule.redact or self._came_from_redacting(record):
            kept: list[Any]
            kept, replaced = self.redaction.of([asked, response])
            asked, response = kept
        self.texts.write(
            orjson.dumps(
                {
                    "t": record.t,
                    "id": record.id,
                    "endpoint": record.endpoint,
                    "version": record.version,
                    "messages" if body.kind == CHAT else "prompt": asked,
                    "response": response,
                    "redacted": replaced,
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
        )

    def wake(self, endpoint: Endpoint) -> None:
        """Let the requests that wait for a replica of this endpoint look again."""
        for waiter in list(endpoint.waiting):
            waiter.woken()

    def close(self) -> None:
        self.write_records()
        self.spool.close()
        self.texts.close()
        for replica in (*self.routes.replicas.values(), *self.routes.providers.values()):
            replica.pool.close()

    def _add_cost(self, record: Record) -> None:
        rule = self.config.providers.get(record.provider)
        if rule is not None and record.prompt_tokens is not None:
            paid = record.prompt_tokens * rule.input_per_million + (record.completion_tokens or 0) * rule.output_per_million
            record.cost = paid / 1e6

    def _came_from_redacting(self, record: Record) -> bool:
        """A fallback answers for the endpoint that was asked, whose text stays as closed as it was."""
        asked = self.routes.endpoints.get(record.fallback_from)
        return bool(record.fallback_from) and (asked is None or asked.rule.redact)

    def redacted_remark(self, text: str) -> str:
        """What somebody wrote about an answer, which often quotes it; raw only where no endpoint's text is redacted."""
        raw = self.routes.endpoints and not any(endpoint.rule.redact for endpoint in self.routes.endpoints.values())
        return text if raw else self.redaction.text_or_mark(text)[0]


def _unguessable_ids() -> Iterator[str]:
    """Random ones, drawn many at a time: a call of the system for each would cost more than the rest of it."""
    while True:
        drawn = os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
        for at in range(0, len(drawn), 2 * _ID_BYTES):
            yield f"req_{drawn[at : at + 2 * _ID_BYTES]}"


def _bounded(value: T) -> T:
    """Text as it is kept: without the bytes of pictures, and none without end, which would hold everybody up while it is redacted."""
    if isinstance(value, str):
        if value.startswith("data:") and len(value) > _LONGEST_DATA:
            return f"{value.partition(',')[0][:60]},[{len(value)} characters]"  # type: ignore[return-value]
        return value if len(value) <= _LONGEST_KEPT else value[:_LONGEST_KEPT] + "…"  # type: ignore[return-value]
    if isinstance(value, list):
        return [_bounded(item) for item in value]  # type: ignore[return-value]
    if isinstance(value, dict):
        return {name: _bounded(item) for name, item in value.items()}  # type: ignore[return-value]
    return value
