"""An OpenAI-compatible server of a known pace, in a thread: what a load test measures of it can be foretold."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ModelServer:
    """`first` seconds before the first token, `gap` between two; at most `slots` requests at once, the others wait."""

    def __init__(self, first: float = 0.02, gap: float = 0.005, slots: int = 1000, fail: str = "", usage: bool = True) -> None:
        self.first, self.gap, self.slots, self.fail, self.usage = first, gap, slots, fail, usage
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.most_at_once = 0
        self.hung_up = 0
        self._at_once = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._limit = asyncio.Semaphore(self.slots)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length"))
                self.heads.append(head)
                body = json.loads(await reader.readexactly(length))
                self.asked.append(body)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    async with self._limit:
                        await self._answer(writer, body)
                finally:
                    self._at_once -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up += 1
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        if self.fail == "status":
            error = json.dumps({"error": {"message": "too many", "code": "busy"}}).encode()
            writer.write(b"HTTP/1.1 429 Too Many\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(error) + error)
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(self.first)
        for number in range(body["max_tokens"]):
            if number:
                await asyncio.sleep(self.gap)
            self._event(writer, {"choices": [{"delta": {"content": f"t{number} "}, "finish_reason": None}]})
            await writer.drain()
            if self.fail == "midway" and number == 1:
                writer.transport.abort()
                return
        self._event(writer, {"choices": [{"delta": {}, "finish_reason": "length"}]})
        if self.usage:
            self._event(writer, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": body["max_tokens"]}})
        done = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))
        await writer.drain()

    @staticmethod
    def _event(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
        data = b"data: " + json.dumps(value).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))


@contextmanager
def model_server(**how: Any) -> Iterator[ModelServer]:
    server = ModelServer(**how)
    server.start()
    try:
        yield server
    finally:
        server.stop()
