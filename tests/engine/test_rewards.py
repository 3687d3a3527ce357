"""A user's reward is looked at before the run is queued, and again before a model is loaded; what is wrong with it is said in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmops_tui.engine.jobs.rewards.user_function import call_function, load_function
from llmops_tui.engine.jobs.rewards.verdicts import Question, load_verdicts
from llmops_tui.engine.preflight_rewards import prepare_rewards
from llmops_tui.errors import ConflictError, LlmopsError, NotFoundError, UsageError
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_grpo import GrpoChoice
from tests.catalog_files import write_rows


def check(tmp_path: Path, reward: str, rows: list[dict[str, object]] | None = None) -> list[dict[str, str]]:
    """Preflight's look at one reward."""
    data = write_rows(tmp_path / "rows.jsonl", rows or [{"question": "1 + 1?", "answer": "2"}])
    return prepare_rewards(GrpoChoice(rewards=[reward]), {"path": str(data), "format": "question_answer"}, tmp_path)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def score(completion:\n", r"mine.py: line 1: not valid Python"),
        ("def other(completion): return 1\n", r"has no function score; it has: other"),
        ("async def score(completion): return 1\n", "is async"),
        ("def score(completion, tokens): return 1\n", "asks for tokens, which is not given"),
        ("def score(answer): return 1\n", "does not ask for the completion"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_without_being_run(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "mine.py").write_text(source + "open('touched', 'w')\n")
    with pytest.raises(UsageError, match=reason) as caught:
        check(tmp_path, "mine.py:score")
    assert caught.value.fields[0]["field"] == "grpo.rewards.0"


def test_a_missing_file_is_not_found_and_a_good_one_is_kept_with_its_digest(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file"):
        check(tmp_path, "mine.py:score")
    (tmp_path / "mine.py").write_text("def score(completion, answer, *, prompt=(), weight=2.0):\n    return weight\n")
    (kept,) = check(tmp_path, "mine.py:score")
    assert (kept["reward"], kept["path"]) == ("mine.py:score", str(tmp_path / "mine.py"))
    (verdict,) = load_verdicts(["mine.py:score"], [kept])
    assert (verdict.name, verdict.asks) == ("score", ("completion", "answer", "prompt"))
    (tmp_path / "mine.py").write_text("def score(completion): return 0\n")
    with pytest.raises(ConflictError, match="changed since the run was submitted"):
        load_verdicts(["mine.py:score"], [kept])


def test_an_answer_without_a_number_is_named_before_a_numeric_reward_starts(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": "1 + 1?", "answer": "2"}, {"question": "Who?", "answer": "Nobody"}]
    with pytest.raises(UsageError, match=r"rows.jsonl: row 2: the answer holds no number"):
        check(tmp_path, "numeric", rows)
    assert check(tmp_path, "exact", rows) == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise OSError('no disk')\n", "cannot be imported: OSError: no disk"),
        ("score = 3\n", "is int, no function"),
        ("def score(completion, /): return 1\n", "can only be given by position"),
        ("other = 1\n", "has no score"),
    ],
)
def test_what_only_an_import_shows_is_said_before_a_model_is_loaded(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(UsageError, match=reason):
        load_function(tmp_path / "mine.py", "score")


@pytest.mark.parametrize("value", ["much", None, float("nan"), [1.0]])
def test_a_reward_is_a_finite_number(value: Any) -> None:
    with pytest.raises(UsageError, match="no finite number"):
        call_function("mine.py:score", lambda: value, {})
    assert call_function("mine.py:score", lambda: True, {}) == 1.0


def test_a_function_that_raises_names_when_the_row_and_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(completion, row):\n    return 1 / row['n']\n")
    (verdict,) = load_verdicts([f"{tmp_path}/mine.py:score"], [])
    assert verdict.of(Question([], "2", 5, {"n": 4}), "two", "step 3") == 0.25
    with pytest.raises(LlmopsError, match=r"step 3, row 6: mine.py:score raised ZeroDivisionError"):
        verdict.of(Question([], "2", 6, {"n": 0}), "two", "step 3")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "grpo", "grpo": {"rewards": ["close"]}}, "'close' is no reward"),
        ({"method": "grpo", "grpo": {"rewards": []}}, "at least 1"),
        ({"method": "grpo", "grpo": {"rewards": ["exact", "exact"]}}, "given twice"),
        ({"method": "grpo", "grpo": {"weights": [1, 2]}}, "2 for 1 rewards"),
        ({"method": "grpo", "grpo": {"group": 3}}, "no multiple of 3 answers"),
        ({"method": "grpo", "grpo": {"completion_tokens": 64}, "max_length": 64}, "leave no room for a prompt"),
        ({"method": "kto", "micro_batch": 1}, "needs at least 2"),
        ({"method": "dpo", "preference": {"loss": "kto"}}, "kto is no loss of dpo"),
        ({"method": "kto", "preference": {"label_smoothing": 0.1}}, "only dpo"),
        *(({"method": method, "packing": True}, f"packing: {method} takes each row by itself") for method in ("dpo", "orpo", "reward")),
    ],
)
def test_what_a_method_cannot_do_is_refused_with_its_field(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TrainSpec.model_validate({"model": "m", "dataset": {"path": "rows.jsonl"}, **changes})
