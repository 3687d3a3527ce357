"""Anthropic's Messages API (POST /v1/messages, version 2023-06-01), as its Python SDK's types tell it."""

from __future__ import annotations

from typing import Any

import orjson

from llmops_tui.engine.serving.gateway.body import EMBEDDING, Body
from llmops_tui.engine.serving.gateway.providers import chat
from llmops_tui.engine.serving.gateway.providers.chat import Asked, Call, Chunks, Image, Reply, Result, Text, Usage, count_of, text_of

_VERSION = "2023-06-01"
_MOST_TOKENS = 4096  # the API wants a bound; who sets none gets this one
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class Anthropic:
    """Messages there and back."""

    def headers(self, secret: str) -> list[tuple[str, str]]:
        return [("anthropic-version", _VERSION), *([("x-api-key", secret)] if secret else [])]

    def ask(self, body: Body, model: str) -> tuple[str, bytes]:
        if body.kind == EMBEDDING:
            raise chat.cannot("model", "this provider has no embeddings")
        asked = chat.read_chat(body)
        if asked.count != 1:
            raise chat.cannot("n", "this provider gives one answer a request")
        return "/messages", orjson.dumps(_fields(asked, body, model))

    def whole(self, body: Body, model: str, answer: dict[str, Any]) -> bytes:
        if not isinstance(answer.get("content"), list):
            raise chat.nonsense("without content")
        reply = Reply(finish=_FINISH.get(text_of(answer, "stop_reason"), "stop"))
        for block in chat.list_of(answer, "content"):
            if block.get("type") == "text":
                reply.text += text_of(block, "text")
            elif block.get("type") == "tool_use":
                reply.calls.append(Call(text_of(block, "id"), text_of(block, "name"), chat.part_of(block, "input")))
        return chat.whole_answer(body, text_of(answer, "id"), text_of(answer, "model") or model, [reply], _usage(answer.get("usage")))

    def telling(self, body: Body, model: str) -> chat.Telling:
        return _Telling(body, model)


class _Telling:
    """message_start, content_block_start, …delta, …stop, message_delta, message_stop; and ping and error at any time."""

    def __init__(self, body: Body, model: str) -> None:
        self._chunks = Chunks(body, model)
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # the number of a call by that of its block
        self._finished = self._ended = False

    def take(self, event: dict[str, Any]) -> bytes:
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event)
        if kind == "message_start":
            message = chat.part_of(event, "message")
            self._chunks.id = text_of(message, "id") or self._chunks.id
            self._usage.update(chat.part_of(message, "usage"))
            return b""
        if kind == "content_block_start":
            return self._block(event)
        if kind == "message_delta":
            self._usage.update({name: count for name, count in chat.part_of(event, "usage").items() if count is not None})
            reason = text_of(chat.part_of(event, "delta"), "stop_reason")
            if not reason or self._finished:
                return b""
            self._finished = True
            return self._chunks.finish(_FINISH.get(reason, "stop"))
        if kind == "message_stop":
            return self.end()
        if kind == "error":
            error = chat.part_of(event, "error")
            return self._chunks.error(text_of(error, "message") or "the provider failed", text_of(error, "type") or "upstream_error")
        return b""

    def end(self) -> bytes:
        if not self._finished or self._ended:
            return b""
        self._ended = True
        usage = _usage(self._usage)
        return (self._chunks.usage(usage) if usage is not None else b"") + chat.DONE

    def _block(self, event: dict[str, Any]) -> bytes:
        block = chat.part_of(event, "content_block")
        if block.get("type") == "tool_use":
            number = self._calls[count_of(event, "index")] = len(self._calls)
            return self._chunks.call(number, text_of(block, "id"), text_of(block, "name"), "")
        text = text_of(block, "text") if block.get("type") == "text" else ""
        return self._chunks.text(text) if text else b""

    def _delta(self, event: dict[str, Any]) -> bytes:
        delta = chat.part_of(event, "delta")
        if delta.get("type") == "text_delta":
            text = text_of(delta, "text")
            return self._chunks.text(text) if text else b""
        if delta.get("type") == "input_json_delta":
            number = self._calls.get(count_of(event, "index"))
            more = text_of(delta, "partial_json")
            return self._chunks.arguments(number, more) if number is not None and more else b""
        return b""


def _fields(asked: Asked, body: Body, model: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": model,
        "max_tokens": asked.most_tokens or _MOST_TOKENS,
        "messages": [{"role": turn.role, "content": [_block_of(part) for part in turn.parts]} for turn in asked.turns],
    }
    if asked.system:
        fields["system"] = asked.system
    if asked.stops:
        fields["stop_sequences"] = asked.stops
    if asked.temperature is not None:
        fields["temperature"] = min(asked.temperature, 1.0)  # its scale ends there, OpenAI's at 2
    if asked.top_p is not None:
        fields["top_p"] = asked.top_p
    if asked.top_k is not None:
        fields["top_k"] = asked.top_k
    if asked.tools:
        fields["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters or {"type": "object", "properties": {}}}
            for tool in asked.tools
        ]
        if choice := _tool_choice(asked):
            fields["tool_choice"] = choice
    if asked.schema is not None:
        if not asked.schema:
            raise chat.cannot("response_format", "this provider wants a json_schema, not json_object")
        fields["output_config"] = {"format": {"type": "json_schema", "schema": asked.schema}}
    if body.stream:
        fields["stream"] = True
    return fields


def _tool_choice(asked: Asked) -> dict[str, Any]:
    choice: dict[str, Any] = {}
    if asked.choice.startswith("="):
        choice = {"type": "tool", "name": asked.choice[1:]}
    elif asked.choice or not asked.parallel:
        choice = {"type": _CHOICES[asked.choice or "auto"]}
    if not asked.parallel and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _block_of(part: chat.Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Call):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
    if isinstance(part, Result):
        return {"type": "tool_result", "tool_use_id": part.call_id, "content": part.text}
    assert isinstance(part, Image)
    if part.url:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}


def _usage(usage: object) -> Usage | None:
    """Its input_tokens are those that no cache had a part in."""
    if not isinstance(usage, dict) or "output_tokens" not in usage:
        return None
    cached = count_of(usage, "cache_read_input_tokens")
    prompt = count_of(usage, "input_tokens") + count_of(usage, "cache_creation_input_tokens") + cached
    return Usage(prompt, count_of(usage, "output_tokens"), cached)
