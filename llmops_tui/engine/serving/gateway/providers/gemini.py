"""Gemini's generateContent and batchEmbedContents (v1beta), as Google's python-genai types tell them."""

from __future__ import annotations

import mimetypes
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from llmops_tui.engine.serving.gateway.body import EMBEDDING, Body
from llmops_tui.engine.serving.gateway.providers import chat
from llmops_tui.engine.serving.gateway.providers.chat import Asked, Call, Chunks, Image, Reply, Result, Text, Usage, count_of, text_of

_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
_FILTERED = frozenset(
    ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT")
)
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_ROLES = {"user": "user", "assistant": "model"}


class Gemini:
    """Contents there and candidates back."""

    def headers(self, secret: str) -> list[tuple[str, str]]:
        return [("x-goog-api-key", secret)] if secret else []

    def ask(self, body: Body, model: str) -> tuple[str, bytes]:
        at = f"/{quote(_path_of(model))}"
        if body.kind == EMBEDDING:
            return f"{at}:batchEmbedContents", orjson.dumps(_embedding(body, model))
        asked = chat.read_chat(body)
        verb = "streamGenerateContent?alt=sse" if body.stream else "generateContent"
        return f"{at}:{verb}", orjson.dumps(_fields(asked))

    def whole(self, body: Body, model: str, answer: dict[str, Any]) -> bytes:
        if body.kind == EMBEDDING:
            return _embeddings(model, answer)
        candidates = chat.list_of(answer, "candidates")
        if not candidates and not chat.part_of(answer, "promptFeedback"):
            raise chat.nonsense("without candidates")
        replies: list[Reply] = []
        number = 0
        for candidate in candidates:
            reply = Reply()
            for part in chat.list_of(chat.part_of(candidate, "content"), "parts"):
                if function := chat.part_of(part, "functionCall"):
                    reply.calls.append(_call(function, part, text_of(answer, "responseId"), number))
                    number += 1
                elif part.get("thought") is not True:
                    reply.text += text_of(part, "text")
            reply.finish = _finish(text_of(candidate, "finishReason"), bool(reply.calls))
            replies.append(reply)
        if not replies:
            replies.append(Reply(finish="content_filter"))  # the prompt was blocked
        usage = _usage(answer.get("usageMetadata"))
        return chat.whole_answer(body, text_of(answer, "responseId"), text_of(answer, "modelVersion") or model, replies, usage)

    def telling(self, body: Body, model: str) -> chat.Telling:
        return _Telling(body, model)


class _Telling:
    """Each event is a whole GenerateContentResponse with what is new; the last one has the finish reasons."""

    def __init__(self, body: Body, model: str) -> None:
        self._chunks = Chunks(body, model)
        self._usage: Usage | None = None
        self._calls: dict[int, int] = {}
        self._finished: set[int] = set()

    def take(self, event: dict[str, Any]) -> bytes:
        if error := chat.part_of(event, "error"):
            return self._chunks.error(text_of(error, "message") or "the provider failed", "upstream_error")
        self._chunks.id = text_of(event, "responseId") or self._chunks.id
        self._usage = _usage(event.get("usageMetadata")) or self._usage
        said: list[bytes] = []
        candidates = chat.list_of(event, "candidates")
        for candidate in candidates:
            said += self._candidate(candidate)
        if not candidates and text_of(chat.part_of(event, "promptFeedback"), "blockReason") and not self._finished:
            self._finished.add(0)
            said.append(self._chunks.finish("content_filter"))
        return b"".join(said)

    def end(self) -> bytes:
        if not self._finished:
            return b""
        return (self._chunks.usage(self._usage) if self._usage is not None else b"") + chat.DONE

    def _candidate(self, candidate: dict[str, Any]) -> list[bytes]:
        index = count_of(candidate, "index")
        said: list[bytes] = []
        for part in chat.list_of(chat.part_of(candidate, "content"), "parts"):
            if function := chat.part_of(part, "functionCall"):
                number = self._calls.get(index, 0)
                self._calls[index] = number + 1
                call = _call(function, part, self._chunks.id, number)
                said.append(self._chunks.call(number, call.id, call.name, orjson.dumps(call.arguments).decode(), call.signature, index))
            elif part.get("thought") is not True and (text := text_of(part, "text")):
                said.append(self._chunks.text(text, index))
        reason = text_of(candidate, "finishReason")
        if reason and index not in self._finished:
            self._finished.add(index)
            said.append(self._chunks.finish(_finish(reason, bool(self._calls.get(index))), index))
        return said


def _path_of(model: str) -> str:
    """gemini-x is short for models/gemini-x; tunedModels/y stays."""
    return model if "/" in model else f"models/{model}"


def _fields(asked: Asked) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "maxOutputTokens": asked.most_tokens,
        "stopSequences": asked.stops or None,
        "temperature": asked.temperature,
        "topP": asked.top_p,
        "topK": asked.top_k,
        "candidateCount": asked.count if asked.count > 1 else None,
        "seed": asked.seed,
    }
    if asked.schema is not None:
        settings["responseMimeType"] = "application/json"
        settings["responseJsonSchema"] = asked.schema or None
    fields: dict[str, Any] = {
        "contents": [{"role": _ROLES[turn.role], "parts": [_part_of(part) for part in turn.parts]} for turn in asked.turns]
    }
    if asked.system:
        fields["systemInstruction"] = {"parts": [{"text": asked.system}]}
    if known := {name: value for name, value in settings.items() if value is not None}:
        fields["generationConfig"] = known
    if asked.tools:
        declared = [
            {"name": tool.name, "description": tool.description, **({"parametersJsonSchema": tool.parameters} if tool.parameters else {})}
            for tool in asked.tools
        ]
        fields["tools"] = [{"functionDeclarations": declared}]
        if asked.choice.startswith("="):
            fields["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [asked.choice[1:]]}}
        elif asked.choice:
            fields["toolConfig"] = {"functionCallingConfig": {"mode": _MODES[asked.choice]}}
    return fields


def _part_of(part: chat.Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Call):
        call: dict[str, Any] = {"functionCall": {"name": part.name, "args": part.arguments}}
        return {**call, "thoughtSignature": part.signature} if part.signature else call
    if isinstance(part, Result):
        return {"functionResponse": {"name": part.name or part.call_id, "response": _response(part.text)}}
    assert isinstance(part, Image)
    if part.url:
        kind = mimetypes.guess_type(urlsplit(part.url).path)[0] or "image/jpeg"
        return {"fileData": {"mimeType": kind, "fileUri": part.url}}
    return {"inlineData": {"mimeType": part.media_type, "data": part.data}}


def _response(text: str) -> dict[str, Any]:
    """A tool's answer as the object that the API wants."""
    try:
        fields: Any = orjson.loads(text)
    except ValueError:
        fields = None
    return fields if isinstance(fields, dict) else {"result": text}


def _call(function: dict[str, Any], part: dict[str, Any], answer_id: str, number: int) -> Call:
    """A call needs an id in OpenAI's words, which this API does not always give."""
    call_id = text_of(function, "id") or f"call_{answer_id}_{number}"
    return Call(call_id, text_of(function, "name"), chat.part_of(function, "args"), text_of(part, "thoughtSignature"))


def _finish(reason: str, called: bool) -> str:
    if reason in _FILTERED:
        return "content_filter"
    return "tool_calls" if called and reason == "STOP" else _FINISH.get(reason, "stop")


def _usage(usage: object) -> Usage | None:
    """Its candidates' tokens are without those of thoughts, which are paid for as answers are."""
    if not isinstance(usage, dict) or "promptTokenCount" not in usage:
        return None
    prompt = count_of(usage, "promptTokenCount") + count_of(usage, "toolUsePromptTokenCount")
    completion = count_of(usage, "candidatesTokenCount") + count_of(usage, "thoughtsTokenCount")
    return Usage(prompt, completion, count_of(usage, "cachedContentTokenCount"))


def _embedding(body: Body, model: str) -> dict[str, Any]:
    texts = body.fields["input"]
    texts = [texts] if isinstance(texts, str) else texts
    if not all(isinstance(text, str) for text in texts):
        raise chat.cannot("input", "this provider takes texts, not tokens")
    if body.fields.get("encoding_format") not in (None, "float"):
        raise chat.cannot("encoding_format", "this provider gives float only")
    dimensions = body.fields.get("dimensions")
    more = {"outputDimensionality": dimensions} if dimensions is not None else {}
    return {"requests": [{"model": _path_of(model), "content": {"parts": [{"text": text}]}, **more} for text in texts]}


def _embeddings(model: str, answer: dict[str, Any]) -> bytes:
    found = chat.list_of(answer, "embeddings")
    if not found or not all(isinstance(each.get("values"), list) for each in found):
        raise chat.nonsense("without embeddings")
    data = [{"object": "embedding", "index": index, "embedding": each["values"]} for index, each in enumerate(found)]
    return orjson.dumps({"object": "list", "data": data, "model": model})
