"""Asking the gateway as a client does, for those who reach only the engine: its stream of events is passed through as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmops_tui.engine.endpoints.gateway_control import parse_head
from llmops_tui.errors import ConflictError, EngineUnavailableError, InsufficientResourcesError, LlmopsError, NotFoundError, UsageError

_READ_BYTES = 64 << 10
_HEAD_LIMIT = 64 << 10
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Asked:
    """The gateway's answer: its head, and a body that ends when the answer does. `close` gives it up, which cancels the work behind it."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]


async def ask_gateway(host: str, port: int, path: str, body: Mapping[str, Any], secret: str) -> Asked:
    """POST to the gateway; returns when the head of the answer is there. Raises EngineUnavailableError where nobody answers."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, limit=_HEAD_LIMIT), _CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        raise EngineUnavailableError(f"the gateway does not answer on {host}:{port}", "see `llmops-tui endpoints gateway`") from error
    content = json.dumps(body).encode()
    shown = f"[{host}]" if ":" in host else host
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {shown}:{port}\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {secret}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    try:
        writer.write(head.encode() + content)
        await writer.drain()
        status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        writer.close()
        raise EngineUnavailableError("the gateway hung up before it answered", "see gateway.log in the state directory") from error
    except asyncio.CancelledError:
        writer.close()
        raise
    return Asked(status, headers, _body(reader, writer, headers))


async def _body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            async for piece in _chunks(reader):
                yield piece
            return
        left = int(headers["content-length"]) if headers.get("content-length", "").isdigit() else None
        while left is None or left > 0:
            piece = await reader.read(_READ_BYTES if left is None else min(_READ_BYTES, left))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return  # it broke off: its reader sees that the end is missing
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """RFC 9112, section 7.1."""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size == 0:
            await reader.readuntil(b"\r\n")
            return
        yield await reader.readexactly(size)
        await reader.readexactly(2)


async def refusal(asked: Asked) -> LlmopsError:
    """The gateway's error as one of ours."""
    raw = b"".join([piece async for piece in asked.body])
    try:
        value = json.loads(raw)
        message = str(value["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = raw[:200].decode(errors="replace") or f"the gateway answered {asked.status}"
    kinds: dict[int, type[LlmopsError]] = {404: NotFoundError, 429: InsufficientResourcesError, 503: ConflictError, 409: ConflictError}
    kind = kinds.get(asked.status, UsageError if 400 <= asked.status < 500 else LlmopsError)
    return kind(message, "see `llmops-tui endpoints list`")
