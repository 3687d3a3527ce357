"""A gateway on an ephemeral port, on its own loop in a thread, as in its process; and clients that see every byte."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
import threading
from pathlib import Path
from typing import Any

import uvloop

from llmops_tui.engine.serving.gateway.process import GatewayProcess
from tests.gateway.fake_backend import FakeBackend
from tests.waiting import wait_for


def endpoint(*replicas: str, **fields: Any) -> dict[str, Any]:
    """An endpoint of one version on these replicas."""
    return {"versions": [{"name": "v1", "model": "m@v1", "weight": 1, "replicas": list(replicas)}], **fields}


def config(backends: dict[str, FakeBackend], endpoints: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    replicas = {name: {"host": "127.0.0.1", "port": backend.port, "model": f"up-{name}"} for name, backend in backends.items()}
    return {
        "revision": 1,
        "listen": {"host": "127.0.0.1", "port": 0},
        "replicas": replicas,
        "endpoints": endpoints if endpoints is not None else {"m": endpoint(*backends)},
        **fields,
    }


def key(secret: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"key-{secret}", "sha256": hashlib.sha256(secret.encode()).hexdigest(), **fields}


class RunningGateway:
    """The gateway process's parts in a thread; `home` is its directory (HOME/serving/gateway)."""

    def __init__(self, directory: Path, configuration: dict[str, Any] | str) -> None:
        self.directory = directory
        self._configuration = configuration
        self._closed = False
        directory.mkdir(parents=True, exist_ok=True)
        self.write(configuration)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.process = self.call(self._start())
        self.port: int = self.process.port

    async def _start(self) -> GatewayProcess:
        process = GatewayProcess(asyncio.get_running_loop(), self.directory)
        await process.start()
        return process

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def write(self, configuration: dict[str, Any] | str) -> None:
        text = configuration if isinstance(configuration, str) else json.dumps(configuration)
        beside = self.directory / "config.json.new"
        beside.write_text(text)
        beside.replace(self.directory / "config.json")

    def reload(self, configuration: dict[str, Any] | str) -> tuple[int, dict[str, Any]]:
        self.write(configuration)
        return self.control("POST", "/control/reload")

    def control(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.directory / "control.sock"))
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer

    def status(self) -> dict[str, Any]:
        return self.control("GET", "/control/status")[1]

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answered:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, raw, headers or {})
        response = connection.getresponse()
        answered = Answered(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answered

    def chat(self, text: str = "hello", model: str = "m", headers: dict[str, str] | None = None, **fields: Any) -> Answered:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.request("POST", "/v1/chat/completions", body, headers)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are; everything that comes back until the gateway closes."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def records(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        for path in sorted((self.directory / "spool").glob("requests-*.jsonl")):
            lines += [json.loads(line) for line in path.read_bytes().splitlines()]
        return lines

    def record(self, **wanted: Any) -> dict[str, Any]:
        """The record that has these values, once it is there."""
        return wait_for(
            lambda: next((line for line in self.records() if all(line.get(name) == value for name, value in wanted.items())), None),
            5,
            f"a record of {wanted}",
        )

    def again(self) -> RunningGateway:
        """Another one in the same place, after this one has ended."""
        assert self._closed
        return RunningGateway(self.directory, self._configuration)

    def kill(self) -> None:
        """End as kill -9 does: nothing is written or said any more, every connection breaks."""
        budgets = self.directory / "budgets.json"
        before = budgets.read_bytes() if budgets.exists() else None
        self.process.budgets.save = lambda: None  # type: ignore[method-assign]
        self.close()
        assert (budgets.read_bytes() if budgets.exists() else None) == before

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.call(self.process.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Answered:
    """An answer that came whole."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found

    @property
    def events(self) -> list[Any]:
        """The events of a stream, parsed; [DONE] as it is."""
        found = []
        for event in self.body.split(b"\n\n"):
            if event:
                payload = event.removeprefix(b"data: ")
                found.append(json.loads(payload) if payload.startswith(b"{") else payload.decode())
        return found


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    """What comes until `wanted` has come."""
    answer = b""
    while wanted not in answer:
        part = connection.recv(1 << 16)
        assert part, f"the gateway closed before {wanted!r}: {answer[-300:]!r}"
        answer += part
    return answer


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def post(body: Any, path: str = "/v1/chat/completions", extra: str = "") -> bytes:
    """A request as bytes."""
    raw = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{extra}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def chat_body(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
