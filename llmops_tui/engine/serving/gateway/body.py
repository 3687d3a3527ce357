"""The body of a completion: what routing needs of it, and what the upstream gets."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from llmops_tui.engine.serving.gateway.errors import GatewayError

CHAT, COMPLETION, EMBEDDING = b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings"
_INPUT = {CHAT: "messages", COMPLETION: "prompt", EMBEDDING: "input"}
_CONTENTS = frozenset((str, list, type(None)))
_BYTES_PER_TOKEN = 4
_EXPECTED_ANSWER = 256
_PREFIX_BYTES = 1024
_NUMBER, _COUNT = frozenset((int, float)), frozenset((int,))  # a bool is neither
_LIMITS: dict[str, tuple[float, float, frozenset[type]]] = {
    "temperature": (0, 100, _NUMBER),
    "top_p": (0, 1, _NUMBER),
    "frequency_penalty": (-100, 100, _NUMBER),
    "presence_penalty": (-100, 100, _NUMBER),
    "max_tokens": (0, 1 << 31, _COUNT),
    "max_completion_tokens": (0, 1 << 31, _COUNT),
    "n": (1, 128, _COUNT),
    "top_logprobs": (0, 1000, _COUNT),
}


class Body:
    """A checked request. `fields` is the client's object; nothing of it is changed until `for_upstream`."""

    __slots__ = (
        "estimated_tokens",
        "fields",
        "kind",
        "model",
        "prompt_hash",
        "prompt_prefix",
        "prompt_tokens",
        "stream",
        "usage_asked",
        "user",
    )

    def __init__(self, path: bytes, raw: bytes) -> None:
        """Raises GatewayError 400 that names what is wrong."""
        try:
            fields: Any = orjson.loads(raw)
        except ValueError as error:
            raise GatewayError(400, f"the body is not JSON: {error}", "invalid_json") from None
        if not isinstance(fields, dict):
            raise GatewayError(400, "the body must be a JSON object", "invalid_json")
        model = fields.get("model")
        if not isinstance(model, str) or not model:
            raise _wrong("model", "must name a model")
        stream = fields.get("stream")
        if stream is not None and stream is not True and stream is not False:
            raise _wrong("stream", "must be true or false")
        asked = fields.get(_INPUT[path])
        if path == CHAT:
            _check_messages(asked)
        elif not isinstance(asked, (str, list)) or asked == []:
            raise _wrong(_INPUT[path], "must be a text or a list that is not empty")
        _check_numbers(fields)
        options = fields.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise _wrong("stream_options", "must be an object")
        user = fields.get("user")
        self.fields: dict[str, Any] = fields
        self.kind = path
        self.model = model
        self.stream = stream is True and path != EMBEDDING
        self.usage_asked = options is not None and options.get("include_usage") is True
        self.user = user if isinstance(user, str) else ""
        try:
            prompt = orjson.dumps(asked)
        except orjson.JSONEncodeError:
            raise GatewayError(400, "the body is nested too deeply", "invalid_json") from None
        self.prompt_prefix = prompt[:_PREFIX_BYTES]
        self.prompt_hash = hashlib.blake2b(prompt, digest_size=16).hexdigest()
        most = fields.get("max_completion_tokens") or fields.get("max_tokens") or _EXPECTED_ANSWER
        self.prompt_tokens = len(prompt) // _BYTES_PER_TOKEN + 1  # until the server's usage tells
        self.estimated_tokens = self.prompt_tokens + (0 if path == EMBEDDING else min(most, 1 << 16))

    def for_upstream(self, model: str, lora: int | None = None) -> bytes:
        """The body with the model's name there. A stream is always asked for its usage: tokens are counted by it, never by chunks.

        `lora`: llama.cpp's number of the adapter that is applied; it knows none by name.
        """
        fields = self.fields if lora is None else {**self.fields, "lora": [{"id": lora, "scale": 1.0}]}
        if self.stream and not self.usage_asked:
            options = fields.get("stream_options")
            fields = {
                **fields,
                "model": model,
                "stream_options": {**options, "include_usage": True} if options else {"include_usage": True},
            }
        elif fields["model"] != model:
            fields = {**fields, "model": model}
        try:
            return orjson.dumps(fields)
        except orjson.JSONEncodeError:
            raise GatewayError(400, "the body is nested too deeply", "invalid_json") from None


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "must be a list that is not empty")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{index}]", "must be an object with a role")
        if type(message.get("content")) not in _CONTENTS:
            raise _wrong(f"messages[{index}].content", "must be a text or a list of parts")


def _check_numbers(fields: dict[str, Any]) -> None:
    """Numbers no server can mean; each server's own limits are its own to say."""
    for name in fields:
        if name in _LIMITS and (value := fields[name]) is not None:
            low, high, types = _LIMITS[name]
            if type(value) not in types or not low <= value <= high:
                raise _wrong(name, f"must be a {'number' if float in types else 'whole number'} from {low} to {high}")


def _wrong(field: str, wants: str) -> GatewayError:
    return GatewayError(400, f"{field}: {wants}", "invalid_value", field)
