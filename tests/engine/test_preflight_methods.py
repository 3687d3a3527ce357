"""Rows, rewards and models that a method cannot use are refused before anything is queued, with the field and the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.paths import Home
from tests.catalog_files import write_adapter, write_rows
from tests.engine.test_preflight import check, home, refused, wish

__all__ = ["home"]  # the fixture

PAIRS: list[dict[str, object]] = [{"prompt": f"{n}?", "chosen": "Yes.", "rejected": "No."} for n in range(12)]


def test_pairs_are_taken_by_dpo_and_refused_by_sft_with_the_methods_that_take_them(home: Home, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [*PAIRS, {"prompt": "0?", "chosen": "Yes.", "rejected": "Yes."}])
    prepared = check(home, wish(method="dpo"))
    assert prepared["dataset"]["format"] == "preference"
    assert "2 of 13 rows share another row's prompt" not in prepared["warnings"]
    assert "1 of 13 rows share another row's prompt" in prepared["warnings"]
    assert "1 of 13 pairs have the same answer twice: they teach nothing" in prepared["warnings"]
    error = refused(home, wish())
    assert "the rows have the format preference" in error.message
    assert error.next_step == "train with method=dpo or method=orpo or method=reward or method=kto, or set dataset.format"
    assert error.fields[0]["field"] == "dataset.path"


def test_answers_are_refused_by_methods_that_compare(home: Home) -> None:
    assert "this job reads preference" in refused(home, wish(method="reward")).message
    assert "this job reads kto, preference" in refused(home, wish(method="kto")).message


def test_a_directory_of_shards_is_a_dataset_and_its_bad_row_names_the_file(home: Home, tmp_path: Path) -> None:
    write_rows(tmp_path / "corpus" / "a.jsonl", PAIRS[:6])
    write_rows(tmp_path / "corpus" / "b.jsonl", PAIRS[6:])
    assert check(home, wish(dataset={"path": "corpus"}, method="dpo"))["dataset"]["rows"] == 12
    write_rows(tmp_path / "corpus" / "b.jsonl", [*PAIRS[6:8], {"prompt": "8?", "chosen": "Yes."}])
    assert "row 3 of b.jsonl: `rejected` is missing" in refused(home, wish(dataset={"path": "corpus"}, method="dpo")).message


def test_the_users_reward_is_kept_with_its_digest_and_a_wrong_one_refused_at_its_place(home: Home, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(completion):\n    return 1.0\n")
    wished = wish(method="grpo", grpo={"rewards": ["exact", "mine.py:score"]})
    (kept,) = check(home, wished)["rewards"]
    assert (kept["reward"], kept["path"]) == ("mine.py:score", str(tmp_path / "mine.py"))
    (tmp_path / "mine.py").unlink()
    assert refused(home, wished).fields[0]["field"] == "grpo.rewards.1"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_reward_model_neither_learns_further_nor_is_scored(home: Home, tmp_path: Path, kind: str) -> None:
    model: dict[str, Any] = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**model, "architectures": ["LlamaForSequenceClassification"]}))
    assert "is a reward model: it scores answers and does not speak" in refused(home, wish(kind)).message


def test_an_adapter_of_a_reward_model_is_known_as_one(home: Home, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "judge", str(tmp_path / "model"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "task_type": "SEQ_CLS"}))
    assert "is a reward model" in refused(home, wish("evaluate", model="./judge")).message
