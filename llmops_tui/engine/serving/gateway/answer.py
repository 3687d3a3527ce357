"""What an upstream's answer turned out to be: its finish, its usage, its times and the hash of its text."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.sse import EventStream

_LARGEST = 32 << 20
_MOST_TOKENS = 1 << 53


class Answer:
    """One attempt's answer as it comes in: pieces of JSON, or a stream of events."""

    __slots__ = (
        "cached_tokens",
        "completion_tokens",
        "estimated",
        "finish",
        "parts",
        "prompt_tokens",
        "response_hash",
        "size",
        "status",
        "stream",
        "text",
    )

    def __init__(self) -> None:
        self.status = 0
        self.stream: EventStream | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.finish = ""
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.estimated = False  # the tokens are not of the server's usage, which never came
        self.response_hash = ""
        self.text = ""

    def add(self, data: bytes) -> None:
        """One more piece of JSON. Raises GatewayError 502 when it grows beyond all measure."""
        self.size += len(data)
        if self.size > _LARGEST:
            raise GatewayError(502, f"the model's server sent more than {_LARGEST >> 20} MiB", "upstream_nonsense")
        self.parts.append(data)

    def raw(self) -> bytes:
        parts = self.parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_json(self, raw: bytes, keep_text: bool) -> dict[str, Any]:
        """Read a whole answer of status 200. Raises GatewayError 502 for what no client could use."""
        try:
            fields: Any = orjson.loads(raw)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise GatewayError(502, "the model's server answered 200 with what is not a JSON object", "upstream_nonsense")
        choices = fields.get("choices")
        text = ""
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    finish = choice.get("finish_reason")
                    if isinstance(finish, str):
                        self.finish = finish
                    text += _text_of(choice)
            self.response_hash = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            if keep_text:
                self.text = text
        elif "data" not in fields and "embedding" not in fields:
            raise GatewayError(502, "the model's server answered 200 without choices or data", "upstream_nonsense")
        self._take_usage(fields.get("usage"))
        return fields

    def read_stream(self) -> None:
        """Take over what the stream told, once it is at its end or given up."""
        stream = self.stream
        if stream is None:
            return
        self.finish = stream.finish
        self._take_usage(stream.usage)
        if stream.chunks:
            self.response_hash = stream.response_hash()
        if stream.text is not None:
            self.text = b"".join(stream.text).decode("utf-8", "replace")

    @property
    def counted(self) -> bool:
        """The server has said how many tokens it were."""
        return self.prompt_tokens is not None or self.completion_tokens is not None

    def estimate(self, prompt_tokens: int) -> None:
        """Of an answer cut off before its usage came: the prompt's length and the pieces that were sent, so that the work is not free."""
        if not self.counted and prompt_tokens:
            self.prompt_tokens = prompt_tokens
            self.completion_tokens = self.stream.chunks if self.stream is not None else 0
            self.estimated = True

    def tokens_used(self) -> int:
        """For limits."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)

    def _take_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        self.prompt_tokens = _count(usage.get("prompt_tokens"))
        self.completion_tokens = _count(usage.get("completion_tokens"))
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_tokens = _count(details.get("cached_tokens"))


def _text_of(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    source = message if isinstance(message, dict) else choice
    parts = [text for name in ("reasoning_content", "content", "text") if isinstance(text := source.get(name), str)]
    calls = source.get("tool_calls")
    if isinstance(calls, list) and calls:
        parts.append(orjson.dumps(calls).decode())
    return "".join(parts)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None
