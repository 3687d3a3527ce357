"""A model's server that speaks real HTTP and does as it is told: answers, stalls, closes early, lies."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

Act = Callable[["Asked"], Awaitable[None]]


class Asked:
    """One request as the server got it, and the way to answer."""

    def __init__(
        self,
        backend: FakeBackend,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        headers: dict[str, str],
        body: Any,
    ) -> None:
        self.backend = backend
        self.reader = reader
        self.writer = writer
        self.path = path
        self.headers = headers
        self.body = body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n{extra}content-length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def events_head(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def event(self, fields: dict[str, Any]) -> None:
        await self.chunk(b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n")

    def close(self) -> None:
        self.writer.transport.abort()


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def delta(text: str, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}],
    }


def whole(text: str = "hello", prompt: int = 7, completion: int = 3) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage(prompt, completion)}


async def obey(asked: Asked) -> None:
    """Answer as a good server does: three tokens, streamed where asked for, with usage where asked for."""
    if asked.path == "/v1/embeddings":
        fields = {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 2, "total_tokens": 2}}
        await asked.answer(200, json.dumps(fields).encode())
    elif asked.body.get("stream"):
        await stream(["hel", "lo", " you"])(asked)
    else:
        await asked.answer(200, json.dumps(whole()).encode())


def stream(tokens: list[str], before: Callable[[int], Awaitable[None]] | None = None) -> Act:
    async def act(asked: Asked) -> None:
        await asked.events_head()
        await asked.event({"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        for number, token in enumerate(tokens):
            if before is not None:
                await before(number)
            await asked.event(delta(token))
        await asked.event(delta("", "stop"))
        if (asked.body.get("stream_options") or {}).get("include_usage"):
            await asked.event({"id": "c", "choices": [], "usage": usage(7, len(tokens))})
        await asked.chunk(b"data: [DONE]\n\n")
        await asked.send(b"0\r\n\r\n")

    return act


def says(status: int, body: bytes, content_type: str = "application/json") -> Act:
    return lambda asked: asked.answer(status, body, content_type)


def sends(*pieces: bytes) -> Act:
    """Raw bytes, then the connection closes."""

    async def act(asked: Asked) -> None:
        for piece in pieces:
            await asked.send(piece)
        asked.writer.close()

    return act


class Gate:
    """Holds an answer back until the test opens it."""

    def __init__(self, backend: FakeBackend) -> None:
        self._loop = backend.loop
        self._opened = asyncio.Event()

    async def passed(self, number: int = 0) -> None:
        await self._opened.wait()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._opened.set)


async def hangs_up(asked: Asked) -> None:
    asked.close()


async def waits(asked: Asked) -> None:
    """Says nothing until the connection is closed from the other side."""
    await asked.reader.read(1)
    asked.backend.closed_on.append(asked.path)


class FakeBackend:
    """Serves on a loopback port in a thread of its own. `script` holds what to do for the next requests; after it, `otherwise`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.script: deque[Act] = deque()
        self.otherwise: Act = obey
        self.seen: list[Asked] = []
        self.closed_on: list[str] = []
        self.health: Act = says(200, b'{"status":"ok"}')
        self.frozen = False  # as a process that is stopped: connections are taken and nothing is said
        self.connections = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Listen (again, at the same port)."""
        self._server = self.call(asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls))
        self.port = self._server.sockets[0].getsockname()[1]

    def die(self) -> None:
        """Every connection breaks and nobody listens."""
        self.call(self._die())

    def call(self, work: Awaitable[Any]) -> Any:
        async def done() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def run(self, function: Callable[[], Any]) -> None:
        """Call in the server's loop."""
        self._loop.call_soon_threadsafe(function)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def asked(self, path: str = "") -> list[Asked]:
        """The requests but for those of the health watch."""
        watch = [{"role": "user", "content": "Hi"}]
        return [asked for asked in list(self.seen) if asked.body is not None and asked.body.get("messages") != watch and path in asked.path]

    def close(self) -> None:
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _die(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            while not writer.is_closing():
                if not await self._one(reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled by `die` alone, which gathers it
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = await reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split()
        headers: dict[str, str] = {}
        while (line := await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(self, reader, writer, path, headers, json.loads(raw) if raw else None)
        self.seen.append(asked)
        if self.frozen:
            await waits(asked)
            return False
        if method == "GET":
            await self.health(asked)
        elif asked.body.get("max_tokens") == 1 and asked.body.get("messages") == [{"role": "user", "content": "Hi"}]:
            await asked.answer(200, json.dumps(whole()).encode())
        else:
            await (self.script.popleft() if self.script else self.otherwise)(asked)
        return headers.get("connection") != "close"
