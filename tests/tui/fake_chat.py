"""Answers of the fake endpoints: real-looking chunks, at once or when the test lets them come, whole or broken off."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

ANSWER = """To reset it:

1. Open **Settings**, then *Security*.
2. Follow the link we send you.

```sh
curl -X POST https://example.org/reset
```

It is good for `30` minutes."""


class FakeChatStream:
    """Like `client_serving.ChatStream`."""

    def __init__(self, request_id: str, version: str, chunks: list[dict[str, Any]], gate: threading.Event) -> None:
        self.request_id, self.version, self.replica = request_id, version, f"serve-{version}"
        self._chunks, self._gate = chunks, gate
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, chunk in enumerate(self._chunks):
            while number and not self._gate.wait(0.01):
                if self.closed:
                    return
            if self.closed:
                return
            yield chunk

    def close(self) -> None:
        self._closed.set()


class FakeChat:
    """`bodies` are the requests; `breaks` ends each answer without an end; after `gate.clear()` only first pieces come."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.streams: list[FakeChatStream] = []
        self._lock = threading.Lock()
        self.says = ANSWER
        self.breaks = ""
        self.gate = threading.Event()
        self.gate.set()

    def stream(self, name: str, body: Mapping[str, Any], routed: str) -> FakeChatStream:
        version = str(body.get("version") or routed)
        with self._lock:  # two versions are asked at once: each counts its own
            number = sum(stream.version == version for stream in self.streams) + 1
            made = FakeChatStream(f"req_{version}_{number:04d}", version, self._chunks(), self.gate)
            self.bodies.append((name, dict(body)))
            self.streams.append(made)
        return made

    def _chunks(self) -> list[dict[str, Any]]:
        pieces = [f"{word} " for word in self.says.split(" ")]
        chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
        if self.breaks == "error":
            chunks = [*chunks[:3], {"error": {"message": "the server of v3 ended: killed for memory", "type": "upstream_error"}}]
        elif self.breaks:
            chunks = chunks[:3]
        else:
            usage = {"prompt_tokens": 31, "completion_tokens": len(pieces), "prompt_tokens_details": {"cached_tokens": 24}}
            chunks += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
        return chunks
