"""What a client gets, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.fake_backend import FakeBackend
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, key, post, read_all

Start = Callable[[dict[str, Any]], RunningGateway]


def test_a_chat_completion_comes_back_as_the_server_said_it_and_is_recorded(backend: FakeBackend, gateway: RunningGateway) -> None:
    answered = gateway.chat("hello", temperature=0.5)
    assert answered.status == 200
    assert answered.json["choices"][0]["message"]["content"] == "hello"
    assert (answered.headers["x-llmops-version"], answered.headers["x-llmops-replica"]) == ("v1", "r1")
    upstream = backend.asked()[0]
    assert upstream.body == {"model": "up-r1", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}
    assert "authorization" not in upstream.headers
    line = gateway.record(id=answered.headers["x-request-id"])
    assert (line["type"], line["endpoint"], line["version"], line["replica"]) == ("request", "m", "v1", "r1")
    assert (line["status"], line["finish"], line["prompt_tokens"], line["completion_tokens"]) == (200, "stop", 7, 3)
    assert (line["stream"], line["path"], line["attempts"], line["error"]) == (False, "/v1/chat/completions", 1, "")
    assert line["total_ms"] > line["queue_ms"] >= 0
    assert len(line["prompt_hash"]) == len(line["response_hash"]) == 32


def test_a_stream_passes_event_by_event_and_its_tokens_are_counted_by_usage(backend: FakeBackend, gateway: RunningGateway) -> None:
    answered = gateway.chat(stream=True)
    assert answered.headers["content-type"].startswith("text/event-stream")
    texts = [event["choices"][0]["delta"].get("content") for event in answered.events[:-1]]
    assert texts == ["", "hel", "lo", " you", None]
    assert answered.events[-1] == "[DONE]"
    assert backend.asked()[0].body["stream_options"] == {"include_usage": True}
    line = gateway.record(stream=True)
    assert (line["prompt_tokens"], line["completion_tokens"], line["finish"]) == (7, 3, "stop")
    assert 0 <= line["queue_ms"] <= line["ttft_ms"] <= line["total_ms"]
    assert line["itl_max_ms"] >= line["itl_ms"] >= 0


def test_a_client_that_asks_for_usage_gets_it(gateway: RunningGateway) -> None:
    answered = gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answered.events[-2]["usage"]["completion_tokens"] == 3


def test_the_same_text_has_the_same_hash_streamed_or_not(gateway: RunningGateway, backend: FakeBackend) -> None:
    import json

    from tests.gateway.fake_backend import says, stream, whole

    text = 'a "quoted" line\nand é \\ more'
    backend.script.extend([says(200, json.dumps(whole(text)).encode()), stream([text[:5], text[5:9], text[9:]])])
    first = gateway.record(id=gateway.chat().headers["x-request-id"])
    second = gateway.record(id=gateway.chat(stream=True).headers["x-request-id"])
    assert first["response_hash"] == second["response_hash"] != ""
    assert first["prompt_hash"] == second["prompt_hash"]


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", {"prompt": "a"}), ("/v1/embeddings", {"input": ["a"]})])
def test_completions_and_embeddings_go_their_way(gateway: RunningGateway, path: str, body: dict[str, Any]) -> None:
    answered = gateway.request("POST", path, {"model": "m", **body})
    assert answered.status == 200
    assert gateway.record(path=path)["prompt_tokens"] in (2, 7)


def test_pipelined_requests_are_answered_in_their_order_on_one_connection(gateway: RunningGateway) -> None:
    asked = (
        b"".join(post(chat_body(f"say {number}")) for number in range(5))
        + b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    answer = gateway.raw(asked)
    assert answer.count(b"HTTP/1.1 200 OK") == 6
    assert answer.rindex(b'"object":"list"') > answer.rindex(b"chat.completion")


def test_an_http_1_0_client_gets_its_stream_without_chunks(gateway: RunningGateway) -> None:
    answer = gateway.raw(post(chat_body(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_models_lists_endpoints_aliases_and_versions_that_the_key_may_use(start: Start, backend: FakeBackend) -> None:
    endpoints = {"m": endpoint("r1", aliases=["gpt"]), "n": endpoint("r1")}
    gateway = start(config({"r1": backend}, endpoints, auth="keys", keys=[key("s", endpoints=["m"])]))
    answered = gateway.request("GET", "/v1/models", headers={"authorization": "Bearer s"})
    assert [model["id"] for model in answered.json["data"]] == ["m", "gpt", "m@v1"]
    for name in ("gpt", "m@v1", "m:v1"):
        assert gateway.chat(model=name, headers={"authorization": "Bearer s"}).status == 200


def test_the_record_is_there_before_the_last_byte(gateway: RunningGateway) -> None:
    for streamed in (False, True):
        with gateway.connect() as connection:
            connection.sendall(post(chat_body(stream=streamed), extra="Connection: close\r\n"))
            answer = b""
            while not answer.endswith(b"0\r\n\r\n" if streamed else b'"total_tokens": 10}}'):
                answer += connection.recv(1)
            assert any(line["stream"] is streamed for line in gateway.records())
            read_all(connection)
