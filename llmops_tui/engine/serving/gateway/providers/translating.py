"""An answer on its way from a provider: whole events in, OpenAI's events out; whole answers and errors likewise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from llmops_tui.engine.serving.gateway.body import Body
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.providers.chat import Speech, Telling, list_of, part_of, text_of
from llmops_tui.engine.serving.gateway.upstream import Answering

_LONGEST_EVENT = 4 << 20
_LARGEST = 32 << 20
_JSON = b"application/json"
_STATUSES = {529: 503}  # Anthropic's "overloaded"
_TOO_LONG = ("prompt is too long", "exceeds the maximum number of tokens", "exceed context limit")
_TOO_DEEP = GatewayError(502, "the provider's answer is nested too deeply", "upstream_nonsense")


class Reader(Answering, Protocol):
    """Who reads the translation."""

    def spoiled(self, error: GatewayError) -> None:
        """Nothing more can be made of this answer."""


class Translating:
    """Stands between a provider's connection and the exchange."""

    __slots__ = ("_body", "_model", "_parts", "_reader", "_size", "_speech", "_splitter", "_status", "_telling")

    def __init__(self, reader: Reader, speech: Speech, body: Body, model: str) -> None:
        self._reader = reader
        self._speech = speech
        self._body = body
        self._model = model
        self._parts: list[bytes] = []
        self._size = 0
        self._splitter = Splitter()
        self._status = 0
        self._telling: Telling | None = None

    def on_head(self, status: int, content_type: bytes) -> None:
        self._status = _STATUSES.get(status, status)
        if self._status == 200:
            if self._body.stream and content_type[:17].lower() == b"text/event-stream":
                self._telling = self._speech.telling(self._body, self._model)
            self._reader.on_head(200, content_type)

    def on_payload(self, data: bytes, pieces: Sequence[bytes] = ()) -> None:
        if self._telling is None:
            self._size += len(data)
            if self._size > _LARGEST:
                self._reader.spoiled(GatewayError(502, f"the provider sent more than {_LARGEST >> 20} MiB", "upstream_nonsense"))
                return
            self._parts.append(data)
            if self._status == 200:
                self._reader.on_payload(b"")  # a sign of life
            return
        try:
            said = b"".join([self._telling.take(event) for event in self._splitter.take(data)])
        except GatewayError as error:
            self._reader.spoiled(error)
            return
        except (orjson.JSONEncodeError, RecursionError):
            self._reader.spoiled(_TOO_DEEP)
            return
        self._reader.on_payload(said)

    def on_end(self) -> None:
        if self._telling is not None:
            said = self._telling.end()
            if said:
                self._reader.on_payload(said)  # which ends the answer
            else:
                self._reader.on_end()
            return
        raw = b"".join(self._parts)
        if self._status == 200:
            try:
                raw = self._speech.whole(self._body, self._model, _object(raw))
            except GatewayError as error:
                self._reader.spoiled(error)
                return
            except (orjson.JSONEncodeError, RecursionError):
                self._reader.spoiled(_TOO_DEEP)
                return
        else:
            self._status, raw = _refusal(self._status, raw)
            self._reader.on_head(self._status, _JSON)
        self._reader.on_payload(raw)
        self._reader.on_end()

    def on_failure(self, cause: str, stale: bool, touched: bool) -> None:
        self._reader.on_failure(cause, stale, touched)


class Splitter:
    """Bytes to the JSON objects of whole events, however they were cut (WHATWG HTML, "Server-sent events")."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    def take(self, data: bytes) -> list[dict[str, Any]]:
        """Raises GatewayError 502 for an event without end, or data that is no JSON object."""
        data = self._pending + data
        held = b"\r" if data.endswith(b"\r") else b""  # perhaps half a line end
        lines = data.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *events, rest = lines.split(b"\n\n")
        self._pending = rest + held
        if len(self._pending) > _LONGEST_EVENT:
            raise GatewayError(502, f"the provider sent an event of more than {_LONGEST_EVENT} bytes", "upstream_nonsense")
        found: list[dict[str, Any]] = []
        for event in events:
            said = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if said and said != [b"[DONE]"]:
                found.append(_object(b"\n".join(said)))
        return found


def _object(raw: bytes) -> dict[str, Any]:
    try:
        fields: Any = orjson.loads(raw)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise GatewayError(502, "the provider answered 200 with what is not a JSON object", "upstream_nonsense")
    return fields


def _refusal(status: int, raw: bytes) -> tuple[int, bytes]:
    """A provider's error with the status and the code that clients of OpenAI look for."""
    try:
        fields: Any = orjson.loads(raw)
    except ValueError:
        return status, raw
    if isinstance(fields, list) and fields:
        fields = fields[0]  # Gemini's, when a stream was asked for
    error = part_of(fields, "error")
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in list_of(error, "details")):
        status = 401  # Gemini says 400, as if the request were wrong
    message = text_of(error, "message")
    shaped: dict[str, Any] = {"message": message or f"the provider answered {status}"}
    if any(words in message for words in _TOO_LONG):
        shaped["code"] = "context_length_exceeded"
    return status, orjson.dumps({"error": shaped})
