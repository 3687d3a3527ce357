"""The line that is kept of a request."""

from __future__ import annotations

import orjson


class Record:
    """What is known of one request at its end. Durations in seconds; below 0 where there is none. `good`: it kept to its SLO."""

    __slots__ = (
        "attempts", "cached_tokens", "client_gone", "completion_tokens", "cost", "endpoint", "error", "estimated", "fallback_from",
        "finish", "first_seconds", "gap_mean", "gap_most", "good", "id", "key", "mirror", "path", "prompt_hash", "prompt_tokens",
        "provider", "queue_seconds", "replica", "response_hash", "session", "status", "stream", "t", "total_seconds", "version",
    )  # fmt: skip

    def __init__(self, request_id: str, path: str, t: float) -> None:
        self.id = request_id
        self.path = path
        self.t = t
        self.endpoint = ""
        self.version = ""
        self.replica = ""
        self.provider = ""
        self.key = ""
        self.session = ""
        self.stream = False
        self.status = 0
        self.finish = ""
        self.error = ""
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.estimated = False  # the answer was cut off before the server's usage came: its tokens are an estimate
        self.queue_seconds = -1.0
        self.first_seconds = -1.0
        self.gap_mean = -1.0
        self.gap_most = -1.0
        self.total_seconds = 0.0
        self.attempts = 0
        self.fallback_from = ""
        self.mirror = False
        self.prompt_hash = ""
        self.response_hash = ""
        self.cost: float | None = None
        self.client_gone = False
        self.good = False

    def line(self) -> bytes:
        queue, first = self.queue_seconds, self.first_seconds
        return orjson.dumps(
            {
                "type": "request",
                "t": self.t,
                "id": self.id,
                "endpoint": self.endpoint,
                "version": self.version,
                "replica": self.replica,
                "provider": self.provider,
                "key": self.key,
                "session": self.session,
                "path": self.path,
                "stream": self.stream,
                "status": self.status,
                "finish": self.finish,
                "error": self.error,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "cached_tokens": self.cached_tokens,
                "estimated": self.estimated,
                "queue_ms": int(queue * 1e6) / 1000 if queue >= 0 else None,
                "ttft_ms": int(first * 1e6) / 1000 if first >= 0 else None,
                "itl_ms": int(self.gap_mean * 1e6) / 1000 if self.gap_mean >= 0 else None,
                "itl_max_ms": int(self.gap_most * 1e6) / 1000 if self.gap_most >= 0 else None,
                "total_ms": int(self.total_seconds * 1e6) / 1000,
                "attempts": self.attempts,
                "fallback_from": self.fallback_from,
                "mirror": self.mirror,
                "prompt_hash": self.prompt_hash,
                "response_hash": self.response_hash,
                "cost": self.cost,
                "client_gone": self.client_gone,
                "good": self.good,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
