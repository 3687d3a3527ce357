"""Clients that leave, read slowly or not at all: the server's work ends, memory stays bounded, nobody else is harmed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from tests.gateway.fake_backend import Asked, FakeBackend, Gate, delta, says, stream, waits, whole
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, key, post, read_all, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]


async def talks_until_it_is_closed(asked: Asked) -> None:
    try:
        await asked.events_head()
        while True:
            await asked.event(delta("x" * 1000))
    finally:
        asked.backend.closed_on.append(asked.path)


def test_a_client_that_vanishes_before_the_answer_ends_the_servers_work(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.script.append(waits)
    with gateway.connect() as connection:
        connection.sendall(post(chat_body()))
        wait_for(lambda: backend.asked())
    wait_for(lambda: backend.closed_on)
    line = gateway.record(client_gone=True)
    assert (line["status"], line["replica"], line["estimated"], line["error"]) == (499, "r1", True, "the client went away")
    state = gateway.status()
    assert (state["in_flight"], state["replicas"]["r1"]["outstanding"], state["replicas"]["r1"]["failures"]) == (0, 0, 0)


def test_a_client_that_vanishes_in_a_stream_ends_the_servers_work(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.script.append(talks_until_it_is_closed)
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True)))
        read_until(connection, b"xxx")
    wait_for(lambda: backend.closed_on)
    line = gateway.record(client_gone=True)
    assert line["status"] == 499
    assert line["completion_tokens"] >= 1


def test_a_client_that_vanishes_with_a_reset_is_gone_too(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.script.append(waits)
    connection = gateway.connect()
    connection.sendall(post(chat_body()))
    wait_for(lambda: backend.asked())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
    wait_for(lambda: backend.closed_on)
    assert gateway.record(client_gone=True)["status"] == 499


def test_a_client_that_leaves_while_the_gateway_connects_leaves_nothing_behind(backend: FakeBackend, gateway: RunningGateway) -> None:
    for _ in range(20):
        with gateway.connect() as connection:
            connection.sendall(post(chat_body()))
    wait_for(lambda: len(gateway.records()) == 20)
    assert gateway.chat().status == 200
    state = gateway.status()
    assert (state["in_flight"], state["replicas"]["r1"]["outstanding"], state["replicas"]["r1"]["outstanding_tokens"]) == (0, 0, 0)
    assert state["replicas"]["r1"]["breaker"] == "closed"


def test_pipelined_requests_of_a_client_that_left_are_not_sent_to_a_server(backend: FakeBackend, gateway: RunningGateway) -> None:
    backend.script.append(waits)
    with gateway.connect() as connection:
        connection.sendall(post(chat_body()) * 20)
        wait_for(lambda: backend.asked())
    gateway.record(client_gone=True)
    assert gateway.chat().status == 200
    assert len(backend.asked()) == 2


def test_a_client_that_does_not_read_holds_its_server_back_and_harms_nobody(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"stall_seconds": 0.3, "request_seconds": 2}))
    backend.script.append(talks_until_it_is_closed)
    with gateway.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(post(chat_body(stream=True)))
        client = wait_for(lambda: next((client for client in gateway.process.gateway.clients if client.full), None))
        for _ in range(10):
            assert gateway.chat().status == 200
        assert client.transport is not None
        assert client.transport.get_write_buffer_size() < 4 << 20
        line = gateway.record(status=504)
        assert line["error"].startswith("the request took longer")
        assert gateway.status()["replicas"]["r1"]["failures"] == 0, "its client was slow, not the server"
        wait_for(lambda: client.transport is None, 10, "what is never read is thrown away")
    wait_for(lambda: backend.closed_on)


def test_a_slow_reader_gets_its_whole_answer_though_its_connection_ends_with_it(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, limits={"stall_seconds": 3}))
    text = "long " * 1_000_000
    backend.script.append(says(200, json.dumps(whole(text)).encode()))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(), extra="Connection: close\r\n"))
        head = read_until(connection, b"\r\n\r\n")
        client = next(iter(gateway.process.gateway.clients))
        began = monotonic()
        wait_for(lambda: monotonic() - began > 2.5, what="longer than an unread end may linger")
        assert client.transport is not None
        body = head.partition(b"\r\n\r\n")[2] + read_all(connection)
    assert json.loads(body)["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("streamed", [False, True])
def test_a_byte_at_a_time_is_read_right(backend: FakeBackend, gateway: RunningGateway, streamed: bool) -> None:
    with gateway.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.sendall(post(chat_body(stream=streamed), extra="Connection: close\r\n"))
        answer = b""
        while byte := connection.recv(1):
            answer += byte
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"0\r\n\r\n" if streamed else b"}}")


def test_many_idle_streams_are_held_and_end_as_they_should(backend: FakeBackend, gateway: RunningGateway) -> None:
    gate = Gate(backend)
    backend.otherwise = stream(["x"], gate.passed)
    connections = [gateway.connect() for _ in range(200)]
    for connection in connections:
        connection.sendall(post(chat_body(stream=True)))
    for connection in connections:
        read_until(connection, b"assistant")
    assert gateway.status()["in_flight"] == 200
    for connection in connections[:100]:
        connection.close()
    wait_for(lambda: gateway.status()["in_flight"] == 100)
    gate.open()
    for connection in connections[100:]:
        assert b"[DONE]" in read_until(connection, b"0\r\n\r\n")
        connection.close()
    lines = wait_for(lambda: lines if len(lines := gateway.records()) == 200 else None)
    assert sorted(line["status"] for line in lines) == [200] * 100 + [499] * 100
    assert len({line["id"] for line in lines}) == 200


def test_leaving_gives_a_keys_place_back(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": endpoint("r1")}, auth="keys", keys=[key("a", concurrent=1)]))
    backend.script.append(waits)
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(), extra="Authorization: Bearer a\r\n"))
        wait_for(lambda: backend.asked())
        assert gateway.chat(headers={"Authorization": "Bearer a"}).status == 429
    gateway.record(client_gone=True)
    assert gateway.chat(headers={"Authorization": "Bearer a"}).status == 200
