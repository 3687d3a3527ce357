"""The gateway's lines become rows; what cannot be used is counted and nothing else suffers."""

from __future__ import annotations

import json

import orjson
import pytest

from llmops_tui.data.request_lines import LONGEST_LINE_BYTES, REQUEST, parse
from tests.spool_lines import T0, feedback, request, text


def test_every_field_the_gateway_writes_has_its_column() -> None:
    written = orjson.loads(request(1))
    assert set(written) - {"type"} == set(REQUEST)
    batch = parse(request(1), 0, "requests")
    assert dict(zip(REQUEST, batch.requests[0], strict=True)) == {name: value for name, value in written.items() if name != "type"}


def test_a_last_line_without_its_line_feed_waits_unless_nothing_more_can_come() -> None:
    data = request(1) + request(2)[:50]
    batch = parse(data, 100, "requests")
    assert (len(batch.requests), batch.end, batch.broken) == (1, 100 + len(request(1)), 0)
    batch = parse(data, 100, "requests", final=True)
    assert (len(batch.requests), batch.end, batch.broken, batch.first_broken) == (
        1, 100 + len(data), 1, f"the line that ends at byte {100 + len(data) + 1}: not JSON",
    )  # fmt: skip
    assert len(parse(request(1)[:-1], 0, "requests", final=True).requests) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"null", b"[1]", b"\x00", b"\xff\xfe", b'{"type":"request"}', b'{"type":"request","id":"","t":1}',
        b'{"type":"request","id":"r","t":"now"}', b'{"type":"request","id":"r","t":-1}', b'{"type":"request","id":"r","t":1e30}',
        b'{"type":"request","id":"r","t":1,"status":true}', b'{"type":"request","id":"r","t":1,"status":99999999999}',
        b'{"type":"request","id":"r","t":1,"key":7}', b'{"type":"request","id":"r","t":1,"ttft_ms":"slow"}',
        b'{"type":"request","id":"' + b"r" * 300 + b'","t":1}', b'{"type":"feedback","id":"r","t":1,"rating":[1]}',
        b'{"type":"feedback","t":1,"rating":"up"}', b'{"type":"request","id":"r","t":1,"prompt_tokens":-1}',
    ],
)  # fmt: skip
def test_an_unusable_line_is_counted_and_its_neighbours_are_taken(line: bytes) -> None:
    batch = parse(request(1) + line + b"\n" + request(2), 0, "requests")
    assert [row[0] for row in sorted(batch.requests)] == ["req_00000001", "req_00000002"]
    assert (batch.lines, batch.broken, batch.unknown) == (3, 1, 0)
    assert not batch.feedback


@pytest.mark.parametrize("name", [name for name in REQUEST if name not in ("id", "t")])
def test_one_wrong_value_costs_its_own_line_only(name: str) -> None:
    wrong = json.dumps({**orjson.loads(request(2)), name: {"a": 1}}).encode() + b"\n"
    batch = parse(request(1) + wrong + request(3), 0, "requests")
    assert ([row[0] for row in batch.requests], batch.broken) == (["req_00000001", "req_00000003"], 1)


def test_a_field_that_an_older_gateway_did_not_write_gets_its_default() -> None:
    line = orjson.loads(request(1))
    del line["good"], line["cached_tokens"]
    row = dict(zip(REQUEST, parse(orjson.dumps(line) + b"\n", 0, "requests").requests[0], strict=True))
    assert (row["good"], row["cached_tokens"], row["status"]) == (False, None, 200)


def test_other_types_are_skipped_and_counted() -> None:
    batch = parse(b'{"type":"novelty","id":"x"}\n{"id":"x"}\n' + request(1), 0, "requests")
    assert (len(batch.requests), batch.unknown, batch.broken) == (1, 2, 0)


@pytest.mark.parametrize(
    ("rating", "stored"), [("up", "up"), ("down", "down"), (4, "4"), (0.25, "0.25"), (123456789, "123456789"), (None, "")]
)
def test_a_rating_is_kept_as_text(rating: object, stored: str) -> None:
    row = parse(feedback(1, rating, comment="fine"), 0, "requests").feedback[0]
    assert row == ("req_00000001", T0 + 1000, "k1", stored, "fine", "")


def test_texts_are_kept_with_what_form_they_have() -> None:
    chat = [{"role": "user", "content": "Grüße"}]
    batch = parse(text(1, chat) + text(2, "once upon") + text(3, {"input": ["a"]}), 0, "texts")
    assert [(row[4], row[5]) for row in batch.texts] == [
        ("messages", '[{"role":"user","content":"Grüße"}]'), ("text", "once upon"), ("json", '{"input":["a"]}'),
    ]  # fmt: skip
    assert batch.texts[0][8] == len(text(1, chat)) - 1


def test_a_line_nobody_would_write_is_let_go_of_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_tui.data.request_lines.LONGEST_LINE_BYTES", 64)
    assert LONGEST_LINE_BYTES > 64
    begun = parse(b"x" * 64, 0, "requests")
    assert (begun.end, begun.skipping, begun.broken) == (64, True, 1)
    goes_on = parse(b"y" * 64, begun.end, "requests", skipping=True)
    assert (goes_on.end, goes_on.skipping, goes_on.broken) == (128, True, 0)
    ends = parse(b"z\n" + request(1), goes_on.end, "requests", skipping=True)
    assert (len(ends.requests), ends.skipping, ends.broken) == (1, False, 0)
