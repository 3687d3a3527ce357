"""When requests are due and what they ask: the same for the same seed, and as the spec says."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from llmops_tui.engine.jobs.loadtesting.prompts import Payloads, read_recorded
from llmops_tui.engine.jobs.loadtesting.schedule import arrivals, stages_of, worker_starts
from llmops_tui.errors import UsageError
from llmops_tui.specs.loadtest import LoadtestSpec
from llmops_tui.specs.parse import parse_spec


def test_constant_arrivals_come_at_their_rate() -> None:
    assert list(arrivals(4.0, 5, False, 0.0, random.Random(0))) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_random_arrivals_have_the_rate_in_the_mean_and_are_drawn_by_the_seed() -> None:
    due = list(arrivals(50.0, 20_000, True, 0.0, random.Random(1)))
    assert due == sorted(due)
    assert 20_000 / due[-1] == pytest.approx(50.0, rel=0.03)
    pauses = [after - before for before, after in pairwise(due)]
    spread = (sum((pause - 0.02) ** 2 for pause in pauses) / len(pauses)) ** 0.5
    assert spread == pytest.approx(0.02, rel=0.05)  # an exponential's spread is its mean
    assert due == list(arrivals(50.0, 20_000, True, 0.0, random.Random(1)))


def test_a_ramp_brings_half_as_many_requests_in_its_time_and_then_the_whole_rate() -> None:
    due = list(arrivals(100.0, 3000, False, 10.0, random.Random(0)))
    assert sum(t < 10 for t in due) == pytest.approx(500, abs=2)
    assert sum(10 <= t < 20 for t in due) == pytest.approx(1000, abs=2)
    assert worker_starts(4, 8.0) == [0.0, 2.0, 4.0, 6.0]


def test_recorded_requests_keep_their_pace_times_the_speed() -> None:
    spec = LoadtestSpec.model_validate({"endpoint": "a", "prompts": {"dataset": "x", "replay_speed": 2.0}, "requests": 3})
    (stage,) = stages_of(spec, [100.0, 101.0, 105.0, 900.0])
    assert stage.due == (0.0, 0.5, 2.5)
    assert stage.requests == 3


def test_without_a_load_three_closed_loops_are_tried() -> None:
    assert [stage.workers for stage in stages_of(LoadtestSpec(endpoint="a"))] == [1, 4, 8]


def test_drawn_prompts_differ_by_number_and_not_by_run_and_share_their_beginning() -> None:
    spec = LoadtestSpec.model_validate({"endpoint": "a", "prompts": {"tokens": 40, "shared_tokens": 10, "spread": 0.5, "answer_tokens": 9}})
    bodies = [json.loads(Payloads(spec, "m", ()).body(number)) for number in range(50)]
    assert bodies == [json.loads(Payloads(spec, "m", ()).body(number)) for number in range(50)]
    texts = [body["messages"][0]["content"] for body in bodies]
    assert len(set(texts)) == 50
    assert len({tuple(text.split()[:10]) for text in texts}) == 1
    assert len({body["max_tokens"] for body in bodies}) > 5
    assert all(body["stream"] and body["stream_options"] == {"include_usage": True} for body in bodies)


def test_rows_are_asked_up_to_their_last_question(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    (row,) = read_recorded(path, "auto", 10, timed=False)
    assert row.messages == turns[:2]


def test_recorded_requests_are_asked_as_they_came_in_the_order_of_their_times(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"messages": [{"role": "user", "content": text}], "t": t} for text, t in (("later", 20.0), ("first", 10.0))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_recorded(path, "auto", 10, timed=True)
    assert [row.messages[-1]["content"] for row in found] == ["first", "later"]


@pytest.mark.parametrize(
    ("content", "timed", "words"),
    [
        ("", False, "has no rows"),
        ('{"messages": [{"role": "user", "content": 3}]}\n', False, "row 1: a turn has no text"),
        ('{"messages": [{"role": "user", "content": "q"}]}\n', True, "row 1: no time `t`"),
        ('{"messages": [{"role": "user", "content": "q"}], "t": true}\n', True, "row 1: no time `t`"),
        ('{"x": 1}\n', False, "no row format fits"),
        ('{"messages": [{"role": "user", "content": "q"}]}\nnonsense\n', False, "row 2"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(tmp_path: Path, content: str, timed: bool, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError) as refused:
        read_recorded(path, "auto", 10, timed=timed)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "name an endpoint or a url"),
        ({"endpoint": "a", "url": "http://127.0.0.1:1/v1", "model": "m"}, "name an endpoint or a url"),
        ({"url": "http://127.0.0.1:1/v1"}, "name the model"),
        ({"url": "ftp://x", "model": "m"}, "must be an address"),
        ({"url": "http://127.0.0.1:99999/v1", "model": "m"}, "port"),
        ({"endpoint": "a", "concurrency": [1], "rate": [1.0]}, "not both"),
        ({"endpoint": "a", "concurrency": [0]}, "each must be from 1"),
        ({"endpoint": "a", "concurrency": [5000]}, "each must be from 1"),
        ({"endpoint": "a", "rate": [0]}, "above 0"),
        ({"endpoint": "a", "rate": "x"}, "rate"),
        ({"endpoint": "a", "requests": 0}, "requests"),
        ({"endpoint": "a", "key_env": "sk-secret"}, "not the key itself"),
        ({"endpoint": "a", "prompts": {"replay_speed": 1.0}}, "needs recorded requests"),
        ({"endpoint": "a", "prompts": {"replay_speed": 1.0, "dataset": "x"}, "rate": [1.0]}, "recorded times are the load"),
        ({"endpoint": "a", "temperature": 9}, "temperature"),
    ],
)
def test_a_load_that_cannot_be_is_refused_in_words(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_spec({"kind": "loadtest", **values})
    assert words in str(refused.value)


def test_one_number_is_a_list_and_commas_part_several() -> None:
    assert LoadtestSpec.model_validate({"endpoint": "a", "concurrency": "1,8"}).concurrency == [1, 8]
    assert LoadtestSpec.model_validate({"endpoint": "a", "rate": 2}).rate == [2.0]
