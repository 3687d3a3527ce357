"""A request that is never finished does not hold its connection: the engine hangs up by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llmops_tui.engine import peers


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, then streams for a while."""
    body = await Request(scope, receive).body()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(10):
            await asyncio.sleep(0.1)
            yield body

    await StreamingResponse(parts())(scope, receive, send)


@contextlib.asynccontextmanager
async def _serving(path: Path) -> AsyncIterator[None]:
    config = uvicorn.Config(_echo, http=peers.PeerCheckedProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    listener = await loop.create_unix_server(
        lambda: peers.PeerCheckedProtocol(config=config, server_state=server.server_state, app_state={}), str(path)
    )
    try:
        yield
    finally:
        listener.close()


async def _say(path: Path, data: bytes) -> bytes:
    """What comes back until the engine hangs up; TimeoutError if it does not."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peers, "_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(peers, "_BODY_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    return Path(os.path.relpath(tmp_path / "s"))  # a socket's path has 107 bytes at most


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"POST / HT",
        b"POST / HTTP/1.1\r\nhost: x\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello",
    ],
    ids=["nothing", "line", "head", "no body", "half a body", "half a chunk"],
)
async def test_a_half_request_is_hung_up_on(path: Path, half: bytes) -> None:
    async with _serving(path):
        assert await _say(path, half) == b""


async def test_a_whole_request_may_take_longer_to_answer_than_a_half_one_may_last(path: Path) -> None:
    async with _serving(path):
        request = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nwhole"
        assert (await _say(path, request)).count(b"whole") == 10
