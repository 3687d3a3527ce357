"""Whoever talks nonsense to the socket, or never listens, harms nobody else."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from tests.running_engine import engine_pid, running_engine
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_engine(tmp_path_factory.mktemp("bad")) as running:
        yield running


def _connect(client: Client) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(client.home.socket))
    return connection


def _say(client: Client, data: bytes) -> bytes:
    """Send and read until the engine hangs up."""
    answer = b""
    with _connect(client) as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                answer += part
        except (BrokenPipeError, ConnectionResetError):
            return answer
    return answer


def _rss_bytes(client: Client) -> int:
    status = Path(f"/proc/{engine_pid(client.home)}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"\x00\x01\x02\xff" * 1000,
        os.urandom(100_000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),
        b"GET /v1/status SMTP/9.9\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/sql HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzzzz\r\n",
    ],
    ids=["words", "binary", "random", "tls", "protocol", "header", "path", "length", "chunk"],
)
def test_garbage_is_answered_with_an_error_or_hung_up_on(client: Client, garbage: bytes) -> None:
    answer = _say(client, garbage)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 422 ", b"HTTP/1.1 404 "))
    assert client.answers()


def test_what_is_no_http_is_told_so_in_the_shape_of_every_error(client: Client) -> None:
    head, _, body = _say(client, b"hello\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["kind"] == "usage"


@pytest.mark.parametrize("length", [b"99999999999", b"8388609", b"18446744073709551615"])
@pytest.mark.parametrize("body", [b"", b"{" * 1000])
def test_a_body_that_is_announced_too_long_is_refused_at_once_and_not_awaited(client: Client, length: bytes, body: bytes) -> None:
    head, _, answer = _say(client, b"POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-length: " + length + b"\r\n\r\n" + body).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 413 ")
    error = json.loads(answer)["error"]
    assert (error["kind"], error["exit_code"]) == ("usage", 2)
    assert "8 MiB" in error["message"]
    assert client.answers()


@pytest.mark.parametrize("length", [b"", b" ", b"9" * 5000, b"+5", b"5, 6", b"0x10", b"\xb2"])
def test_a_length_that_is_no_number_harms_nobody(client: Client, length: bytes) -> None:
    request = b"POST /v1/sql HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: " + length + b"\r\n\r\n{}"
    assert _say(client, request).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 422 "))
    assert client.answers()


def test_headers_without_end_are_refused_before_they_fill_the_memory(client: Client) -> None:
    before = _rss_bytes(client)
    _say(client, b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * (32 << 20))
    _say(client, b"GET /v1/status HTTP/1.1\r\nhost: x\r\n" + b"x-many: a\r\n" * (1 << 20))
    assert client.answers()
    assert _rss_bytes(client) - before < 16 << 20


def test_a_hundred_half_requests_keep_nobody_waiting(client: Client) -> None:
    halves = [_connect(client) for _ in range(100)]
    for number, half in enumerate(halves):
        half.sendall((b"GET /v1/sta", b"POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{", b"")[number % 3])
    assert client.status()["engine"]["pid"] == engine_pid(client.home)
    for half in halves:
        half.close()


def test_a_client_that_never_reads_its_stream_slows_nobody_and_fills_no_memory(client: Client) -> None:
    script = """
import json, os
line = json.dumps({"type": "log", "message": "m" * 1000}) + chr(10)
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "w") as file:
    file.write(line * 50_000)
"""
    run = client.submit({"kind": "command", "name": "chatty", "argv": [sys.executable, "-c", script]})["id"]
    wait_for(lambda: client.run(run)["state"] == "succeeded", 60)
    before = _rss_bytes(client)
    deaf = [_connect(client) for _ in range(8)]
    for connection in deaf:
        connection.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.sendall(f"GET /v1/runs/{run}/stream HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert client.answers()
    assert _rss_bytes(client) - before < 48 << 20
    for connection in deaf:
        connection.close()
    wait_for(client.answers)
