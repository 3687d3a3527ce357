"""Whether replicas live and work: GET /health each second, and a real completion of one token whenever none succeeded lately.

A process that is stopped accepts connections and says nothing: two probes in a row without an answer within two seconds each, sent a second
apart, find it in at most four. Any byte that a replica sends counts as a sign of life, so that a busy machine kills no healthy stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from time import monotonic
from typing import Any

import orjson

from llmops_tui.engine.serving.gateway.core import Core
from llmops_tui.engine.serving.gateway.replica import Replica

PROBE_SECONDS = 2.0
COMPLETION_EVERY = 10.0
_COMPLETION_SECONDS = 10.0
_MISSES = 2
_log = logging.getLogger("gateway")

# What a server is asked for one token with; the next way is tried when it says that it does not do this one.
_WAYS: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (b"/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}),
    (b"/v1/completions", {"prompt": "Hi", "max_tokens": 1}),
    (b"/v1/embeddings", {"input": "Hi"}),
)


class HealthWatch:
    """Probes every ready replica; `tick` is called once a second."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: set[asyncio.Task[None]] = set()
        self._way: dict[str, int] = {}
        self._mute: set[str] = set()  # replicas whose /health hangs while completions come back: its silence says nothing of them

    def tick(self) -> None:
        for replica in self._core.routes.replicas.values():
            if replica.rule.state != "ready":
                continue
            self._spawn(self._probe(replica))
            now = monotonic()
            waited = now - max(replica.ok_at, replica.completion_at)
            if replica.outstanding == 0 and waited >= (COMPLETION_EVERY if replica.healthy else PROBE_SECONDS):
                replica.completion_at = now
                self._spawn(self._complete(replica))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Any) -> None:
        task = self._core.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self, replica: Replica) -> None:
        asked = monotonic()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                status, _ = await _ask(replica, b"GET", b"/health", b"")
        except (OSError, TimeoutError, ValueError, EOFError) as error:
            if replica.heard_at > asked:
                return
            if isinstance(error, TimeoutError) and replica.id in self._mute:
                return
            replica.misses += 1
            cause = "it does not answer" if isinstance(error, TimeoutError) else f"it cannot be reached: {error or 'the connection closed'}"
            if replica.misses >= _MISSES and replica.healthy:
                self._down(replica, cause)
            return
        replica.misses = 0
        self._mute.discard(replica.id)
        if status >= 500 and replica.healthy and replica.outstanding == 0 and not replica.heard_at > asked:
            replica.cause = f"its /health answers {status}"

    async def _complete(self, replica: Replica) -> None:
        """Ask for one token; its answer is the only thing that makes a replica healthy again."""
        way = self._way.get(replica.id, 0)
        path, fields = _WAYS[way]
        body = orjson.dumps({"model": replica.rule.model, **fields})
        try:
            async with asyncio.timeout(_COMPLETION_SECONDS):
                status, _ = await _ask(replica, b"POST", path, body)
        except (OSError, TimeoutError, ValueError, EOFError) as error:
            self._no_token(replica, f"a completion of one token did not come back: {str(error) or 'timed out'}")
            return
        if 200 <= status < 300:
            replica.succeeded(time.time(), monotonic())
            if replica.misses >= _MISSES:
                self._mute.add(replica.id)
            replica.misses = 0
            if not replica.healthy:
                replica.healthy = True
                replica.cause = ""
                _log.info("%s is healthy again", replica.id)
                for endpoint in self._core.routes.endpoints.values():
                    if endpoint.waiting:
                        self._core.wake(endpoint)
        elif status in (400, 404, 405, 422, 501) and way + 1 < len(_WAYS):
            self._way[replica.id] = way + 1
            replica.completion_at = 0.0
        elif status == 429:
            return  # it is busy, which is no illness
        else:
            self._no_token(replica, f"a completion of one token was answered with {status}")

    def _no_token(self, replica: Replica, cause: str) -> None:
        if replica.outstanding:
            return  # what is under way now tells more than a probe that had to wait its turn
        replica.failed(cause)
        replica.completion_at = monotonic() - COMPLETION_EVERY + PROBE_SECONDS
        if replica.breaker.failures >= _MISSES and replica.healthy:
            self._down(replica, cause)

    def _down(self, replica: Replica, cause: str) -> None:
        replica.healthy = False
        replica.cause = cause
        replica.failures += 1
        _log.warning("%s is unhealthy: %s", replica.id, cause)
        replica.pool.fail_all(f"{replica.id} failed: {cause}")


async def _ask(replica: Replica, method: bytes, path: bytes, body: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body. Raises OSError, EOFError or ValueError."""
    reader, writer = await asyncio.open_connection(replica.rule.host, replica.rule.port)
    try:
        head = b"%b %b HTTP/1.1\r\n%bConnection: close\r\nContent-Length: %d\r\n\r\n" % (method, path, replica.request_head, len(body))
        writer.write(head + body)
        line = await reader.readline()
        parts = line.split(None, 2)
        if not line:
            raise EOFError("it closed the connection without an answer")
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
            raise ValueError("it does not speak HTTP")
        return int(parts[1]), await reader.read(1 << 16)
    finally:
        writer.transport.abort()
