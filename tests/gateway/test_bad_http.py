"""What is no request, or a hostile one: refused in OpenAI's shape, recorded, and the gateway goes on."""

from __future__ import annotations

import json
import re
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from llmops_tui.engine.serving.gateway import http_request
from tests.gateway.fake_backend import FakeBackend
from tests.gateway.running import RunningGateway, chat_body, config, post, read_all, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]
BODY = json.dumps(chat_body()).encode()
LINE = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


HOSTILE = {
    "both lengths": LINE + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "both lengths, chunked first": LINE + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths that differ": LINE + b"Content-Length: 0\r\n" + LENGTH + b"\r\n" + BODY,
    "two lengths that agree": LINE + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": LINE + b"Content-Length: 5, 5\r\n\r\n" + BODY,
    "a length with a sign": LINE + b"Content-Length: +5\r\n\r\n" + BODY,
    "a hexadecimal length": LINE + b"Content-Length: 0x5\r\n\r\n" + BODY,
    "an empty length": LINE + b"Content-Length:\r\n\r\n" + BODY,
    "a length beyond all numbers": LINE + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "a folded line": LINE + b"X-A: b\r\n c: d\r\n" + LENGTH + b"\r\n" + BODY,
    "bare line feeds": LINE.replace(b"\r\n", b"\n") + LENGTH.replace(b"\r\n", b"\n") + b"\n" + BODY,
    "a bare line feed within": LINE + b"X-A: b\n" + LENGTH + b"\r\n" + BODY,
    "a bare carriage return": LINE + b"X-A: b\rContent-Length: 0\r\n" + LENGTH + b"\r\n" + BODY,
    "a null in a value": LINE + b"X-A: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
    "a null in a name": LINE + b"X\0A: a\r\n" + LENGTH + b"\r\n" + BODY,
    "a space before the colon": LINE + b"Content-Length : 5\r\n\r\n" + BODY,
    "a space before the name": LINE + b" Content-Length: 5\r\n\r\n" + BODY,
    "chunked twice": LINE + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two transfer encodings": LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a coding we do not know": LINE + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "gzip": LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked in HTTP/1.0": LINE.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk size that is none": LINE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + SMUGGLED,
    "a chunk size with a sign": LINE + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED,
    "a chunk size beyond all numbers": LINE + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a chunk with more than its size": LINE + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
    "another protocol's version": b"GET / HTTP/3.7\r\nHost: localhost\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method that is none": b"GTE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a wish to change the protocol": LINE + LENGTH + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + BODY,
    "a tunnel": b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def refusal(answer: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the error of the one answer that came."""
    assert len(re.findall(rb"HTTP/1.1 \d{3} ", answer)) == 1, answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split()[1]), error


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_answered(
    backend: FakeBackend, gateway: RunningGateway, raw: bytes
) -> None:
    status, error = refusal(gateway.raw(raw))
    assert status in (400, 413)
    assert error["code"] in ("malformed_http", "upgrade_refused", "body_too_large")
    assert not backend.asked()
    line = gateway.record(status=status)
    assert line["error"]
    assert not any("smuggled" in record["path"] for record in gateway.records())
    assert gateway.chat().status == 200


def test_bytes_behind_a_request_that_ends_its_connection_are_not_answered(backend: FakeBackend, gateway: RunningGateway) -> None:
    answer = gateway.raw(post(chat_body(), extra="Connection: close\r\n") + SMUGGLED)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("cut", [5, 30, len(LINE), len(LINE + LENGTH) + 2, len(LINE + LENGTH) + 20])
def test_half_a_request_whose_client_still_listens_is_answered_and_recorded(gateway: RunningGateway, cut: int) -> None:
    with gateway.connect() as connection:
        connection.sendall((LINE + LENGTH + b"\r\n" + BODY)[:cut])
        connection.shutdown(socket.SHUT_WR)
        status, error = refusal(read_all(connection))
    assert (status, error["code"]) == (400, "incomplete_request")
    assert gateway.record(status=400)["error"]


@pytest.mark.parametrize("cut", [5, 30, len(LINE + LENGTH) + 20])
def test_half_a_request_is_given_up_after_its_time(backend: FakeBackend, start: Start, cut: int) -> None:
    gateway = start(config({"r1": backend}, limits={"header_seconds": 0.2}))
    status, error = refusal(gateway.raw((LINE + LENGTH + b"\r\n" + BODY)[:cut]))
    assert (status, error["code"]) == (408, "request_timeout")
    assert gateway.record(status=408)["error"]


def test_a_body_that_comes_drop_by_drop_is_given_up_after_the_time_of_a_request(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"header_seconds": 5, "request_seconds": 0.5}))
    with gateway.connect() as connection:
        connection.sendall(LINE + b"Content-Length: 100000\r\n\r\n")
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b" ")
        assert refusal(read_all(connection))[0] == 408


def test_a_hundred_megabytes_are_refused_by_their_length_before_they_are_sent(gateway: RunningGateway) -> None:
    status, error = refusal(gateway.raw(LINE + b"Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"))
    assert (status, error["code"]) == (413, "body_too_large")
    assert gateway.record(status=413)["error"]


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 0x10000 + b"\r\n"),  # a body
        (b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 0x10000),  # a chunk's extension
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 0x10000),  # a trailer
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 10_000),  # trailers
        (b"X: ", b"x" * 0x10000),  # a header
        (b"", b"X: y\r\n" * 10_000),  # headers
    ],
)
def test_what_comes_without_end_is_refused_long_before_a_hundred_megabytes(
    backend: FakeBackend, start: Start, head: bytes, piece: bytes
) -> None:
    gateway = start(config({"r1": backend}, limits={"body_bytes": 1 << 20}))
    with gateway.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        connection.sendall(LINE + head)
        sent = 0
        while not select.select([connection], [], [], 0)[0] and sent < 100_000_000:
            connection.sendall(piece)
            sent += len(piece)
        status, _ = refusal(read_until(connection, b"}}"))
    assert status in (413, 431)
    assert sent < 30_000_000
    assert gateway.record(status=status)["error"]
    assert gateway.chat().status == 200


def test_an_answer_can_be_read_while_the_refused_body_is_still_being_sent(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"body_bytes": 1000}))
    assert refusal(gateway.raw(LINE + b"Content-Length: 500000\r\n\r\n" + b" " * 500_000))[0] == 413


def test_a_target_too_long_is_refused(gateway: RunningGateway) -> None:
    assert refusal(gateway.raw(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 414


def test_a_client_that_waits_to_be_told_to_go_on_is_told(gateway: RunningGateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(LINE + LENGTH + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_request_byte_by_byte_is_the_same_request(backend: FakeBackend, gateway: RunningGateway) -> None:
    with gateway.connect() as connection:
        for byte in LINE + LENGTH + b"Connection: close\r\n\r\n" + BODY:
            connection.sendall(bytes([byte]))
        assert read_all(connection).startswith(b"HTTP/1.1 200")
    assert backend.asked()[0].body["messages"] == chat_body()["messages"]


def test_the_answer_to_head_is_followed_by_nothing_on_its_connection(gateway: RunningGateway) -> None:
    answer = gateway.raw(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"connection: close" in answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat/completions", 405), ("DELETE", "/v1/models", 405), ("GET", "/", 404), ("POST", "/v1/images", 404),
     ("GET", "/control/status", 404), ("POST", "/control/stop", 404), ("GET", "/v1/models/../../control/status", 404)],
)  # fmt: skip
def test_what_is_not_there_is_said_and_recorded(gateway: RunningGateway, method: str, path: str, status: int) -> None:
    answered = gateway.request(method, path)
    assert answered.status == status
    assert answered.error["message"]
    assert gateway.record(status=status)["path"] == path


def test_what_stands_behind_the_question_mark_is_not_kept(gateway: RunningGateway) -> None:
    gateway.request("GET", "/v1/nothing?api_key=sk-secret")
    assert gateway.record(status=404)["path"] == "/v1/nothing"
    assert "sk-secret" not in json.dumps(gateway.records())


def test_a_client_that_asks_and_asks_and_never_reads_costs_bounded_memory_and_gets_all_once_it_reads(
    backend: FakeBackend, start: Start
) -> None:
    gateway = start(config({"r1": backend}))
    asked = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Pad: " + b"x" * 4000 + b"\r\n\r\n"
    with gateway.connect() as connection:
        connection.setblocking(False)
        count, rest = 0, b""
        while select.select([], [connection], [], 0.5)[1]:  # until the gateway takes no more
            rest = rest or asked * 10
            taken = connection.send(rest)
            rest = rest[taken:]
            count += taken
            assert count < 64 << 20, "the gateway reads on without an end"
        unsent = [client.transport.get_write_buffer_size() for client in gateway.process.gateway.clients if client.transport is not None]
        assert max(unsent) < 1 << 20
        connection.settimeout(20)
        whole = count // len(asked)
        seen, kept = 0, b""
        while seen < whole:
            part = connection.recv(1 << 20)
            assert part, (seen, whole)
            kept = kept[-20:] + part
            seen += kept.count(b"HTTP/1.1 200 OK") - kept[: len(kept) - len(part)].count(b"HTTP/1.1 200 OK")
    assert gateway.chat().status == 200


def test_more_connections_than_allowed_are_refused_and_room_is_made_when_one_leaves(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"connections": 2}))
    with gateway.connect(), gateway.connect() as second:
        wait_for(lambda: len(gateway.process.gateway.clients) == 2)
        status, error = refusal(gateway.raw(b""))
        assert (status, error["code"]) == (503, "too_many_connections")
        second.close()
        wait_for(lambda: len(gateway.process.gateway.clients) == 1)
        assert gateway.chat().status == 200


def test_bodies_of_many_clients_together_are_bounded_and_room_is_made_when_they_leave(
    backend: FakeBackend, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_request, "_MOST_HELD", 100_000)
    gateway = start(config({"r1": backend}))
    bodies = gateway.process.gateway.bodies
    with gateway.connect() as first, gateway.connect() as second:
        for connection in (first, second):
            connection.sendall(LINE + b"Content-Length: 90000\r\n\r\n" + b" " * 45_000)
        wait_for(lambda: bodies.held == 90_000)
        status, error = refusal(gateway.raw(LINE + b"Content-Length: 40000\r\n\r\n" + b" " * 20_000))
        assert (status, error["code"]) == (503, "too_much_at_once")
        assert gateway.chat().status == 200
    wait_for(lambda: bodies.held == 0)
    assert gateway.chat("x" * 90_000).status == 200
    assert bodies.held == 0
    assert gateway.record(status=503)["error"]


def test_a_body_in_chunks_of_one_byte_is_a_body(backend: FakeBackend, gateway: RunningGateway) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    answer = gateway.raw(LINE + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert backend.asked()[0].body["messages"] == chat_body()["messages"]


def test_an_idle_connection_is_closed_after_its_time(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"keepalive_seconds": 0.1}))
    with gateway.connect() as silent, gateway.connect() as answered:
        answered.sendall(post(chat_body()))
        assert read_all(answered).startswith(b"HTTP/1.1 200")
        assert read_all(silent) == b""
