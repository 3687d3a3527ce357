"""The job itself, against a server of a known pace: what it measures is what was there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.control import ControlChannel
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.jobs.loadtest import loadtest
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.loadtest import LoadtestSpec
from tests.loadtest.guidellm_schema import SCHEMA, faults
from tests.loadtest.model_server import ModelServer, model_server
from tests.waiting import wait_for

Run = Callable[..., tuple[dict[str, Any], bool]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the job in this process against a server; `baseline` is an earlier run's directory."""
    monkeypatch.setenv("LLMOPS_ATTEMPT", "1")
    monkeypatch.setenv("LLMOPS_CONTROL_BYTES", "0")

    def carry_out(
        server: ModelServer, name: str = "run", baseline: str = "", asked: str = "", **values: Any
    ) -> tuple[dict[str, Any], bool]:
        directory = RunDir(tmp_path / name)
        directory.path.mkdir()
        (directory.path / "control.jsonl").write_text(asked)
        spec = LoadtestSpec.model_validate({"url": server.url, "model": "m", "warmup": 0, **values})
        earlier = {"run": baseline, "report": str(tmp_path / baseline / "artifacts" / "report.json")} if baseline else None
        dataset = {"path": spec.prompts.dataset, "format": "auto"} if spec.prompts.dataset else None
        prepared = {"target": {"url": spec.url, "model": "m", "endpoint": spec.url}, "slo": spec.slo.model_dump(), "dataset": dataset}
        record = {"spec": spec.model_dump(mode="json"), "prepared": {**prepared, "baseline": earlier}}
        return loadtest(directory, record, Reporter(EventWriter(directory.path), ControlChannel(directory.path)))

    return carry_out


def test_a_closed_loop_keeps_so_many_under_way_and_measures_the_servers_pace(run: Run, tmp_path: Path) -> None:
    with model_server(first=0.05, gap=0.02) as server:
        summary, stopped = run(server, concurrency=[3], requests=12, prompts={"answer_tokens": 5})
    (stage,) = summary["stages"]
    assert not stopped
    assert summary["stages"][0]["most_outstanding"] == 3
    assert (stage["completed"], stage["completion_tokens"], stage["prompt_tokens"]) == (12, 60, 84)
    assert stage["ttft_ms"]["min"] >= 50
    assert stage["e2e_ms"]["min"] >= 130
    assert stage["counted_by"] == "usage"
    report = json.loads((tmp_path / "run" / "artifacts" / "report.json").read_bytes())
    samples = report["samples"]["3 at once"]
    assert len(samples["ttft_ms"]) == 12
    # A busy box may see the first piece late and the gaps after it shorter, but never the last one before it was sent.
    assert all(first + 4 * gap >= 130 for first, gap in zip(samples["ttft_ms"], samples["tpot_ms"], strict=True))
    told = json.loads((tmp_path / "run" / "artifacts" / "guidellm.json").read_bytes())
    assert faults(told, json.loads(SCHEMA.read_bytes())["classes"]) == []


def test_an_open_loop_sends_when_requests_are_due_and_counts_their_waiting(run: Run) -> None:
    """One slot of 0.1 s a request and 20 a second: each waits longer than the one before, which a closed loop would hide."""
    with model_server(first=0.1, gap=0.0, slots=1) as server:
        summary, _ = run(server, rate=[20.0], arrivals="constant", requests=10, prompts={"answer_tokens": 1})
    (stage,) = summary["stages"]
    assert stage["completed"] == 10
    assert server.most_at_once > 3
    assert stage["ttft_ms"]["max"] >= 10 * 100 - 9 * 50
    assert stage["ttft_ms"]["p50"] > 200


def test_more_outstanding_than_allowed_wait_and_that_counts(run: Run) -> None:
    with model_server(first=0.1, gap=0.0) as server:
        summary, _ = run(server, rate=[100.0], arrivals="constant", requests=8, most_outstanding=2, prompts={"answer_tokens": 1})
    assert summary["stages"][0]["most_outstanding"] == 2
    assert summary["stages"][0]["ttft_ms"]["max"] >= 300


def test_without_usage_the_pieces_are_counted(run: Run) -> None:
    with model_server(usage=False) as server:
        summary, _ = run(server, concurrency=[1], requests=2, prompts={"answer_tokens": 4})
    assert (summary["stages"][0]["completion_tokens"], summary["stages"][0]["counted_by"]) == (8, "pieces")


@pytest.mark.parametrize(("fail", "words"), [("status", "429: too many"), ("midway", "closed")])
def test_an_endpoint_that_answers_nothing_is_a_failure_with_its_own_words(run: Run, tmp_path: Path, fail: str, words: str) -> None:
    with model_server(fail=fail) as server, pytest.raises(LlmopsError) as told:
        run(server, concurrency=[2], requests=4, prompts={"answer_tokens": 4})
    assert words in str(told.value)
    report = json.loads((tmp_path / "run" / "artifacts" / "report.json").read_bytes())
    assert report["stages"][0]["failed"] == 4


def test_nobody_there_is_told_by_the_warm_up(run: Run) -> None:
    with model_server() as server:
        pass
    with pytest.raises(LlmopsError, match="does not answer: no connection"):
        run(server, warmup=1, requests=2)


def test_a_stage_ends_in_time_and_gives_up_what_is_under_way_at_the_server_too(run: Run, tmp_path: Path) -> None:
    with model_server(first=0.01, gap=0.2) as server:
        with pytest.raises(LlmopsError, match="no request was answered"):
            run(server, concurrency=[2], requests=50, seconds=0.5, prompts={"answer_tokens": 100})
        wait_for(lambda: server.hung_up == 2)
    (stage,) = json.loads((tmp_path / "run" / "artifacts" / "report.json").read_bytes())["stages"]
    assert (stage["given_up"], stage["completed"]) == (2, 0)
    assert len(server.asked) == 2


def test_asked_to_stop_it_reports_what_was_measured(run: Run) -> None:
    with model_server(first=0.01, gap=0.01) as server:
        summary, stopped = run(
            server, asked='{"command": "stop", "t": 9e9, "who": "x"}\n', concurrency=[1], requests=100_000, prompts={"answer_tokens": 2}
        )
    assert stopped
    assert 0 < summary["stages"][0]["completed"] < 100_000


def test_it_is_compared_with_an_earlier_test_of_the_same_load(run: Run) -> None:
    how: dict[str, Any] = {"concurrency": [2], "requests": 40, "prompts": {"answer_tokens": 3}}
    with model_server(first=0.01, gap=0.002) as fast:
        run(fast, name="before", **how)
    with model_server(first=0.06, gap=0.02) as slow:
        summary, _ = run(slow, name="after", baseline="before", **how)
    assert summary["comparison"][0]["verdict"] == "slower"
    assert summary["beside_baseline"].startswith("slower beside before (2 at once: ")


def test_a_baseline_that_has_gone_is_named(run: Run) -> None:
    with model_server() as server, pytest.raises(LlmopsError, match="the report of gone cannot be read"):
        run(server, baseline="gone", concurrency=[1], requests=2, prompts={"answer_tokens": 1})


def test_recorded_requests_are_replayed_at_their_pace(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"q{n}"}], "t": 100.0 + n} for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with model_server(first=0.01, gap=0.0) as server:
        summary, _ = run(server, requests=5, prompts={"dataset": str(path), "replay_speed": 10.0, "answer_tokens": 1})
    assert [body["messages"][-1]["content"] for body in server.asked] == [f"q{n}" for n in range(5)]
    assert summary["stages"][0]["stage"] == "replay"
    assert summary["stages"][0]["seconds"] >= 0.4


def test_the_key_goes_into_the_head_and_nowhere_else(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "lk-very-secret")
    with model_server() as server:
        run(server, concurrency=[1], requests=1, key_env="MY_KEY", prompts={"answer_tokens": 1})
    assert "authorization: bearer lk-very-secret" in server.heads[0].lower()
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"very-secret" not in written
