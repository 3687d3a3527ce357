"""Lines as the gateway writes them, made with its own classes; and what the database has of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops_tui.data.store import Store
from llmops_tui.engine.serving.gateway.record import Record

T0 = 1_790_000_000.0


def request(number: int, **fields: Any) -> bytes:
    """A request that ended well, a second after the one before; `fields` are the Record's."""
    record = Record(f"req_{number:08d}", "/v1/chat/completions", T0 + number)
    record.endpoint, record.version, record.replica, record.key = "support", "v1", "serve-support-0001", "k1"
    record.status, record.finish, record.attempts, record.stream, record.good = 200, "stop", 1, True, True
    record.prompt_tokens, record.completion_tokens = 10, 20
    record.queue_seconds, record.first_seconds, record.gap_mean, record.gap_most, record.total_seconds = 0.001, 0.1, 0.01, 0.05, 0.5
    record.prompt_hash, record.response_hash = "a" * 32, "b" * 32
    for name, value in fields.items():
        setattr(record, name, value)
    return record.line()


def feedback(number: int, rating: Any = "up", t: float = T0 + 1000, **texts: str | None) -> bytes:
    line = {"type": "feedback", "t": t, "id": f"req_{number:08d}", "key": "k1", "rating": rating, "comment": None, "correction": None}
    return json.dumps({**line, **texts}).encode() + b"\n"


def text(number: int, prompt: Any = "Hello", response: str = "Hi", **fields: Any) -> bytes:
    """A kept text; `prompt` as a list of messages, or of another kind."""
    asked = {"messages": prompt} if isinstance(prompt, list) else {"prompt": prompt}
    line = {"t": T0 + number, "id": f"req_{number:08d}", "endpoint": "support", "version": "v1", **asked}
    return json.dumps({**line, "response": response, "redacted": 0, **fields}).encode() + b"\n"


def append(spool: Path, name: str, *lines: bytes) -> Path:
    """Add to a file of the spool, as the gateway does."""
    spool.mkdir(parents=True, exist_ok=True)
    with open(spool / name, "ab") as file:
        file.write(b"".join(lines))
    return spool / name


def ids(store: Store, table: str = "requests") -> list[str]:
    """What is stored, in order of id; doubles are seen as such."""
    return [row[0] for row in store.read(lambda con: con.execute(f"SELECT id FROM {table} ORDER BY id").fetchall())]


def names(*numbers: int) -> list[str]:
    return [f"req_{number:08d}" for number in numbers]
