"""Shadow traffic: the same request to another version, whose answer nobody gets and whose figures are kept."""

from __future__ import annotations

import time
from time import monotonic

from llmops_tui.engine.serving.gateway.body import Body
from llmops_tui.engine.serving.gateway.core import Core
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.exchange import Exchange
from llmops_tui.engine.serving.gateway.record import Record
from llmops_tui.engine.serving.gateway.routes import Endpoint

_MOST_AT_ONCE = 64


class _Nobody:
    """Takes an answer and throws it away."""

    full = False

    def answer(self, status: int, body: bytes, extra: bytes = b"") -> None: ...
    def refuse(self, error: GatewayError, extra: bytes = b"") -> None: ...
    def begin_events(self, extra: bytes) -> bytes:
        return b""

    def send_events(self, data: bytes, head: bytes = b"") -> None: ...
    def end_events(self, data: bytes, head: bytes = b"") -> None: ...
    def break_off(self, status: int, message: str, code: str) -> None: ...


def mirror(core: Core, body: Body, endpoint: Endpoint, original: Record, answering: str) -> None:
    """Send a request on to the versions that mirror this endpoint, each with its fraction; not to the one that is `answering` it.

    Where a version already has as many as it may, the request is not mirrored: shadow traffic must not pile up.
    """
    for rule in endpoint.rule.mirror:
        version = endpoint.version(rule.version)
        if version is None or version.in_flight >= _MOST_AT_ONCE or core.random() >= rule.fraction:
            continue
        if version.name == answering:
            continue
        record = Record(core.new_id(), original.path, time.time())
        record.mirror = True
        record.session = original.session
        shadow = Exchange(core, _Nobody(), body, endpoint, version, None, record, monotonic(), shadow=True)
        core.loop.call_soon(shadow.start)
