"""Following a run, against an engine that is played by the test: it dies in the middle, it ends the run in every way."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tui.commands import follow
from llmops_tui.errors import EngineUnavailableError


class PlayedEngine:
    """Answers `run` from a script: a state, or an error to raise."""

    def __init__(self, *script: str | BaseException, events: list[dict[str, Any]] | None = None) -> None:
        self._script = list(script)
        self._events = events or []
        self.starts = 0
        self.kind, self.exit_code = "train", 0

    def run(self, run_id: str) -> dict[str, Any]:
        step = self._script.pop(0)
        if isinstance(step, BaseException):
            raise step
        return {
            "id": run_id, "state": step, "reason": "because", "started_at": 1.0, "ended_at": 62.0, "exit_code": self.exit_code,
            "kind": self.kind, "progress": {"phase": "training", "done": 3, "total": 24, "unit": "steps", "eta_seconds": 90.0},
            "latest": {"train/loss": 2.5, "perf/tokens_per_second": 81.0},
        }  # fmt: skip

    def run_events(self, run_id: str, after: int = 0, types: list[str] = (), limit: int = 1000) -> list[dict[str, Any]]:  # type: ignore[assignment]
        return [event for event in self._events if event["offset"] > after and event["type"] in types]

    def ensure_engine(self) -> None:
        self.starts += 1


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("state", "code"), [("succeeded", 0), ("failed", 1), ("hung", 1), ("lost", 1), ("cancelled", 130), ("out_of_memory", 5)]
)
def test_the_exit_code_is_how_the_run_ended(state: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow.follow(PlayedEngine("running", state), "train-a-0001") == code  # type: ignore[arg-type]
    assert capsys.readouterr().out.startswith(f"train-a-0001 {state} after 1m01s")


@pytest.mark.parametrize(("kind", "code"), [("merge", 3), ("command", 1)])
def test_a_gate_that_failed_has_its_own_exit_code_and_a_program_of_the_users_has_not(kind: str, code: int) -> None:
    engine = PlayedEngine("failed")
    engine.kind, engine.exit_code = kind, 3
    assert follow.follow(engine, "merge-a-0001") == code  # type: ignore[arg-type]


def test_progress_is_told_on_stderr_and_no_line_twice(capsys: pytest.CaptureFixture[str]) -> None:
    follow.follow(PlayedEngine("queued", "running", "running", "running", "succeeded"), "train-a-0001")  # type: ignore[arg-type]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train-a-0001 queued: because",
        "train-a-0001 training 3/24 steps, 1m30s left  loss 2.5  tokens/s 81",
    ]


def test_an_engine_that_dies_in_the_middle_is_started_again_and_the_run_followed_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    engine = PlayedEngine("running", EngineUnavailableError("gone"), "running", "succeeded")
    assert follow.follow(engine, "train-a-0001") == 0  # type: ignore[arg-type]
    assert engine.starts == 1
    assert "the engine is gone, the run is not" in capsys.readouterr().err


def test_each_note_of_the_job_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        {"offset": 7, "type": "checkpoint", "step": 12},
        {"offset": 9, "type": "sample", "step": 12, "prompt": "p\x1b[2J", "text": "t"},
    ]
    follow.follow(PlayedEngine("running", "running", "succeeded", events=events), "train-a-0001")  # type: ignore[arg-type]
    error = capsys.readouterr().err
    assert error.count("checkpoint at step 12") == 1
    assert error.count("sample at step 12") == 1
    assert "\x1b" not in error


def test_ctrl_c_says_that_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        follow.follow(PlayedEngine("running", KeyboardInterrupt()), "train-a-0001")  # type: ignore[arg-type]
    assert "train-a-0001 goes on" in capsys.readouterr().err


def test_the_last_word_of_the_job_is_in_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    events = [{"offset": 20, "type": "end", "summary": {"perplexity_after": 11.25, "adapter": "artifacts/adapter", "nested": {"a": 1}}}]
    follow.follow(PlayedEngine("succeeded", events=events), "train-a-0001")  # type: ignore[arg-type]
    out = capsys.readouterr().out
    assert "perplexity_after  11.25" in out
    assert "artifacts/adapter" in out
    assert "nested" not in out
