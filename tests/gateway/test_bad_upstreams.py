"""Servers that lie, stall, break off or flood: the client sees an error and never half an answer as a whole one; the gateway goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.fake_backend import Act, Asked, FakeBackend, Gate, delta, hangs_up, says, sends, stream, waits, whole
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, post, read_all, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"content-type: application/json\r\n"
EVENTS = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def floods_head(asked: Asked) -> None:
    await asked.send(OK)
    while True:
        await asked.send(b"x-more: " + b"a" * 8000 + b"\r\n")


async def floods_event(asked: Asked) -> None:
    await asked.events_head()
    while True:
        await asked.chunk(b"data: " + b"a" * 60_000)


async def floods_json(asked: Asked) -> None:
    await asked.send(JSON + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        await asked.chunk(b" " * 60_000)


NONSENSE: dict[str, Act] = {
    "no HTTP": sends(b"hello, I am a server\r\n\r\n"),
    "HTTP/2": sends(b"\0\0\x12\4\0\0\0\0\0"),
    "a status that is none": sends(b"HTTP/1.1 abc OK\r\n\r\n"),
    "both lengths": sends(JSON + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a length that is none": sends(JSON + b"content-length: two\r\n\r\n{}"),
    "less than its length": sends(JSON + b"content-length: 9000\r\n\r\n" + json.dumps(whole()).encode()),
    "a head only": sends(JSON + b"content-length: 90\r\n\r\n"),
    "half a head": sends(JSON + b"content-le"),
    "no JSON": says(200, b"I cannot do that"),
    "half JSON": says(200, b'{"choices": ['),
    "a list": says(200, b"[1, 2]"),
    "an object of something else": says(200, b'{"hello": "world"}'),
    "nothing": says(200, b""),
    "a page": says(200, b"<html></html>", "text/html"),
    "a stream that nobody asked for": stream(["a"]),
    "another place": sends(b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n"),
    "no content": sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a chunk that is none": sends(JSON + b"transfer-encoding: chunked\r\n\r\nzz\r\n"),
    "a head without end": floods_head,
    "JSON without end": floods_json,
    "a broken connection": hangs_up,
}


@pytest.mark.parametrize("act", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_a_502_of_the_gateway_and_the_next_answer_is_right(backend: FakeBackend, gateway: RunningGateway, act: Act) -> None:
    backend.script.append(act)
    answered = gateway.chat()
    assert (answered.status, answered.error["type"]) == (502, "upstream_error")
    line = gateway.record(status=502)
    assert (line["replica"], line["attempts"]) == ("r1", 1)
    assert gateway.status()["replicas"]["r1"]["failures"] == 1
    wait_for(lambda: gateway.status()["replicas"]["r1"]["outstanding"] == 0)
    again = gateway.chat()
    assert (again.status, again.json["choices"][0]["message"]["content"]) == (200, "hello")


NO_STREAM: dict[str, Act] = {
    "a whole answer": says(200, json.dumps(whole()).encode()),
    "a page": says(200, b"<html></html>", "text/html"),
    "no content type": sends(OK + b"content-length: 2\r\n\r\n{}"),
    "an end before the first event": sends(EVENTS, b"0\r\n\r\n"),
    "nothing but comments": sends(EVENTS, chunk(b": hello\n\n"), b"0\r\n\r\n"),
    "an event without end": floods_event,
    "an error as its first event": sends(
        EVENTS, chunk(b'data: {"error":{"message":"out of memory","type":"server_error"}}\n\n'), b"0\r\n\r\n"
    ),
    "llama.cpp's error line": sends(
        EVENTS, chunk(b'error: {"code":500,"message":"out of memory","type":"server_error"}\n\n'), b"0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("act", NO_STREAM.values(), ids=NO_STREAM.keys())
def test_what_is_no_stream_is_an_error_where_a_stream_was_asked_for(backend: FakeBackend, gateway: RunningGateway, act: Act) -> None:
    backend.script.append(act)
    answer = gateway.raw(post(chat_body(stream=True), extra="Connection: close\r\n"))
    assert b'"error"' in answer
    assert b"[DONE]" not in answer
    line = gateway.record(stream=True)
    assert line["status"] in (500, 502)
    assert line["error"]
    assert gateway.chat(stream=True).events[-1] == "[DONE]"


BROKEN_OFF: dict[str, tuple[bytes, ...]] = {
    "the connection": (chunk(b"data: " + json.dumps(delta("par")).encode() + b"\n\n"),),
    "the stream, properly": (chunk(b"data: " + json.dumps(delta("par")).encode() + b"\n\n"), b"0\r\n\r\n"),
    "in the middle of an event": (chunk(b"data: " + json.dumps(delta("par")).encode() + b'\n\ndata: {"choi'), b"0\r\n\r\n"),
    "with what is no chunk": (chunk(b"data: " + json.dumps(delta("par")).encode() + b"\n\n"), b"nonsense\r\n"),
}


@pytest.mark.parametrize("pieces", BROKEN_OFF.values(), ids=BROKEN_OFF.keys())
def test_a_stream_that_breaks_off_is_visibly_broken_off_and_never_asked_again(
    backend: FakeBackend, other: FakeBackend, start: Start, pieces: tuple[bytes, ...]
) -> None:
    gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", retries=3, fallbacks=["n"]), "n": endpoint("r2")}))
    gate = Gate(backend)

    async def breaks_off(asked: Asked) -> None:
        await asked.send(EVENTS + pieces[0])
        await gate.passed()
        for piece in pieces[1:]:
            await asked.send(piece)
        asked.writer.close()

    backend.script.append(breaks_off)
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True)))
        answer = read_until(connection, b'"par"')
        gate.open()
        answer += read_all(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert answer.count(b'"content": "par"') == 1
    assert b'"code":"upstream_closed"' in answer
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n"), "a client would take it as whole"
    line = gateway.record(stream=True)
    assert (line["status"], line["attempts"], line["estimated"]) == (502, 1, True)
    assert line["prompt_tokens"] >= 1
    assert line["completion_tokens"] == 1
    assert len(backend.asked()) + len(other.asked()) == 1


def test_a_stream_whose_server_forgets_to_say_done_is_whole_when_it_had_finished(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.script.append(
        sends(EVENTS, *(chunk(b"data: " + json.dumps(delta(*each)).encode() + b"\n\n") for each in (("a",), ("", "stop"))), b"0\r\n\r\n")
    )
    answered = gateway.chat(stream=True)
    assert [event for event in answered.events if event == "[DONE]"] == ["[DONE]"]
    assert (gateway.record(stream=True)["status"], gateway.record(stream=True)["finish"]) == (200, "stop")


def test_a_server_that_answers_twice_is_heard_once(backend: FakeBackend, gateway: RunningGateway) -> None:
    one = json.dumps(whole("first")).encode()
    two = json.dumps(whole("second")).encode()
    both = b"".join(JSON + b"content-length: %d\r\n\r\n" % len(body) + body for body in (one, two))
    backend.script.append(sends(both))
    assert gateway.chat().json["choices"][0]["message"]["content"] == "first"
    assert gateway.chat().json["choices"][0]["message"]["content"] == "hello"


def test_answers_whose_heads_are_alike_are_each_their_own(backend: FakeBackend, gateway: RunningGateway) -> None:
    texts = ["one", "two", "three", "x" * 5000, "", "four"]
    for text in texts:
        backend.script.append(says(200, json.dumps(whole(text)).encode()))
        assert gateway.chat().json["choices"][0]["message"]["content"] == text
    backend.script += [says(400, b'{"error": {"message": "no"}}'), says(200, b'{"choi'), says(200, b"")]
    assert [gateway.chat().status for _ in range(4)] == [400, 502, 502, 200]


@pytest.mark.parametrize(("announced", "most"), [("keep-alive: timeout=5, max=12\r\n", 2), ("keep-alive: timeout=5\r\n", 40), ("", 40)])
def test_a_connection_carries_what_its_server_announced_and_not_the_last_of_it(
    backend: FakeBackend, gateway: RunningGateway, announced: str, most: int
) -> None:
    carried: Counter[tuple[str, int]] = Counter()

    async def answer(asked: Asked) -> None:
        carried[asked.writer.get_extra_info("peername")] += 1
        await asked.answer(200, json.dumps(whole()).encode(), extra=announced)

    backend.otherwise = answer
    assert {gateway.chat().status for _ in range(40)} == {200}
    assert max(carried.values()) == most


def test_an_answer_that_nobody_asked_for_is_given_to_nobody(backend: FakeBackend, gateway: RunningGateway) -> None:
    two = json.dumps(whole("second")).encode()
    gate = Gate(backend)

    async def answers_and_then_again(asked: Asked) -> None:
        await asked.answer(200, json.dumps(whole("first")).encode())
        await gate.passed()
        await asked.answer(200, two)
        backend.closed_on.append("sent")

    backend.script.append(answers_and_then_again)
    assert gateway.chat().json["choices"][0]["message"]["content"] == "first"
    gate.open()
    wait_for(lambda: backend.closed_on)
    for _ in range(3):
        assert gateway.chat().json["choices"][0]["message"]["content"] == "hello"


def test_informational_answers_before_the_answer_are_passed_over(backend: FakeBackend, gateway: RunningGateway) -> None:
    body = json.dumps(whole()).encode()
    backend.script.append(
        sends(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(body) + body)
    )
    assert gateway.chat().status == 200


def test_an_answer_without_a_length_is_whole_when_its_connection_closes(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.script.append(sends(JSON + b"\r\n", json.dumps(whole()).encode()))
    assert gateway.chat().json["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_server_that_says_nothing_is_left_after_its_time_and_its_work_ends(backend: FakeBackend, start: Start, streamed: bool) -> None:
    gateway = start(config({"r1": backend}, limits={"first_byte_seconds": 0.2}))
    backend.script.append(waits)
    answered = gateway.chat(stream=streamed)
    assert (answered.status, answered.error["code"], answered.error["type"]) == (504, "upstream_timeout", "timeout_error")
    wait_for(lambda: backend.closed_on, what="the connection to the silent server is closed")
    assert gateway.record(status=504)["replica"] == "r1"


def test_a_stream_that_stands_still_is_ended_visibly(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"stall_seconds": 0.3}))
    backend.script.append(stream(["one", "two"], Gate(backend).passed))
    answer = gateway.raw(post(chat_body(stream=True)))
    assert b'"code":"upstream_stalled"' in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert gateway.record(stream=True)["status"] == 504


def test_a_whole_answer_that_stands_still_is_ended(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"stall_seconds": 0.3}))

    async def stalls(asked: Asked) -> None:
        await asked.send(JSON + b"content-length: 500\r\n\r\n{")
        await Gate(backend).passed()

    backend.script.append(stalls)
    answered = gateway.chat()
    assert (answered.status, answered.error["code"]) == (504, "upstream_stalled")


def test_a_request_has_an_end_however_busily_its_server_talks(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"request_seconds": 0.5}))

    async def talks(asked: Asked) -> None:
        await asked.events_head()
        while True:
            await asked.event(delta("more"))

    backend.script.append(talks)
    answer = gateway.raw(post(chat_body(stream=True)))
    assert b'"code":"request_timeout"' in answer
    assert gateway.record(stream=True)["status"] == 504
    assert gateway.status()["in_flight"] == 0


def test_a_server_that_is_not_there_is_a_502_in_the_time_of_a_refusal(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.die()
    answered = gateway.chat()
    assert (answered.status, answered.error["code"]) == (502, "upstream_failed")
    assert gateway.record(status=502)["total_ms"] < 4000


@pytest.mark.parametrize(("status", "expected"), [(500, 500), (501, 501), (502, 502), (503, 503), (504, 504), (599, 502), (429, 429)])
def test_a_servers_failure_keeps_its_status_where_it_has_one(
    backend: FakeBackend, gateway: RunningGateway, status: int, expected: int
) -> None:
    backend.script.append(says(status, b'{"error":{"message":"it failed"}}'))
    answered = gateway.chat()
    assert (answered.status, answered.error["message"]) == (expected, "it failed")
    assert ("retry-after" in answered.headers) is (status in (429, 503))
    assert gateway.record(status=expected)["error"] == "it failed"


def test_a_connection_that_the_server_had_closed_costs_nothing(backend: FakeBackend, gateway: RunningGateway) -> None:
    """Servers close kept connections at any moment; a request sent just then is sent again on a new one."""

    async def answers_and_closes(asked: Asked) -> None:
        await asked.answer(200, json.dumps(whole()).encode())
        await asked.reader.readline()  # the next request begins: now it breaks, without a byte
        asked.close()

    for _ in range(3):
        backend.script.append(answers_and_closes)
        assert gateway.chat().status == 200
        assert gateway.chat().status == 200
    lines = [line for line in gateway.records() if line["status"] == 200]
    assert [line["attempts"] for line in lines] == [1, 2] * 3
    assert gateway.status()["replicas"]["r1"]["failures"] == 0


def test_no_record_is_lost_and_none_is_there_twice_among_all_kinds_of_ends(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"first_byte_seconds": 0.2}))
    acts = [*NONSENSE.values(), *NO_STREAM.values(), waits]
    ids = []
    for number, act in enumerate(acts):
        backend.script.append(act)
        with gateway.connect() as connection:
            connection.sendall(post(chat_body(f"number {number}", stream=act in NO_STREAM.values())))
            head = read_until(connection, b"\r\n\r\n")
            ids.append(head.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode())
        backend.script.clear()
        assert gateway.reload({**config({"r1": backend}, limits={"first_byte_seconds": 0.2}), "revision": number + 2})[0] == 200
        gateway.process.gateway.core.routes.replicas["r1"].breaker.succeeded()
    lines = wait_for(lambda: lines if len(lines := gateway.records()) == len(acts) else None)
    assert sorted(line["id"] for line in lines) == sorted(ids)
    assert gateway.status()["in_flight"] == 0
