"""A request in OpenAI's words as plain parts, and answers put into OpenAI's words. Pure; what clients and providers send is judged here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from llmops_tui.engine.serving.gateway.body import CHAT, Body
from llmops_tui.engine.serving.gateway.errors import GatewayError

DONE = b"data: [DONE]\n\n"
_MOST_STOPS = 16


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """By its bytes in base64, or where it lies."""

    media_type: str
    data: str
    url: str


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model wants called. `signature` is Gemini's, which wants it back."""

    id: str
    name: str
    arguments: dict[str, Any]
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool said."""

    call_id: str
    name: str
    text: str


Part = Text | Image | Call | Result


@dataclass(slots=True)
class Turn:
    """What one side said, without a break: role is user or assistant."""

    role: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(slots=True)
class Asked:
    """One request. `choice`: auto, none, required or a tool's name after "="; `schema`: None for any text, {} for any JSON."""

    turns: list[Turn]
    system: str = ""
    tools: list[Tool] = field(default_factory=list)
    choice: str = ""
    parallel: bool = True
    most_tokens: int | None = None
    stops: list[str] = field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    count: int = 1
    schema: dict[str, Any] | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    prompt: int
    completion: int
    cached: int = 0

    def fields(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(slots=True)
class Reply:
    """One answer. `finish` in OpenAI's words."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = "stop"


class Telling(Protocol):
    """A provider's stream, event by event, as OpenAI's events."""

    def take(self, event: dict[str, Any]) -> bytes:
        """What this event says; empty for nothing."""

    def end(self) -> bytes:
        """What is left to say when the stream has ended; empty when it ended before its answer did."""


class Speech(Protocol):
    """One provider's API."""

    def headers(self, secret: str) -> list[tuple[str, str]]:
        """The headers that every request has."""

    def ask(self, body: Body, model: str) -> tuple[str, bytes]:
        """The target below the base URL and the payload. Raises GatewayError 400 for what this API cannot be asked."""

    def whole(self, body: Body, model: str, answer: dict[str, Any]) -> bytes:
        """A whole answer of status 200. Raises GatewayError 502 for what is none."""

    def telling(self, body: Body, model: str) -> Telling:
        """For an answer that streams."""


def read_chat(body: Body) -> Asked:
    """A chat or a completion. Raises GatewayError 400 that names what cannot be understood."""
    fields = body.fields
    for name in ("logprobs", "top_logprobs", "echo", "suffix", "audio"):
        if fields.get(name):
            raise cannot(name)
    best = fields.get("best_of")
    if best is not None and best != 1:
        raise cannot("best_of")
    if body.kind == CHAT:
        system, turns = _turns(fields["messages"])
    else:
        system, turns = "", [Turn("user", [Text(_one_prompt(fields["prompt"]))])]
    return Asked(
        turns=turns,
        system=system,
        tools=_tools(fields),
        choice=_choice(fields.get("tool_choice")),
        parallel=fields.get("parallel_tool_calls") is not False,
        most_tokens=fields.get("max_completion_tokens") or fields.get("max_tokens"),
        stops=_stops(fields.get("stop")),
        temperature=fields.get("temperature"),
        top_p=fields.get("top_p"),
        top_k=_whole(fields.get("top_k")),
        count=fields.get("n") or 1,
        schema=_schema(fields.get("response_format")),
        seed=_whole(fields.get("seed")),
    )


def cannot(field_name: str, why: str = "this provider cannot do that") -> GatewayError:
    return GatewayError(400, f"{field_name}: {why}", "unsupported_by_provider", field_name)


def nonsense(why: str) -> GatewayError:
    return GatewayError(502, f"the provider answered 200 {why}", "upstream_nonsense")


def whole_answer(body: Body, answer_id: str, model: str, replies: list[Reply], usage: Usage | None) -> bytes:
    """Answers as one object."""
    chat = body.kind == CHAT
    choices = [{"index": index, **_choice_fields(chat, reply), "finish_reason": reply.finish} for index, reply in enumerate(replies)]
    fields: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
    }
    if usage is not None:
        fields["usage"] = usage.fields()
    return orjson.dumps(fields)


class Chunks:
    """Writes an answer as OpenAI's events."""

    def __init__(self, body: Body, model: str) -> None:
        self._chat = body.kind == CHAT
        self._model = model
        self._created = int(time.time())
        self._begun: set[int] = set()
        self.id = "chatcmpl-provider"

    def text(self, text: str, index: int = 0) -> bytes:
        if not self._chat:
            return self._event(index, {"text": text}, None)
        return self._delta(index, {"content": text})

    def call(self, number: int, call_id: str, name: str, arguments: str, signature: str = "", index: int = 0) -> bytes:
        """A tool's call begins; what is said of its arguments so far."""
        fields: dict[str, Any] = {"index": number, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        if signature:
            fields["extra_content"] = _signed(signature)
        return self._delta(index, {"tool_calls": [fields]}) if self._chat else b""

    def arguments(self, number: int, more: str, index: int = 0) -> bytes:
        return self._delta(index, {"tool_calls": [{"index": number, "function": {"arguments": more}}]}) if self._chat else b""

    def finish(self, reason: str, index: int = 0) -> bytes:
        return self._delta(index, {}, reason) if self._chat else self._event(index, {"text": ""}, reason)

    def usage(self, usage: Usage) -> bytes:
        return self._line({"choices": [], "usage": usage.fields()})

    def error(self, message: str, kind: str) -> bytes:
        return b"data: " + orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}) + b"\n\n"

    def _delta(self, index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", "content": "", **delta}
        return self._event(index, {"delta": delta}, finish)

    def _event(self, index: int, fields: dict[str, Any], finish: str | None) -> bytes:
        return self._line({"choices": [{"index": index, **fields, "finish_reason": finish}]})

    def _line(self, fields: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        head = {"id": self.id, "object": kind, "created": self._created, "model": self._model}
        return b"data: " + orjson.dumps({**head, **fields}) + b"\n\n"


def part_of(value: object, name: str) -> dict[str, Any]:
    """The object of that name; empty for what is none. For what a provider sends."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def list_of(value: object, name: str) -> list[dict[str, Any]]:
    found = value.get(name) if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def text_of(value: object, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def count_of(value: object, name: str) -> int:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 53 else 0


def _choice_fields(chat: bool, reply: Reply) -> dict[str, Any]:
    if not chat:
        return {"text": reply.text, "logprobs": None}
    message: dict[str, Any] = {"role": "assistant", "content": reply.text if reply.text or not reply.calls else None}
    if reply.calls:
        message["tool_calls"] = [_call_fields(call) for call in reply.calls]
    return {"message": message, "logprobs": None}


def _call_fields(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()}
    fields: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.signature:
        fields["extra_content"] = _signed(call.signature)
    return fields


def _signed(signature: str) -> dict[str, Any]:
    """Where Google's own OpenAI-compatible door puts a thought's signature, and wants it back."""
    return {"google": {"thought_signature": signature}}


def _turns(messages: list[dict[str, Any]]) -> tuple[str, list[Turn]]:
    systems: list[str] = []
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        role = message["role"]
        if role in ("system", "developer"):
            systems.append("".join(part.text for part in _parts(message.get("content"), at) if isinstance(part, Text)))
            continue
        if role == "assistant":
            side, parts = "assistant", [*_parts(message.get("content"), at), *_calls(message.get("tool_calls"), at, names)]
        elif role == "tool":
            call_id = message.get("tool_call_id")
            if not isinstance(call_id, str) or not call_id:
                raise _wrong(f"{at}.tool_call_id", "must be the id of a call")
            said = "".join(part.text for part in _parts(message.get("content"), at) if isinstance(part, Text))
            side, parts = "user", [Result(call_id, names.get(call_id, ""), said)]
        elif role == "user":
            side, parts = "user", _parts(message.get("content"), at)
        else:
            raise _wrong(f"{at}.role", "must be system, developer, user, assistant or tool")
        if turns and turns[-1].role == side:
            turns[-1].parts += parts
        elif parts:
            turns.append(Turn(side, parts))
    if not turns:
        raise _wrong("messages", "there must be something that a user said")
    return "\n\n".join(text for text in systems if text), turns


def _parts(content: object, at: str) -> list[Part]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise _wrong(f"{at}.content", "must be a text or a list of parts")
    parts: list[Part] = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "refusal") and isinstance(part.get(kind), str):
            parts += [Text(part[kind])] if part[kind] else []
        elif kind == "image_url":
            parts.append(_image(text_of(part.get("image_url"), "url"), f"{at}.content[{number}]"))
        else:
            raise cannot(f"{at}.content[{number}]", "this provider takes text and images only")
    return parts


def _image(url: str, at: str) -> Image:
    if url.startswith(("https://", "http://")):
        return Image("", "", url)
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise _wrong(at, "must be an https address or data:image/…;base64,…")
    return Image(head.removeprefix("data:").removesuffix(";base64"), data, "")


def _calls(calls: object, at: str, names: dict[str, str]) -> list[Part]:
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise _wrong(f"{at}.tool_calls", "must be a list")
    found: list[Part] = []
    for number, call in enumerate(calls):
        where = f"{at}.tool_calls[{number}]"
        function = part_of(call, "function")
        name, call_id = text_of(function, "name"), text_of(call, "id")
        if not name or not call_id:
            raise _wrong(where, "must have an id and a function with a name")
        try:
            arguments: Any = orjson.loads(text_of(function, "arguments") or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise _wrong(f"{where}.function.arguments", "must be the text of a JSON object")
        names[call_id] = name
        signature = text_of(part_of(part_of(call, "extra_content"), "google"), "thought_signature")
        found.append(Call(call_id, name, arguments, signature))
    return found


def _tools(fields: dict[str, Any]) -> list[Tool]:
    tools = fields.get("tools")
    if tools is None:
        if fields.get("functions"):
            raise cannot("functions", "this provider takes tools, not functions")
        return []
    if not isinstance(tools, list):
        raise _wrong("tools", "must be a list")
    found: list[Tool] = []
    for number, tool in enumerate(tools):
        function = part_of(tool, "function")
        name = text_of(function, "name")
        if text_of(tool, "type") != "function" or not name:
            raise _wrong(f"tools[{number}]", "must be a function with a name")
        found.append(Tool(name, text_of(function, "description"), part_of(function, "parameters")))
    return found


def _choice(choice: object) -> str:
    if choice is None:
        return ""
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice
    name = text_of(part_of(choice, "function"), "name")
    if not name:
        raise _wrong("tool_choice", "must be auto, none, required or a function's name")
    return f"={name}"


def _stops(stop: object) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops) or len(stops) > _MOST_STOPS:
        raise _wrong("stop", f"must be a text or a list of at most {_MOST_STOPS}")
    return [text for text in stops if text]


def _schema(wanted: object) -> dict[str, Any] | None:
    kind = text_of(wanted, "type")
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return {}
    schema = part_of(part_of(wanted, "json_schema"), "schema")
    if kind != "json_schema" or not schema:
        raise _wrong("response_format", "must be of type text, json_object or json_schema with a schema")
    return schema


def _one_prompt(prompt: object) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise cannot("prompt", "this provider takes one text")
    return prompt


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _wrong(name: str, wants: str) -> GatewayError:
    return GatewayError(400, f"{name}: {wants}", "invalid_value", name)
