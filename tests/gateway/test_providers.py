"""Providers elsewhere: asked in their own words, answering in OpenAI's, with keys that stand nowhere."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.serving.gateway import answer as answer_module
from llmops_tui.engine.serving.gateway.providers import provider as provider_module
from tests.gateway.fake_backend import Act, Asked, FakeBackend, Gate, says, sends
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, post, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]
SECRET = "sk-very-secret-0123456789"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Ulm?"},
    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "grey"}'},
    {
        "role": "user",
        "content": [{"type": "text", "text": "And here?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
    },
]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PROVIDER_KEY", SECRET)


def remote(fake: FakeBackend, api: str, **fields: Any) -> dict[str, Any]:
    rule = {"api": api, "base_url": f"http://127.0.0.1:{fake.port}/v1", "key_env": "TEST_PROVIDER_KEY", "model": "big-1"}
    return {**rule, "input_per_million": 3.0, "output_per_million": 15.0, **fields}


def with_provider(fake: FakeBackend, api: str, endpoints: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    version = {"name": "v1", "weight": 1, "provider": "cloud"}
    return config({}, endpoints or {"m": {"versions": [version]}}, providers={"cloud": remote(fake, api, **fields)})


def replies(fields: dict[str, Any]) -> Act:
    return says(200, json.dumps(fields).encode())


def tells(*events: dict[str, Any], named: bool = False, gate: Gate | None = None) -> Act:
    """A stream of events, cut where it hurts; its last piece comes when the gate opens."""
    raw = b"".join(
        (f"event: {event.get('type')}\n" if named else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n" for event in events
    )

    async def act(asked: Asked) -> None:
        await asked.events_head()
        for at in range(0, len(raw), 23):
            if gate is not None and len(raw) - at <= 23:
                await gate.passed()
            await asked.chunk(raw[at : at + 23])
        await asked.send(b"0\r\n\r\n")

    return act


def text_and_calls(events: list[Any]) -> tuple[str, str, dict[int, dict[str, Any]]]:
    """The text of a stream, how it finished, and the calls with their arguments put together."""
    text, finish, calls = "", "", {}
    for event in events[:-1]:
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
            for call in choice["delta"].get("tool_calls", []):
                known = calls.setdefault(call["index"], {"arguments": ""})
                known.update({name: call[name] for name in ("id", "extra_content") if name in call})
                known["name"] = call["function"].get("name", known.get("name"))
                known["arguments"] += call["function"]["arguments"]
    return text, finish, calls


# OpenAI-compatible


def test_a_compatible_provider_gets_the_body_with_its_model_and_its_key_and_is_paid_by_usage(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "openai"))
    answered = gateway.chat(temperature=0.5, tools=[WEATHER], headers={"authorization": "Bearer of-the-gateway"})
    assert answered.status == 200
    asked = backend.asked()[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert (asked.body["model"], asked.body["temperature"], asked.body["tools"]) == ("big-1", 0.5, [WEATHER])
    line = gateway.record(id=answered.headers["x-request-id"])
    assert (line["provider"], line["version"]) == ("cloud", "v1")
    assert line["cost"] == pytest.approx((7 * 3 + 3 * 15) / 1e6)
    assert gateway.status()["endpoints"]["m"]["versions"]["v1"]["cost"] == pytest.approx(line["cost"])


def test_a_compatible_provider_streams(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "openai"))
    assert text_and_calls(gateway.chat(stream=True).events)[:2] == ("hello you", "stop")
    assert gateway.record(stream=True)["cost"] == pytest.approx((7 * 3 + 3 * 15) / 1e6)


def test_embeddings_and_completions_go_to_a_compatible_provider(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "openai"))
    assert gateway.request("POST", "/v1/embeddings", {"model": "m", "input": "a"}).status == 200
    assert gateway.request("POST", "/v1/completions", {"model": "m", "prompt": "a"}).status == 200
    assert [asked.path for asked in backend.asked()] == ["/v1/embeddings", "/v1/completions"]


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBackend]:
    """A provider behind HTTPS whose authority the gateway knows by SSL_CERT_FILE."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    provider_module._tls.cache_clear()
    fake = FakeBackend(tls)
    yield fake
    fake.close()
    provider_module._tls.cache_clear()


def test_a_provider_is_spoken_to_over_https_and_its_certificate_is_checked(secure: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(secure, "openai", base_url=f"https://localhost:{secure.port}/v1"))
    assert gateway.chat().status == 200
    assert text_and_calls(gateway.chat(stream=True).events)[0] == "hello you"
    other_name = start(with_provider(secure, "openai", base_url=f"https://127.0.0.1:{secure.port}/v1"))
    refused = other_name.chat()
    assert (refused.status, refused.error["code"]) == (502, "upstream_failed")
    assert len(secure.asked()) == 2


# Anthropic

ANTHROPIC_WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "big-1-2026",
    "content": [{"type": "text", "text": "Grey. "}, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"town": "Bonn"}}],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 2, "output_tokens": 5},
}


def test_anthropic_is_asked_in_its_own_words(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "anthropic"))
    backend.script.append(replies(ANTHROPIC_WHOLE))
    body = {
        "model": "m", "messages": CONVERSATION, "tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False, "stop": ["END"], "max_completion_tokens": 99, "temperature": 1.7, "top_p": 0.9, "seed": 4,
    }  # fmt: skip
    answered = gateway.request("POST", "/v1/chat/completions", body)
    assert answered.status == 200
    asked = backend.asked()[0]
    assert asked.path == "/v1/messages"
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == (SECRET, "2023-06-01")
    assert "authorization" not in asked.headers
    assert asked.body == {
        "model": "big-1",
        "max_tokens": 99,
        "system": "Be brief.",
        "stop_sequences": ["END"],
        "temperature": 1.0,
        "top_p": 0.9,
        "tools": [{"name": "weather", "description": "Of a town", "input_schema": WEATHER["function"]["parameters"]}],  # type: ignore[index]
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather in Ulm?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"town": "Ulm"}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": '{"sky": "grey"}'},
                    {"type": "text", "text": "And here?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                ],
            },
        ],
    }


def test_anthropics_answer_comes_back_in_openais_words(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "anthropic"))
    backend.script.append(replies(ANTHROPIC_WHOLE))
    answered = gateway.chat()
    choice = answered.json["choices"][0]
    assert (answered.json["id"], answered.json["object"], answered.json["model"]) == ("msg_1", "chat.completion", "big-1-2026")
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Grey. ", "tool_calls")
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) == ("toolu_1", "weather", {"town": "Bonn"})
    assert answered.json["usage"]["prompt_tokens"] == 42
    line = gateway.record(id=answered.headers["x-request-id"])
    assert (line["prompt_tokens"], line["completion_tokens"], line["cached_tokens"], line["finish"]) == (42, 5, 30, "tool_calls")
    assert line["cost"] == pytest.approx((42 * 3 + 5 * 15) / 1e6)


def anthropic_stream(*, stop: bool = True) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_2", "content": [], "usage": {"input_tokens": 12, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grün "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "and 🌧"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"town": '}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '"Köln"}'}},
        {"type": "content_block_stop", "index": 1},
    ]
    if stop:
        events.append({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 8}})
        events.append({"type": "message_stop"})
    return events


def test_anthropics_stream_becomes_openais(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "anthropic"))
    backend.script += [tells(*anthropic_stream(), named=True)] * 2
    answered = gateway.chat(stream=True)
    assert backend.asked()[0].body["stream"] is True
    assert "stream_options" not in backend.asked()[0].body
    text, finish, calls = text_and_calls(answered.events)
    assert (text, finish) == ("Grün and 🌧", "length")
    assert calls == {0: {"id": "toolu_2", "name": "weather", "arguments": '{"town": "Köln"}'}}
    assert answered.events[-1] == "[DONE]"
    assert all("usage" not in event for event in answered.events[:-1])
    line = gateway.record(id=answered.headers["x-request-id"])
    assert (line["prompt_tokens"], line["completion_tokens"], line["finish"], line["status"]) == (12, 8, "length", 200)
    asked_for = gateway.chat(stream=True, stream_options={"include_usage": True})
    assert asked_for.events[-2]["usage"]["total_tokens"] == 20


def test_a_providers_stream_that_ends_early_is_an_error_and_not_an_answer(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "anthropic"))
    backend.script.append(tells(*anthropic_stream(stop=False), named=True))
    raw = gateway.raw(post(chat_body(stream=True)))
    assert b"[DONE]" not in raw
    assert b'"code":"upstream_closed"' in raw
    assert not raw.endswith(b"0\r\n\r\n")
    line = gateway.record(stream=True)
    assert (line["status"], line["estimated"]) == (502, True)


def test_an_error_event_in_anthropics_stream_reaches_the_client(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "anthropic"))
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    gate = Gate(backend)
    backend.script.append(tells(*anthropic_stream(stop=False)[:5], overloaded, gate=gate))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True)))
        assert b"Overloaded" not in read_until(connection, "and 🌧".encode())
        gate.open()
        assert b'"message":"Overloaded","type":"overloaded_error"' in read_until(connection, b"0\r\n\r\n")
    assert gateway.record(stream=True)["status"] == 502


@pytest.mark.parametrize("api", ["openai", "anthropic", "gemini"])
def test_a_key_that_a_provider_repeats_within_a_stream_is_struck(backend: FakeBackend, start: Start, api: str) -> None:
    gateway = start(with_provider(backend, api))
    first: dict[str, list[dict[str, Any]]] = {
        "openai": [{"choices": [{"index": 0, "delta": {"content": "Grey."}, "finish_reason": None}]}],
        "anthropic": anthropic_stream(stop=False)[:5],
        "gemini": [{"responseId": "r", "candidates": [{"content": {"role": "model", "parts": [{"text": "Grey."}]}}]}],
    }
    failed = {"type": "error", "error": {"type": "authentication_error", "code": 401, "message": f"the key {SECRET} was revoked"}}
    gate = Gate(backend)
    backend.script.append(tells(*first[api], failed, gate=gate))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True)))
        said = read_until(connection, b'"delta"')
        gate.open()
        said += read_until(connection, b"was revoked")
        line = gateway.record(stream=True)
    assert b"the key [key] was revoked" in said
    assert (line["status"], line["error"]) == (502, "the key [key] was revoked")
    kept = b"".join(path.read_bytes() for path in gateway.directory.rglob("*") if path.is_file())
    assert SECRET.encode() not in said + kept


def test_a_key_that_a_provider_writes_with_escapes_or_as_a_content_type_is_struck(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "openai"))
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in SECRET)
    backend.script.append(says(400, f'{{"error": {{"message": "no {escaped}", "code": "{escaped}"}}}}'.encode()))
    refused = gateway.chat()
    assert (refused.status, refused.error["message"], refused.error["code"]) == (400, "no [key]", "[key]")
    backend.script.append(says(200, b"{}", content_type=f"text/{'x' * 45}{SECRET}"))
    spoiled = gateway.chat(stream=True)
    assert (spoiled.status, spoiled.error["code"]) == (502, "upstream_nonsense")
    said = refused.body + spoiled.body + json.dumps(gateway.records()).encode()
    assert SECRET[:10].encode() not in said


# Gemini

GEMINI_WHOLE = {
    "responseId": "r1",
    "modelVersion": "big-1-001",
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "secret thought", "thought": True},
                    {"text": "Grey."},
                    {"functionCall": {"name": "weather", "args": {"town": "Bonn"}}, "thoughtSignature": "c2ln"},
                ],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 4, "thoughtsTokenCount": 6, "cachedContentTokenCount": 5},
}


def test_gemini_is_asked_in_its_own_words(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "gemini", base_url=f"http://127.0.0.1:{backend.port}/v1beta"))
    backend.script.append(replies(GEMINI_WHOLE))
    signed = {**CALLED, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    messages = [*CONVERSATION[:2], {**CONVERSATION[2], "tool_calls": [signed]}, *CONVERSATION[3:]]
    body = {
        "model": "m", "messages": messages, "tools": [WEATHER], "tool_choice": "required", "stop": "END", "max_tokens": 9, "n": 2,
        "temperature": 1.7, "seed": 4, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
    }  # fmt: skip
    assert gateway.request("POST", "/v1/chat/completions", body).status == 200
    asked = backend.asked()[0]
    assert asked.path == "/v1beta/models/big-1:generateContent"
    assert asked.headers["x-goog-api-key"] == SECRET
    assert asked.body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather in Ulm?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"town": "Ulm"}}, "thoughtSignature": "c2ln"}]},
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "weather", "response": {"sky": "grey"}}},
                    {"text": "And here?"},
                    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                ],
            },
        ],
        "generationConfig": {
            "maxOutputTokens": 9, "stopSequences": ["END"], "temperature": 1.7, "candidateCount": 2, "seed": 4,
            "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
        },
        "tools": [{"functionDeclarations": [
            {"name": "weather", "description": "Of a town", "parametersJsonSchema": WEATHER["function"]["parameters"]}  # type: ignore[index]
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    }  # fmt: skip


def test_geminis_answer_comes_back_in_openais_words(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "gemini"))
    backend.script.append(replies(GEMINI_WHOLE))
    answered = gateway.chat()
    choice = answered.json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Grey.", "tool_calls")
    call = choice["message"]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"town": "Bonn"})
    assert call["extra_content"]["google"]["thought_signature"] == "c2ln"
    line = gateway.record(id=answered.headers["x-request-id"])
    assert (line["prompt_tokens"], line["completion_tokens"], line["cached_tokens"]) == (20, 10, 5)


def test_geminis_stream_becomes_openais(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "gemini"))

    def piece(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"responseId": "r2", "candidates": [{"content": {"role": "model", "parts": list(parts)}, **fields}]}

    call = {"functionCall": {"name": "weather", "args": {"town": "Köln"}}}
    usage = {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3}}
    backend.script.append(
        tells(piece({"text": "Grün "}), piece({"text": "und 🌧"}), piece(call), {**piece({"text": ""}, finishReason="STOP"), **usage})
    )
    answered = gateway.chat(stream=True, stream_options={"include_usage": True})
    assert backend.asked()[0].path == "/v1/models/big-1:streamGenerateContent?alt=sse"
    text, finish, calls = text_and_calls(answered.events)
    assert (text, finish) == ("Grün und 🌧", "tool_calls")
    assert (calls[0]["name"], json.loads(calls[0]["arguments"])) == ("weather", {"town": "Köln"})
    assert answered.events[-2]["usage"]["total_tokens"] == 12
    assert answered.events[-1] == "[DONE]"


def test_a_prompt_that_gemini_blocks_is_a_filtered_answer(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "gemini"))
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}
    backend.script += [replies(blocked), tells(blocked)]
    assert gateway.chat().json["choices"][0]["finish_reason"] == "content_filter"
    assert text_and_calls(gateway.chat(stream=True).events)[1] == "content_filter"


def test_gemini_gives_embeddings(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "gemini"))
    backend.script.append(replies({"embeddings": [{"values": [0.1, 0.2]}, {"values": [0.3, 0.4]}]}))
    answered = gateway.request("POST", "/v1/embeddings", {"model": "m", "input": ["a", "b"], "dimensions": 2})
    assert [each["embedding"] for each in answered.json["data"]] == [[0.1, 0.2], [0.3, 0.4]]
    assert backend.asked()[0].path == "/v1/models/big-1:batchEmbedContents"
    request = {"model": "models/big-1", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 2}
    assert backend.asked()[0].body["requests"][0] == request


# Both


@pytest.mark.parametrize("api", ["anthropic", "gemini"])
def test_a_text_completion_is_asked_as_one_users_words(backend: FakeBackend, start: Start, api: str) -> None:
    gateway = start(with_provider(backend, api))
    backend.script += [replies(ANTHROPIC_WHOLE if api == "anthropic" else GEMINI_WHOLE)]
    answered = gateway.request("POST", "/v1/completions", {"model": "m", "prompt": "Weather?", "max_tokens": 5})
    assert answered.json["object"] == "text_completion"
    assert answered.json["choices"][0]["text"].startswith("Grey.")


@pytest.mark.parametrize(
    ("api", "fields", "param"),
    [
        ("anthropic", {"n": 2}, "n"),
        ("anthropic", {"logprobs": True}, "logprobs"),
        ("anthropic", {"response_format": {"type": "json_object"}}, "response_format"),
        ("gemini", {"logprobs": True}, "logprobs"),
        ("gemini", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages[0].content[0]"),
        ("anthropic", {"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ("anthropic", {"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ("anthropic", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ("anthropic", {"tools": [{"type": "web_search"}]}, "tools[0]"),
        ("gemini", {"tool_choice": "maybe"}, "tool_choice"),
        ("gemini", {"stop": 5}, "stop"),
    ],
)  # fmt: skip
def test_what_a_provider_cannot_be_asked_is_refused_by_name_and_never_sent(
    backend: FakeBackend, start: Start, api: str, fields: dict[str, Any], param: str
) -> None:
    gateway = start(with_provider(backend, api))
    answered = gateway.request("POST", "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})
    assert (answered.status, answered.error["param"]) == (400, param)
    assert not backend.asked()
    assert gateway.record(status=400)["error"]
    assert gateway.status()["replicas"]["cloud"]["failures"] == 0


@pytest.mark.parametrize(
    ("api", "status", "said", "expected", "code"),
    [
        ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}},
         400, "context_length_exceeded"),
        ("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 503, None),
        ("anthropic", 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}, 429, None),
        ("anthropic", 401, {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key {SECRET}"}},
         502, "provider_key_refused"),
        ("gemini", 400, [{"error": {"code": 400, "message": "It exceeds the maximum number of tokens allowed (8)."}}],
         400, "context_length_exceeded"),
        ("gemini", 400, {"error": {"code": 400, "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}},
         502, "provider_key_refused"),
        ("gemini", 500, {"error": {"code": 500, "message": "Internal", "status": "INTERNAL"}}, 500, None),
        ("openai", 401, {"error": {"message": f"Incorrect: {SECRET}", "code": "invalid_api_key"}}, 502, "provider_key_refused"),
        ("openai", 403, {"error": f"no {SECRET}"}, 502, "provider_key_refused"),
        ("openai", 404, {"error": {"message": "no such model", "code": "model_not_found"}}, 404, "model_not_found"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_providers_errors_come_in_openais_shape_and_never_with_its_key(
    backend: FakeBackend, start: Start, api: str, status: int, said: Any, expected: int, code: str | None, stream: bool
) -> None:
    gateway = start(with_provider(backend, api))
    backend.otherwise = says(status, json.dumps(said).encode())
    answered = gateway.chat(stream=stream)
    assert (answered.status, answered.error["code"]) == (expected, code)
    assert gateway.record(status=expected)["error"]
    everything = json.dumps(gateway.status()) + answered.body.decode() + gateway.request("GET", "/metrics").body.decode()
    everything += "".join(path.read_text() for path in gateway.directory.rglob("*") if path.is_file())
    assert SECRET not in everything


@pytest.mark.parametrize("api", ["anthropic", "gemini"])
@pytest.mark.parametrize(
    "act",
    [
        replies({"what": "ever"}),
        says(200, b"[]"),
        says(200, b"\xff\xfe"),
        sends(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{"),
    ],
)
def test_nonsense_from_a_provider_is_a_502(backend: FakeBackend, start: Start, api: str, act: Act) -> None:
    gateway = start(with_provider(backend, api))
    backend.script.append(act)
    assert gateway.chat().status == 502
    assert gateway.record(status=502)["provider"] == "cloud"


def test_an_answer_that_grows_too_large_in_translation_is_refused_once(
    backend: FakeBackend, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_module, "_LARGEST", 5000)
    gateway = start(with_provider(backend, "anthropic"))
    called = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"town": '"' * 2000}}
    backend.script += [replies({**ANTHROPIC_WHOLE, "content": [called]}), replies(ANTHROPIC_WHOLE)]
    answer = gateway.raw(post(chat_body()) + post(chat_body("again"), extra="Connection: close\r\n"))
    assert (answer.count(b"HTTP/1.1 502"), answer.count(b"HTTP/1.1 200")) == (1, 1)
    assert len(wait_for(lambda: lines if len(lines := gateway.records()) == 2 else None)) == 2


def test_an_answer_nested_beyond_all_measure_is_a_502(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "anthropic"))
    deep = json.dumps(ANTHROPIC_WHOLE).replace('{"town": "Bonn"}', '{"a":' * 400 + "1" + "}" * 400).encode()
    backend.script.append(says(200, deep))
    assert gateway.chat().status == 502
    assert gateway.status()["in_flight"] == 0


def test_what_a_provider_cost_is_counted_to_the_last_digit(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "openai", input_per_million=1e9, output_per_million=0))
    usage = {"choices": [], "usage": {"prompt_tokens": 1234567, "completion_tokens": 0}}
    backend.script.append(replies(usage))
    assert gateway.chat().status == 200
    assert 'llmops_cost_total{endpoint="m",version="v1"} 1234567000.0' in gateway.request("GET", "/metrics").body.decode()


@pytest.mark.parametrize("api", ["anthropic", "gemini"])
def test_events_that_are_no_json_end_a_providers_stream_visibly(backend: FakeBackend, start: Start, api: str) -> None:
    gateway = start(with_provider(backend, api))
    nonsense = b"data: {nonsense\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    backend.script.append(sends(head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(nonsense), nonsense)))
    assert gateway.chat(stream=True).status == 502


def test_a_key_that_is_not_in_the_environment_is_said_by_name_and_nothing_is_sent(
    backend: FakeBackend, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_PROVIDER_KEY")
    gateway = start(with_provider(backend, "openai"))
    answered = gateway.chat()
    assert answered.status == 503
    assert "TEST_PROVIDER_KEY" in answered.error["message"]
    assert not backend.asked()
    assert gateway.request("GET", "/health").status == 503


def test_a_key_with_a_line_break_in_it_adds_no_header(backend: FakeBackend, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PROVIDER_KEY", "abc\r\nX-Evil: 1")
    gateway = start(with_provider(backend, "openai"))
    assert gateway.chat().status == 503
    assert not backend.asked()


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_route_falls_back_from_local_to_remote_and_the_other_way(
    backend: FakeBackend, other: FakeBackend, start: Start, api: str
) -> None:
    far = {"versions": [{"name": "v1", "weight": 1, "provider": "cloud"}]}
    endpoints = {"near": endpoint("r1", fallbacks=["far"]), "far": {**far, "fallbacks": ["near"]}}
    gateway = start(config({"r1": backend}, endpoints, providers={"cloud": remote(other, api)}))
    broken = says(503, b'{"error": {"message": "busy"}}')
    good: Act = replies(ANTHROPIC_WHOLE if api == "anthropic" else {"choices": [{"message": {"content": "far"}, "finish_reason": "stop"}]})
    backend.script.append(broken)
    other.script += [good, broken]
    to_remote = gateway.chat(model="near")
    assert (to_remote.status, to_remote.headers["x-llmops-replica"]) == (200, "cloud")
    line = gateway.record(id=to_remote.headers["x-request-id"])
    assert (line["endpoint"], line["fallback_from"], line["provider"]) == ("far", "near", "cloud")
    to_local = gateway.chat(model="far")
    assert (to_local.status, to_local.headers["x-llmops-replica"]) == (200, "r1")
    line = gateway.record(id=to_local.headers["x-request-id"])
    assert (line["endpoint"], line["fallback_from"], line["provider"], line["cost"]) == ("near", "far", "", None)


def test_what_a_provider_cannot_be_asked_goes_to_the_fallback_that_can(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    endpoints = {"far": {"versions": [{"name": "v1", "provider": "cloud"}], "fallbacks": ["near"]}, "near": endpoint("r1")}
    gateway = start(config({"r1": backend}, endpoints, providers={"cloud": remote(other, "anthropic")}))
    assert gateway.chat(model="far", logprobs=True).headers["x-llmops-replica"] == "r1"
    assert not other.asked()


def test_a_provider_is_not_asked_for_tokens_just_to_see_whether_it_lives(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_provider(backend, "openai"))
    health = gateway.request("GET", "/health")
    assert (health.status, health.json["endpoints"]["m"]["ok"], health.json["endpoints"]["m"]["remote"]) == (200, False, True)
    assert gateway.chat().status == 200
    assert gateway.request("GET", "/health").json["endpoints"]["m"]["ok"] is True
    assert len(backend.seen) == 1
