"""Requests are kept as long as their endpoint's spec wishes: text goes first, then the records, and offsets stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.data.request_retention import RECORD_BYTES, Keeping
from llmops_tui.data.spool_reader import SpoolReader
from llmops_tui.data.store import Store
from llmops_tui.engine.recorded.retention import Retention
from llmops_tui.specs.endpoint import EndpointSpec
from llmops_tui.specs.settings import EngineSettings
from tests.spool_lines import T0, append, feedback, ids, names, request, text

DAY = 86_400.0
NOW = T0 + 40 * DAY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


def put(store: Store, spool: Path, *lines: bytes, name: str = "requests") -> None:
    append(spool, f"{name}-000001.jsonl", *lines)
    reader = SpoolReader(store, spool)
    while reader.take().more:
        pass


def spec(name: str, keep_days: float = 30.0, keep_bytes: int = 1 << 30) -> EndpointSpec:
    record = {"keep_days": keep_days, "keep_bytes": keep_bytes}
    return EndpointSpec.model_validate({"name": name, "versions": [{"model": "m"}], "record": record})


async def test_each_endpoint_by_its_own_age_with_what_was_said_of_it(store: Store, tmp_path: Path) -> None:
    lines = []
    for number in range(40):  # one a day, of two endpoints
        lines += [request(number, t=T0 + number * DAY, endpoint="short"), request(100 + number, t=T0 + number * DAY, endpoint="long")]
    put(store, tmp_path / "s", *lines, *(feedback(number, t=T0 + number * DAY) for number in (3, 37, 103)))
    put(store, tmp_path / "s", *(text(number, t=T0 + number * DAY, endpoint="short") for number in range(40)), name="texts")
    specs = [spec("short", keep_days=5), spec("long", keep_days=36_000)]
    gone = await Retention(store, lambda: specs).once(NOW)
    assert (gone.requests, gone.texts, gone.feedback) == (35, 35, 1)
    assert ids(store) == names(*range(35, 40), *range(100, 140))
    assert ids(store, "request_texts") == names(*range(35, 40))
    assert ids(store, "feedback") == names(37, 103)
    put(store, tmp_path / "s", request(300, t=NOW))  # the spool is not read again from its beginning
    assert ids(store) == names(*range(35, 40), *range(100, 140), 300)
    again = await Retention(store, lambda: specs).once(NOW)
    assert (again.requests, again.texts, again.feedback) == (0, 0, 0)


async def test_an_endpoint_that_is_gone_keeps_what_it_wished_and_one_never_known_the_usual(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path / "s", request(1, endpoint="gone"), request(2, endpoint=""), request(3, endpoint="", t=NOW))
    await Retention(store, lambda: [spec("gone", keep_days=50)]).once(T0)
    await Retention(store, lambda: []).once(NOW)
    assert ids(store) == names(1, 3)
    await Retention(store, lambda: []).once(NOW + 11 * DAY)
    assert ids(store) == names(3)


async def test_too_much_text_goes_oldest_first_and_the_records_stay(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path / "s", *(request(number) for number in range(50)))
    put(store, tmp_path / "s", *(text(number, "x" * 1000) for number in range(50)), name="texts")
    each = store.read(lambda con: con.execute("SELECT max(bytes) FROM request_texts").fetchall())[0][0]
    room = 50 * RECORD_BYTES + 10 * each + each // 2
    gone = await Retention(store, lambda: [spec("support", keep_bytes=room)]).once(T0 + 100)
    assert (gone.texts, gone.requests) == (40, 0)
    assert ids(store, "request_texts") == names(*range(40, 50))
    assert len(ids(store)) == 50


async def test_a_burst_at_the_end_of_a_long_time_is_cut_within_itself(store: Store, tmp_path: Path) -> None:
    late = T0 + 29 * DAY
    put(store, tmp_path / "s", request(0), *(request(number, t=late + number * 0.5) for number in range(1, 1001)))
    gone = await Retention(store, lambda: [spec("support", keep_bytes=500 * RECORD_BYTES)]).once(late + 600)
    left = ids(store)
    assert 490 <= len(left) <= 500
    assert left == names(*range(1001 - len(left), 1001))
    assert gone.requests == 1001 - len(left)


async def test_no_room_for_text_keeps_none_and_records_by_their_age(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path / "s", *(request(number) for number in range(5)))
    put(store, tmp_path / "s", *(text(number) for number in range(5)), name="texts")
    gone = await Retention(store, lambda: [spec("support", keep_bytes=0)]).once(T0 + 100)
    assert (gone.texts, gone.requests) == (5, 0)


def test_the_spec_says_what_is_kept() -> None:
    record = spec("a").record
    assert Keeping(record.keep_days, record.keep_bytes) == Keeping(30.0, 1 << 30)
