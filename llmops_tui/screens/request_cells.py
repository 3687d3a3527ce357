"""Answered requests as table rows, and one of them with its text and timings as lines. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmops_tui.screens.rendered import folded
from llmops_tui.screens.serve_cells import milliseconds
from llmops_tui.screens.widgets.axes import value_text
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.strips import bar
from llmops_tui.screens.widgets.table import Column, Row

if TYPE_CHECKING:
    from llmops_tui.specs.answers_requests import RequestDetail, RequestRow

_BAR_CELLS = 14
_COLUMNS = (
    Column("time", 8),
    Column("endpoint", 12, middle=True, rank=4),
    Column("version", 9, middle=True),
    Column("status", 6, right=True),
    Column("in", 6, right=True, rank=3),
    Column("out", 5, right=True, rank=2),
    Column("queue", 8, right=True, rank=6),
    Column("ttft", 8, right=True),
    Column("total", 8, right=True),
    Column("", _BAR_CELLS, rank=5),
    Column("key", 8, middle=True, rank=7),
    Column("", 0, least=14),
)
EXPORTED = (
    "id", "t", "endpoint", "version", "replica", "provider", "key", "session", "path", "stream", "status", "finish", "error",
    "prompt_tokens", "completion_tokens", "cached_tokens", "queue_ms", "ttft_ms", "itl_ms", "itl_max_ms", "total_ms", "attempts",
    "fallback_from", "mirror", "prompt_hash", "response_hash", "cost", "client_gone", "estimated", "good", "has_text", "rating",
)  # fmt: skip


def request_columns(dated: bool) -> tuple[Column, ...]:
    """`dated`: the days differ, and are told."""
    return (Column("time", 14 if dated else 8), *_COLUMNS[1:])


def request_row(row: RequestRow, slowest_ms: float, dated: bool, ascii_only: bool) -> Row:
    """`slowest_ms`: the whole time of the slowest that is listed, as long as a full bar."""
    bad = row["status"] >= 400
    total = row["total_ms"]
    cells: tuple[Run, ...] = (
        (time.strftime("%m-%d %H:%M:%S" if dated else "%H:%M:%S", time.localtime(row["t"])), "muted"),
        (row["endpoint"], "text"),
        (row["version"] or row["provider"] or "-", "text"),
        (str(row["status"]), "bad" if row["status"] >= 500 else "warn" if bad else "good"),
        _count(row["prompt_tokens"]),
        _count(row["completion_tokens"]),
        milliseconds(row["queue_ms"]),
        milliseconds(row["ttft_ms"]),
        milliseconds(total),
        (bar(total / slowest_ms, _BAR_CELLS, ascii_only) if total and slowest_ms else "", "accent"),
        (row["key"] or "-", "muted"),
        (_words(row), "bad" if row["error"] else "muted"),
    )
    return Row(row["id"], cells)


def timing_lines(row: RequestRow, width: int, ascii_only: bool) -> list[list[Run]]:
    """Queue, time to the first token and generation as parts of one bar, then as numbers."""
    total = row["total_ms"]
    if not total:
        return [[(" it took no time that was measured", "muted")]]
    queue, first = row["queue_ms"] or 0.0, row["ttft_ms"]
    # The time to the first token counts from the request's arrival: the queue is a part of it.
    waited = min(queue, total)
    reading = max(0.0, min(first, total) - waited) if first is not None else 0.0
    generating = max(0.0, total - waited - reading)
    names = ("queue", "first token" if first is not None else "", "generation" if first is not None else "answer")
    parts = list(zip(names, (waited, reading, generating), ("warn", "series-0", "good"), strict=True))
    room = max(10, width - 2)
    cells = [round(room * value / total) for _, value, _ in parts]
    cells[-1] += room - sum(cells)
    glyphs = "=#-" if ascii_only else "▒█▓"
    line: list[Run] = [(" ", "text"), *((glyph * max(0, n), role) for glyph, n, (_, _, role) in zip(glyphs, cells, parts, strict=True))]
    told: list[Run] = [(" ", "text")]
    for glyph, (name, value, role) in zip(glyphs, parts, strict=True):
        if name:
            told += [(f"{glyph} {name} ", role), (f"{milliseconds(round(value, 1))[0]}  ", "text")]
    told.append((f"together {milliseconds(total)[0]}", "bright"))
    return [line, told]


def fact_lines(row: RequestRow, currency: str) -> list[list[Run]]:
    """Who asked what, who answered, how it ended."""
    answered = row["provider"] or row["replica"] or "nobody"
    how = [f"status {row['status']}", row["finish"] and f"finish {row['finish']}", "streamed" if row["stream"] else "in one piece"]
    how += [f"{row['attempts']} tries" if row["attempts"] > 1 else "", "the client left" if row["client_gone"] else ""]
    how += ["missed the SLO" if not row["good"] and row["status"] < 400 else ""]
    how += [f"fell back from {row['fallback_from']}" if row["fallback_from"] else "", "shadow traffic" if row["mirror"] else ""]
    tokens = [f"{row['prompt_tokens']:,} in" if row["prompt_tokens"] is not None else ""]
    tokens += [f"{row['cached_tokens']:,} of them cached" if row["cached_tokens"] else ""]
    about = "about " if row["estimated"] else ""
    tokens += [f"{about}{row['completion_tokens']:,} out" if row["completion_tokens"] is not None else ""]
    pace = f"{row['itl_ms']:.1f} ms a token" if row["itl_ms"] else ""
    tokens += [pace + (f", {row['itl_max_ms']:.0f} ms at most" if pace and row["itl_max_ms"] else "")]
    rows: list[tuple[str, str, str]] = [
        ("request", f"{row['id']}  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(row['t']))}", "bright"),
        ("asked", f"{row['path']} of {row['endpoint']}" + (f" with the key {row['key']}" if row["key"] else ""), "text"),
        ("answered", f"{row['version'] or '-'} by {answered}", "text"),
        ("ended", " · ".join(part for part in how if part), "bad" if row["status"] >= 400 else "text"),
    ]
    if row["error"]:
        rows.append(("error", row["error"], "bad"))
    rows.append(("tokens", " · ".join(part for part in tokens if part) or "-", "text"))
    if row["session"]:
        rows.append(("session", row["session"], "muted"))
    if row["cost"] is not None:
        rows.append(("cost", f"{value_text(row['cost'])} {currency}".rstrip(), "text"))
    return [[(f" {name:<9}", "muted"), (words, role)] for name, words, role in rows]


def detail_lines(detail: RequestDetail, width: int, ascii_only: bool, currency: str) -> list[list[Run]]:
    """The whole page of one request."""
    row = detail["row"]
    lines: list[list[Run]] = [*fact_lines(row, currency), [], *timing_lines(row, width, ascii_only), []]
    if not detail["prompt"] and not detail["response"]:
        why = "its text was not kept: record.text_fraction of the endpoint's spec says of how many requests it is"
        lines += [*folded([(why, "muted")], width), []]
    struck = f"  {detail['redacted']} replaced" if detail["redacted"] else ""
    for title, text in ((f"asked{struck}", detail["prompt"]), ("answered", detail["response"])):
        if text:
            lines += [[(f" {title}", "title")], *folded([(_visible(text), "text")], width), []]
    if detail["feedback"]:
        lines.append([(" feedback", "title")])
    for each in detail["feedback"]:
        clock = time.strftime("%m-%d %H:%M", time.localtime(each["t"]))
        role = {"up": "good", "down": "bad"}.get(each["rating"], "text")
        who = f" by {each['key']}" if each["key"] else ""
        lines.append([(f" {clock}{who}  ", "muted"), (each["rating"], role), (f"  {_visible(each['comment'])}", "text")])
        if each["correction"]:
            lines += [[("   better:", "muted")], *folded([(_visible(each["correction"]), "text")], width)]
    return lines


def _words(row: RequestRow) -> str:
    parts = [row["error"], row["finish"] if row["finish"] not in ("", "stop") else "", "client left" if row["client_gone"] else ""]
    parts += ["shadow" if row["mirror"] else "", f"from {row['fallback_from']}" if row["fallback_from"] else ""]
    parts += [f"rated {row['rating']}" if row["rating"] else "", "text" if row["has_text"] else ""]
    return " · ".join(part for part in parts if part)


def _visible(text: str) -> str:
    """No control character of a model's answer reaches the terminal."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def _count(value: int | None) -> Run:
    return ("-", "muted") if value is None else (f"{value:,}" if value < 100_000 else value_text(value), "text")
