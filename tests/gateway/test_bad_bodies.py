"""Requests that ask for what cannot be: each is refused by the name of what is wrong, with the status that clients act on, and recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.fake_backend import FakeBackend, says
from tests.gateway.running import RunningGateway, chat_body

CHAT = "/v1/chat/completions"
DEEP = b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 600 + b"]" * 600 + b"}"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b"{} {}", "invalid_json"),
        (b'{"model":"m",}', "invalid_json"),
        (b"{'model':'m'}", "invalid_json"),
        (b'\xef\xbb\xbf{"model":"m"}', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b'{"model":"\\ud800"}', "invalid_json"),
        (b'{"model":"m","temperature":NaN}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (DEEP, "invalid_json"),
        (DEEP.replace(b'"tools"', b'"stop"'), "invalid_json"),
        (b'{"model":"m","messages":' + b"[" * 600 + b"]" * 600 + b"}", "invalid_value"),
        (b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 600 + b"]" * 600 + b"}]}", "invalid_json"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_json_object_is_refused_at_once(backend: FakeBackend, gateway: RunningGateway, raw: bytes, code: str) -> None:
    answered = gateway.request("POST", CHAT, raw)
    assert (answered.status, answered.error["type"], answered.error["code"]) == (400, "invalid_request_error", code)
    assert not backend.asked()
    line = gateway.record(status=400)
    assert (line["path"], bool(line["error"])) == (CHAT, True)
    assert gateway.status()["in_flight"] == 0


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"model": None}, "model"),
        (CHAT, {"model": ""}, "model"),
        (CHAT, {"model": 5}, "model"),
        (CHAT, {"model": ["m"]}, "model"),
        (CHAT, {"messages": None}, "messages"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": "hello"}, "messages"),
        (CHAT, {"messages": ["hello"]}, "messages[0]"),
        (CHAT, {"messages": [{"content": "x"}]}, "messages[0]"),
        (CHAT, {"messages": [{"role": "user", "content": {"a": 1}}]}, "messages[0].content"),
        (CHAT, {"stream": "yes"}, "stream"),
        (CHAT, {"stream": 1}, "stream"),
        (CHAT, {"stream_options": []}, "stream_options"),
        (CHAT, {"temperature": -1}, "temperature"),
        (CHAT, {"temperature": 1e300}, "temperature"),
        (CHAT, {"temperature": "hot"}, "temperature"),
        (CHAT, {"temperature": True}, "temperature"),
        (CHAT, {"top_p": 1.5}, "top_p"),
        (CHAT, {"max_tokens": -1}, "max_tokens"),
        (CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (CHAT, {"max_tokens": 10**18}, "max_tokens"),
        (CHAT, {"max_tokens": 10**30}, "max_tokens"),
        (CHAT, {"max_completion_tokens": "many"}, "max_completion_tokens"),
        (CHAT, {"n": 0}, "n"),
        (CHAT, {"n": 10**6}, "n"),
        (CHAT, {"top_logprobs": 10**9}, "top_logprobs"),
        (CHAT, {"frequency_penalty": []}, "frequency_penalty"),
        ("/v1/completions", {"prompt": None}, "prompt"),
        ("/v1/completions", {"prompt": {}}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/embeddings", {"input": None}, "input"),
        ("/v1/embeddings", {"input": 5}, "input"),
    ],
)
def test_an_absurd_parameter_is_refused_by_its_name(
    backend: FakeBackend, gateway: RunningGateway, path: str, fields: dict[str, Any], param: str
) -> None:
    answered = gateway.request("POST", path, {**chat_body(), "prompt": "x", "input": "x", **fields})
    assert (answered.status, answered.error["param"], answered.error["code"]) == (400, param, "invalid_value")
    assert param in answered.error["message"]
    assert not backend.asked()
    assert gateway.record(status=400, path=path)["error"]


def test_a_model_that_is_not_served_is_not_found(backend: FakeBackend, gateway: RunningGateway) -> None:
    for name in ("nothing", "m@v9", "M", "m ", "m\n", "x" * 5000):
        answered = gateway.chat(model=name)
        assert (answered.status, answered.error["code"], answered.error["param"]) == (404, "model_not_found", "model")
        assert len(answered.body) < 1000
    assert not backend.asked()
    assert [line["status"] for line in gateway.records()] == [404] * 6


def test_a_prompt_longer_than_the_context_is_the_clients_error_with_the_code_that_clients_look_for(
    backend: FakeBackend, gateway: RunningGateway
) -> None:
    said = {
        "error": {"code": 400, "message": "request (9 tokens) exceeds the available context size (8)", "type": "exceed_context_size_error"}
    }
    backend.script.append(says(400, json.dumps(said).encode()))
    answered = gateway.chat()
    assert (answered.status, answered.error["code"], answered.error["type"]) == (400, "context_length_exceeded", "invalid_request_error")
    line = gateway.record(status=400)
    assert (line["replica"], "context size" in line["error"]) == ("r1", True)
    assert gateway.status()["replicas"]["r1"]["failures"] == 0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"error":{"message":"no such thing","type":"invalid_request_error","param":"x","code":"c"}}', "no such thing"),
        (b'{"error":"in words"}', "in words"),
        (b'{"detail":"of fastapi"}', "of fastapi"),
        (b'{"message":"of vllm","type":"BadRequestError","code":400}', "of vllm"),
        (b'{"detail":[{"msg":"a list"}]}', "the model's server answered 422"),
        (b"<html>a page</html>", "<html>a page</html>"),
        (b"", "the model's server answered 422"),
        (b"\xff\xfe", "��"),
    ],
)
def test_a_servers_refusal_is_told_in_openais_shape_whatever_its_own(
    backend: FakeBackend, gateway: RunningGateway, raw: bytes, message: str
) -> None:
    backend.script.append(says(422, raw))
    answered = gateway.chat()
    assert (answered.status, answered.error["message"]) == (422, message)
    assert gateway.record(status=422)["error"] == message


def test_an_error_of_megabytes_is_recorded_by_its_beginning(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.script.append(says(400, json.dumps({"error": {"message": "x" * 1_000_000}}).encode()))
    assert gateway.chat().status == 400
    assert len(gateway.record(status=400)["error"]) == 500


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "id"),
        ({"id": 5, "rating": "up"}, "id"),
        ({"id": "somebody", "rating": "up"}, "id"),
        ({"id": "req_1", "rating": "great"}, "rating"),
        ({"id": "req_1", "rating": True}, "rating"),
        ({"id": "req_1"}, "rating"),
        ({"id": "req_1", "comment": 5}, "comment"),
        ({"id": "req_1", "comment": "x" * 100_000}, "comment"),
    ],
)
def test_feedback_that_is_none_is_refused_by_name(gateway: RunningGateway, body: dict[str, Any], param: str) -> None:
    answered = gateway.request("POST", "/v1/feedback", body)
    assert (answered.status, answered.error["param"]) == (400, param)
    assert gateway.request("POST", "/v1/feedback", b"{").error["code"] == "invalid_json"
    assert not [line for line in gateway.records() if line["type"] == "feedback"]


def test_feedback_is_kept_beside_the_request_that_it_is_about(gateway: RunningGateway) -> None:
    about = gateway.chat().headers["x-request-id"]
    assert gateway.request("POST", "/v1/feedback", {"id": about, "rating": "up", "comment": "good"}).json["recorded"] is True
    line = gateway.record(type="feedback")
    assert (line["id"], line["rating"], line["comment"]) == (about, "up", "good")


def test_tools_n_logprobs_and_what_the_gateway_does_not_know_pass_through(backend: FakeBackend, gateway: RunningGateway) -> None:
    fields: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "tool_choice": "auto", "n": 2,
        "logprobs": True, "top_logprobs": 3, "stop": ["a", "b"], "seed": 7, "logit_bias": {"5": -100}, "user": "u", "min_p": 0.1,
        "response_format": {"type": "json_object"}, "cache_prompt": True, "grammar": "root ::= x",
    }  # fmt: skip
    two = [
        {"index": index, "message": {"role": "assistant", "content": text, "tool_calls": [{"id": "c", "function": {"name": "f"}}]},
         "finish_reason": "tool_calls", "logprobs": {"content": [{"token": "a", "logprob": -0.5}]}}
        for index, text in enumerate(("a", "b"))
    ]  # fmt: skip
    said = json.dumps({"choices": two, "usage": {"prompt_tokens": 1, "completion_tokens": 4}, "timings": {"a": 1}}).encode()
    backend.script.append(says(200, said))
    answered = gateway.chat(**fields)
    assert backend.asked()[0].body == {**chat_body(), "model": "up-r1", **fields}
    assert answered.body == said
    assert (gateway.record(status=200)["finish"], gateway.record(status=200)["session"]) == ("tool_calls", "u")
