"""The method distill: a student learns its teacher, and one with other words is refused before anything starts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.preflight import prepare
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.catalog_files import CONFIG, ROWS, write_adapter, write_model
from tests.catalog_files import write_rows as write_zero_rows
from tests.engine.job_in_process import run_in_process
from tests.engine.tiny_adapter import save_adapter
from tests.engine.tiny_model import make_model, make_tokenizer, save_model, write_rows


def test_a_student_comes_closer_to_its_teacher_and_says_how_good_that_one_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    student = save_model(tmp_path / "student")
    teacher = tmp_path / "teacher"
    clear = make_model(7)
    clear.model.norm.weight.data.mul_(20)  # as made it says everything alike, which teaches nothing
    clear.save_pretrained(teacher)
    make_tokenizer().save_pretrained(teacher)
    save_adapter(tmp_path / "tuned", teacher, strength=0.1)
    write_rows(tmp_path / "rows.jsonl")
    wish = {
        "kind": "train", "method": "distill", "model": str(student), "dataset": {"path": "rows.jsonl", "eval_fraction": 0.25},
        "distill": {"teacher": "./tuned", "weight": 1.0}, "adaptation": "full", "optim": {"learning_rate": 0.02, "schedule": "constant"},
        "max_steps": 6, "max_length": 96, "sample_tokens": 2, "packing": False,
    }  # fmt: skip
    ended = run_in_process(monkeypatch, tmp_path, wish)
    assert (ended.code, ended.end["error"]) == (0, "")
    points = [event["values"] for event in ended.events if "train/distill_loss" in event.get("values", {})]
    assert len(points) == 6
    assert points[-1]["train/distill_loss"] < 0.8 * points[0]["train/distill_loss"]
    assert points[0]["train/distill_loss"] == pytest.approx(points[0]["train/loss"], rel=1e-3)  # the rows themselves have no part
    assert ended.summary["perplexity_teacher"] > 1
    assert [event["format"] for event in ended.models()] == ["full"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for name in ("model", "teacher"):
        write_model(tmp_path / name)
        write_words(tmp_path / name, {"a": 0, "b": 1})
    write_zero_rows(tmp_path / "rows.jsonl", list(ROWS))
    return Home(tmp_path / "home", explicit=True)


def write_words(model: Path, words: dict[str, int], added: tuple[dict[str, Any], ...] = ()) -> None:
    (model / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}, "added_tokens": list(added)}))


def check(home: Home, **fields: Any) -> dict[str, Any]:
    chosen = {"dataset": {"path": "rows.jsonl"}, "distill": {"teacher": "./teacher"}, **fields}
    wish = {"kind": "train", "method": "distill", "model": "./model", **chosen}
    return prepare(parse_spec(wish), home, Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}}), home.root.parent)


def refused(home: Home, **fields: Any) -> LlmopsError:
    with pytest.raises(LlmopsError) as caught:
        check(home, **fields)
    assert caught.value.next_step
    return caught.value


def test_a_teacher_of_the_same_words_is_kept_with_the_run_though_its_file_is_written_otherwise(home: Home, tmp_path: Path) -> None:
    (tmp_path / "teacher" / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": {"vocab": {"b": 1, "a": 0}}}, indent=2))
    assert check(home)["teacher"]["path"] == str(tmp_path / "teacher")


def test_an_adapter_can_teach_with_its_base(home: Home, tmp_path: Path) -> None:
    write_adapter(tmp_path / "tuned", str(tmp_path / "teacher"), tokenizer=False)
    assert check(home, distill={"teacher": "./tuned"})["teacher"]["base_path"] == str(tmp_path / "teacher")


def test_a_teacher_with_other_words_is_refused_with_the_first_of_them(home: Home, tmp_path: Path) -> None:
    write_words(tmp_path / "teacher", {"a": 0, "c": 1})
    error = refused(home)
    assert error.fields[0]["field"] == "distill.teacher"
    assert "has another vocabulary than './model': 2 tokens differ, for example 'b' is None, not 1" in error.message
    write_words(tmp_path / "teacher", {"a": 0, "b": 1}, ({"content": "<end>", "id": 2},))
    assert "1 tokens differ" in refused(home).message


def test_a_teacher_that_predicts_another_number_of_tokens_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "teacher" / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 99}))
    assert "it predicts 99 tokens, the student None" in refused(home).message


def test_a_broken_tokenizer_is_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "teacher" / "tokenizer.json").write_text("[]")
    assert "tokenizer.json is no tokenizer" in refused(home).message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"distill": {}}, "distill.teacher: method=distill learns from a teacher"),
        ({"method": "sft"}, "distill.teacher: method=sft has no teacher"),
        ({"distill": {"teacher": "./gone"}}, "no file at"),
        ({"distill": {"teacher": "./teacher", "temperature": 0}}, "distill.temperature"),
        ({"distill": {"teacher": "./teacher", "weight": 1.5}}, "distill.weight"),
    ],
)
def test_a_wish_that_does_not_fit_together_is_refused(home: Home, fields: dict[str, Any], words: str) -> None:
    error = refused(home, **fields)
    assert words in error.message
    assert isinstance(error, UsageError) or error.exit_code == 4
