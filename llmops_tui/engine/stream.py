"""Server-sent events. A stream reads from the file or the store at its client's pace; nothing is kept for a slow one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_tui.data.rundir import RunDir

if TYPE_CHECKING:
    from llmops_tui.engine.hub import Hub

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 10.0
_POLL_SECONDS = 0.25
_CHUNK_BYTES = 256 << 10
_LONGEST_LINE_BYTES = 8 << 20
_HEARTBEAT = b": still here\n\n"


def message(data: str, event: str = "", identity: str = "") -> bytes:
    """One event of a stream. `data` must be one line."""
    head = (f"event: {event}\n" if event else "") + (f"id: {identity}\n" if identity else "")
    return f"{head}data: {data}\n\n".encode()


async def run_stream(run: RunDir, offset: int, state_of: Callable[[], str | None], stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """The lines of a run's `events.jsonl` after byte `offset` (negative: from now on), then new ones until the run is over.

    Each message's id is the offset after its line. `state_of` gives the run's final state once it is over, else None. The
    last message is `event: end` with that state.
    """
    offset = await asyncio.to_thread(_first_line_at, run.events, offset)
    # The head of the answer leaves only with its first bytes: say something at once, a quiet run may have nothing to tell for long.
    yield _HEARTBEAT
    silent_since = asyncio.get_running_loop().time()
    while not stopping.is_set():
        final_state = state_of()  # before the reading: what a run told before it ended is then read below
        size = _size(run.events)
        messages, following = (b"", offset) if size <= offset else await asyncio.to_thread(_read_messages, run.events, offset)
        if messages:
            yield messages
        now = asyncio.get_running_loop().time()
        if following > offset:
            offset = following
            silent_since = now
            continue
        if final_state is not None:  # a torn last line may remain: its writer is gone
            yield message(json.dumps({"state": final_state, "offset": offset}), "end")
            return
        if now - silent_since >= HEARTBEAT_SECONDS:
            silent_since = now
            yield _HEARTBEAT
        await asyncio.sleep(_POLL_SECONDS)


async def engine_stream(hub: Hub, epoch: str, after: int, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """The engine's events after sequence number `after`. Begins with `event: hello`, which names the database's epoch."""
    yield message(json.dumps({"epoch": epoch, "after": after}), "hello")
    events = hub.subscribe(after)
    stop = asyncio.ensure_future(stopping.wait())
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming, stop}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if coming in done:
                event = coming.result()
                if event is None:
                    return
                yield message(json.dumps(event), "engine", str(event["seq"]))
                coming = asyncio.ensure_future(anext(events, None))
            elif stop in done:
                return
            else:
                yield _HEARTBEAT
    finally:
        stop.cancel()
        coming.cancel()
        await asyncio.gather(stop, coming, return_exceptions=True)
        await events.aclose()


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _first_line_at(path: Path, offset: int) -> int:
    """`offset` if a line begins there, else where the next one does; the end of the whole lines when negative or beyond."""
    size = _size(path)
    if offset == 0 or size == 0:
        return 0
    with open(path, "rb") as file:
        if offset < 0 or offset > size:
            file.seek(max(0, size - _CHUNK_BYTES))
            start = file.tell()
            return start + file.read().rfind(b"\n") + 1
        file.seek(offset - 1)
        while True:
            chunk = file.read(_CHUNK_BYTES)
            if not chunk:
                return size
            if (newline := chunk.find(b"\n")) >= 0:
                return file.tell() - len(chunk) + newline + 1


def _read_messages(path: Path, offset: int) -> tuple[bytes, int]:
    """Whole lines from `offset` as messages, and the offset after them. Lines that are no JSON object are passed over."""
    with open(path, "rb") as file:
        file.seek(offset)
        chunk = file.read(_CHUNK_BYTES)
        if b"\n" not in chunk and len(chunk) == _CHUNK_BYTES:
            chunk += file.read(_LONGEST_LINE_BYTES)
    whole = chunk.rfind(b"\n") + 1
    if not whole:
        # A line that long is nobody's event; a shorter one is still being written.
        return b"", offset + len(chunk) if len(chunk) > _LONGEST_LINE_BYTES else offset
    parts = []
    for line in chunk[: whole - 1].split(b"\n"):
        offset += len(line) + 1
        text = line.strip()
        if text.startswith(b"{") and text.endswith(b"}"):
            parts.append(b"id: %d\ndata: %s\n\n" % (offset, text.replace(b"\r", b" ")))
    return b"".join(parts), offset
