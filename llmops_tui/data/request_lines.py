"""From the bytes of the gateway's spool to rows: pure. What is broken or of an unknown type is counted, never fatal.

Live ingest and rebuild both use this, so that they store the same. The lines are those of serving/gateway/record.py, pages.py
(feedback) and core.py (texts).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal

import orjson

from llmops_tui.data.whole_lines import LineBatch, begin

Kind = Literal["text", "flag", "whole", "count", "number", "time"]
Row = tuple[Any, ...]

LONGEST_LINE_BYTES = 96 << 20  # a prompt of 10 MiB and an answer of 32 MiB, each escaped
_LATEST_TIME = 1e11
_MOST = {"whole": 1 << 31, "count": 1 << 53}
_LONGEST_ID = 200

# Names and kinds of the tables' columns, in their order: whole and time are never missing, count and number may be.
REQUEST: dict[str, Kind] = {
    "id": "text", "t": "time", "endpoint": "text", "version": "text", "replica": "text", "provider": "text", "key": "text",
    "session": "text", "path": "text", "stream": "flag", "status": "whole", "finish": "text", "error": "text",
    "prompt_tokens": "count", "completion_tokens": "count", "cached_tokens": "count", "estimated": "flag", "queue_ms": "number",
    "ttft_ms": "number", "itl_ms": "number", "itl_max_ms": "number", "total_ms": "number", "attempts": "whole",
    "fallback_from": "text", "mirror": "flag", "prompt_hash": "text", "response_hash": "text", "cost": "number",
    "client_gone": "flag", "good": "flag",
}  # fmt: skip
FEEDBACK: dict[str, Kind] = {"id": "text", "t": "time", "key": "text", "rating": "text", "comment": "text", "correction": "text"}
TEXT: dict[str, Kind] = {
    "id": "text", "t": "time", "endpoint": "text", "version": "text", "form": "text", "prompt": "text", "response": "text",
    "redacted": "whole", "bytes": "count",
}  # fmt: skip

_request = itemgetter(*REQUEST)
_TYPES: dict[Kind, frozenset[type]] = {
    "text": frozenset({str}),
    "flag": frozenset({bool}),
    "whole": frozenset({int}),
    "count": frozenset({int, type(None)}),
    "number": frozenset({int, float, type(None)}),
    "time": frozenset({int, float}),
}
_MISSING: dict[Kind, object] = {"text": "", "flag": False, "whole": 0, "count": None, "number": None}


@dataclass
class RequestBatch(LineBatch):
    """The rows of each table; `unknown` counts lines of a type that is not known."""

    unknown: int = 0
    requests: list[Row] = field(default_factory=list)
    feedback: list[Row] = field(default_factory=list)
    texts: list[Row] = field(default_factory=list)


def parse(data: bytes, offset: int, spool: str, *, final: bool = False, skipping: bool = False) -> RequestBatch:
    """Read the whole lines of `data`, which begins at byte `offset` of a file of this spool.

    A last line without its line feed waits for the next call, unless `final`: nothing is written to the file any more, and what stands
    there is what a machine's death left. `skipping` says that `data` begins inside a line longer than LONGEST_LINE_BYTES.
    """
    batch, lines, position = begin(RequestBatch, data, offset, longest=LONGEST_LINE_BYTES, final=final, skipping=skipping)
    _read(batch, lines, position, spool)
    return batch


def _read(batch: RequestBatch, lines: Sequence[bytes], position: int, spool: str) -> None:
    loads = orjson.loads
    unsure: list[tuple[dict[str, Any], int]] = []
    for line in lines:
        position += len(line) + 1
        if not line or line.isspace():
            continue
        batch.lines += 1
        try:
            record = loads(line)
        except ValueError:
            batch.reject("not JSON", position)
            continue
        if type(record) is not dict:
            batch.reject("not a JSON object", position)
            continue
        kind = record.get("type")
        if kind == "request":
            try:
                batch.requests.append(_request(record))
            except KeyError:
                unsure.append((record, position))
        elif kind == "feedback":
            _take(batch, batch.feedback, FEEDBACK, _remark(record), position)
        elif kind is None and spool == "texts":
            _take(batch, batch.texts, TEXT, _text(record, len(line)), position)
        else:
            batch.unknown += 1
    if not _sound(batch.requests):
        rows, batch.requests = batch.requests, []
        unsure += [(dict(zip(REQUEST, row, strict=True)), position) for row in rows]
    for record, line_end in unsure:
        _take(batch, batch.requests, REQUEST, record, line_end)


def _sound(rows: Sequence[Row]) -> bool:
    """Whether every value of every column is of its kind; a whole column is looked at at once, which costs 30 ns a value."""
    if not rows:
        return True
    for kind, column in zip(REQUEST.values(), zip(*rows, strict=True), strict=True):
        if not _TYPES[kind].issuperset(map(type, column)):
            return False
        if kind in _MOST and not _within(column, _MOST[kind]):
            return False
        if kind == "time" and not (min(column) >= 0 and max(column) < _LATEST_TIME):
            return False
        if kind == "number" and not all(map(math.isfinite, filter(None, column))):
            return False
    return all(map(itemgetter(0), rows)) and max(map(len, map(itemgetter(0), rows))) <= _LONGEST_ID


def _within(column: Iterable[int | None], most: int) -> bool:
    known = [value for value in column if value is not None]
    return not known or (min(known) >= 0 and max(known) < most)


def _take(batch: RequestBatch, rows: list[Row], columns: dict[str, Kind], record: dict[str, Any], line_end: int) -> None:
    """One record value by value: what is missing gets its default, what is of a wrong kind makes the line a broken one."""
    identity = record.get("id")
    if not isinstance(identity, str) or not 0 < len(identity) <= _LONGEST_ID:
        batch.reject("it has no id", line_end)
        return
    row = []
    for name, kind in columns.items():
        value = record.get(name, _MISSING.get(kind))
        fits = type(value) in _TYPES[kind]
        if fits and kind in _MOST:
            fits = _within((value,), _MOST[kind])
        elif fits and kind == "time":
            fits = 0 <= value < _LATEST_TIME
        elif fits and kind == "number":
            fits = value is None or math.isfinite(value)
        if not fits:
            batch.reject(f"{name} is no {kind}", line_end)
            return
        row.append(value)
    rows.append(tuple(row))


def _remark(record: dict[str, Any]) -> dict[str, Any]:
    rating = record.get("rating")
    if rating is None:
        rating = ""
    elif isinstance(rating, int | float) and not isinstance(rating, bool):
        rating = str(rating)
    return {**record, "rating": rating, **{name: "" for name in ("comment", "correction") if record.get(name) is None}}


def _text(record: dict[str, Any], size: int) -> dict[str, Any]:
    if "messages" in record:
        form, prompt = "messages", orjson.dumps(record["messages"]).decode()
    elif isinstance(asked := record.get("prompt"), str):
        form, prompt = "text", asked
    else:
        form, prompt = "json", orjson.dumps(asked).decode()
    return {**record, "form": form, "prompt": prompt, "bytes": size}
