"""Recorded requests are found, paged without a gap, and their latency is exact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops_tui.data.request_queries import RequestFilter, bounded, latency_history, one_request, request_page, stretch_seconds
from llmops_tui.data.spool_reader import SpoolReader
from llmops_tui.data.store import Store
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.answers_requests import RequestPage
from llmops_tui.specs.settings import EngineSettings
from tests.spool_lines import T0, append, feedback, names, request, text


class Recorded:
    """A database of lines."""

    def __init__(self, directory: Path) -> None:
        self.spool = directory / "spool"
        self.store = Store.open(directory / "llmops.duckdb", EngineSettings())
        self.reader = SpoolReader(self.store, self.spool)

    def put(self, *lines: bytes, spool: str = "requests") -> None:
        append(self.spool, f"{spool}-000001.jsonl", *lines)
        while self.reader.take().more:
            pass

    def page(self, before: float | None = None, limit: int = 100, count: bool = False, **chosen: Any) -> RequestPage:
        return self.store.read(lambda con: request_page(con, RequestFilter(**chosen), before, limit, count))

    def found(self, **chosen: Any) -> list[int]:
        return [int(row["id"].removeprefix("req_")) for row in self.page(**chosen)["rows"]]


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    recorded = Recorded(tmp_path)
    yield recorded
    recorded.store.close()


def test_each_filter_chooses(recorded: Recorded) -> None:
    recorded.put(
        request(1), request(2, endpoint="other"), request(3, version="v2"), request(4, status=429), request(5, status=502),
        request(6, key="k2"), request(7, total_seconds=9.0), request(8, total_seconds=-1.0),
    )  # fmt: skip
    assert recorded.found() == [8, 7, 6, 5, 4, 3, 2, 1]
    assert recorded.found(endpoint="other") == [2]
    assert recorded.found(version="v2") == [3]
    assert recorded.found(status_low=429, status_high=429) == [4]
    assert recorded.found(status_low=400) == [5, 4]
    assert recorded.found(keys=("k2", "k3")) == [6]
    assert recorded.found(slower_than_ms=8999.0) == [7]
    assert recorded.found(since=T0 + 3, until=T0 + 4) == [4, 3]
    assert recorded.found(endpoint="support", status_low=400, version="v1", since=T0 + 5) == [5]
    assert recorded.page(status_low=400, count=True, limit=1)["total"] == 2
    assert recorded.page()["total"] is None


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_follow_each_other_without_a_gap_also_where_moments_are_shared(recorded: Recorded, limit: int) -> None:
    recorded.put(*(request(number, t=T0 + number // 3) for number in range(20)))
    seen: list[str] = []
    before: float | None = None
    while True:
        page = recorded.page(before=before, limit=limit)
        seen += [row["id"] for row in page["rows"]]
        before = page["next"]
        if before is None:
            break
    assert seen == sorted(names(*range(20)), reverse=True)


def test_a_row_tells_of_its_text_and_of_the_newest_rating(recorded: Recorded) -> None:
    recorded.put(
        request(1), request(2), feedback(1, "up", t=T0 + 5), feedback(1, "down", t=T0 + 6), feedback(1, None, t=T0 + 7, comment="x")
    )
    recorded.put(text(2), spool="texts")
    assert [(row["has_text"], row["rating"]) for row in recorded.page()["rows"]] == [(True, ""), (False, "down")]


def test_one_request_has_its_conversation_and_everything_that_was_said_of_it(recorded: Recorded) -> None:
    recorded.put(request(1), request(2), feedback(1, 4, t=T0 + 9, comment="good"), feedback(1, "down", t=T0 + 8, correction="Bye"))
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    recorded.put(text(1, chat, "Hello", redacted=2), spool="texts")
    found = recorded.store.read(lambda con: one_request(con, names(1)[0]))
    assert found is not None
    assert (found["messages"], found["response"], found["redacted"]) == (chat, "Hello", 2)
    assert found["prompt"] == 'system: Be brief.\n\nuser: [{"type": "text", "text": "Hi"}]'
    assert [(one["rating"], one["comment"], one["correction"]) for one in found["feedback"]] == [("down", "", "Bye"), ("4", "good", "")]
    assert found["row"]["rating"] == "4"
    bare = recorded.store.read(lambda con: one_request(con, names(2)[0]))
    assert bare is not None
    assert (bare["prompt"], bare["messages"], bare["response"], bare["feedback"]) == ("", None, "", [])
    assert recorded.store.read(lambda con: one_request(con, "req_none")) is None


def test_quantiles_are_exact_by_version_and_shadow_traffic_stands_apart(recorded: Recorded) -> None:
    noise = np.random.default_rng(3)
    lines, wanted = [], {}
    for stretch in range(3):
        for version in ("v1", "v2"):
            firsts = np.round(noise.lognormal(-2, 1, 101), 6)
            wanted[version, T0 + 10 * stretch] = np.quantile(np.floor(firsts * 1e6) / 1e3, (0.5, 0.95, 0.99))
            lines += [
                request(number, t=T0 + 10 * stretch + number % 10, version=version, first_seconds=float(first))
                for number, first in enumerate(firsts)
            ]
    lines += [request(900, t=T0, version="v2", mirror=True), request(901, t=T0, version="", status=503, good=False, first_seconds=-1.0)]
    recorded.put(*lines)
    versions, mirrored = recorded.store.read(lambda con: latency_history(con, "support", T0, T0 + 30, 10.0))
    got = {
        (version, point["t"]): (point["ttft_p50"], point["ttft_p95"], point["ttft_p99"])
        for version in ("v1", "v2")
        for point in versions[version]
    }
    assert got.keys() == wanted.keys()
    for key, values in wanted.items():
        assert got[key] == pytest.approx(values, abs=0.002), key
    point = versions["v1"][0]
    assert (point["requests"], point["errors"], point["good"], point["completion_tokens"], point["prompt_tokens"]) == (
        101,
        0,
        101,
        2020,
        1010,
    )
    assert [one["requests"] for one in mirrored["v2"]] == [1]
    nobody = versions[""][0]
    assert (nobody["errors"], nobody["good"], nobody["ttft_p99"]) == (1, 0, None)


def test_stretches_are_whole_units_and_few_enough() -> None:
    assert stretch_seconds(0, 3600, 120) == 30
    assert stretch_seconds(0, 3601, 120) == 60
    assert stretch_seconds(0, 1, 2000) == 1
    assert stretch_seconds(0, 365 * 86_400, 10) == 37 * 86_400


def test_a_question_that_takes_too_long_is_ended(recorded: Recorded) -> None:
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = -1"
    with pytest.raises(LlmopsError, match="took longer than"):
        recorded.store.read(lambda con: bounded(con, lambda con: con.execute(endless).fetchall(), 0.05))
    assert recorded.found() == []
