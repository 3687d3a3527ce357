"""A merge is refused before anything starts, at its field; a good one knows its base, its rows and its room."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data import models
from llmops_tui.data.durable import write_json
from llmops_tui.engine.preflight import prepare
from llmops_tui.errors import InsufficientResourcesError, LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.catalog_files import ROWS, write_adapter, write_model, write_rows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    write_adapter(tmp_path / "adapter", str(write_model(tmp_path / "model")))
    write_rows(tmp_path / "rows.jsonl", list(ROWS))
    return Home(tmp_path / "home", explicit=True)


def check(home: Home, refuse_below: int = 0, **fields: Any) -> dict[str, Any]:
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": refuse_below}})
    return prepare(parse_spec({"kind": "merge", "adapter": "./adapter", **fields}), home, settings, home.root.parent)


def refused(home: Home, **fields: Any) -> LlmopsError:
    with pytest.raises(LlmopsError) as caught:
        check(home, **fields)
    assert caught.value.next_step
    assert "\n" not in str(caught.value)
    return caught.value


ROWS_FILE = {"dataset": "rows.jsonl"}


def trained_here(home: Home, tmp_path: Path, *, held_out: int = 4, **wish: Any) -> None:
    """The adapter as a run of this box leaves it."""
    run = home.runs / "train-rows-0001"
    write_adapter(run / "artifacts" / "adapter", str(tmp_path / "model"))
    prepared = {
        "dataset": {"path": str(tmp_path / "rows.jsonl"), "format": "question_answer"},
        "rows": {"learnt": 36, "held_out": held_out},
    }
    spec = {"dataset": {"path": "rows.jsonl"}, "seed": 7, "assistant_only": False, **wish}
    write_json(run / "spec.json", {"id": run.name, "spec": spec, "prepared": prepared})


def test_adapter_base_and_rows_are_found_and_the_whole_model_is_forecast(home: Home, tmp_path: Path) -> None:
    prepared = check(home, verify=ROWS_FILE)
    assert (prepared["adapter"]["format"], prepared["base"]["path"]) == ("adapter", str(tmp_path / "model"))
    assert (prepared["adapter_tokenizer"], prepared["quantized"]) == (True, "")
    assert prepared["verify"]["dataset"]["rows"] == 40
    assert prepared["disk_bytes"] > prepared["base"]["bytes"]
    json.dumps(prepared)


def test_a_base_that_is_registered_brings_its_name_and_licence(home: Home, tmp_path: Path) -> None:
    models.register_model(home, "small", tmp_path / "model", licence="mit")
    prepared = check(home, verify=ROWS_FILE)
    assert (prepared["base"]["name"], prepared["base"]["version"], prepared["base"]["licence"]) == ("small", 1, "mit")
    assert prepared["warnings"] == []


def test_without_named_rows_those_are_taken_that_the_adapters_run_held_out(home: Home, tmp_path: Path) -> None:
    trained_here(home, tmp_path)
    verify = check(home, adapter=str(home.runs / "train-rows-0001" / "artifacts" / "adapter"))["verify"]
    assert (verify["held_out"], verify["seed"], verify["assistant_only"]) == (True, 7, False)
    assert verify["why"] == "rows that train-rows-0001 held out"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"adapter": "./model", "verify": ROWS_FILE}, "adapter", "is a full model, and merging needs an adapter"),
        ({"adapter": "./gone", "verify": ROWS_FILE}, "adapter", "no file at"),
        ({}, "verify.dataset", "no run of this box held rows out"),
        ({"verify": {"dataset": "gone.jsonl"}}, "verify.dataset", "gone.jsonl"),
    ],
)
def test_what_cannot_be_merged_or_compared_is_refused_at_its_field(home: Home, fields: dict[str, Any], field: str, words: str) -> None:
    error = refused(home, **fields)
    assert error.fields[0]["field"] == field
    assert words in error.message


def test_a_run_that_held_nothing_out_gives_no_rows(home: Home, tmp_path: Path) -> None:
    trained_here(home, tmp_path, held_out=0)
    error = refused(home, adapter=str(home.runs / "train-rows-0001" / "artifacts" / "adapter"))
    assert error.fields[0]["field"] == "verify.dataset"


def test_a_reward_models_adapter_is_refused(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task_type": "SEQ_CLS"}))
    assert "is a reward model" in refused(home, verify=ROWS_FILE).message


def test_a_base_that_has_gone_is_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "model" / "config.json").rename(tmp_path / "config.json")
    assert "base" in refused(home, verify=ROWS_FILE).message


def test_a_quantized_base_needs_its_library_or_the_original_weights(home: Home, tmp_path: Path) -> None:
    trained_here(home, tmp_path, adaptation="qlora")
    wish = {"adapter": str(home.runs / "train-rows-0001" / "artifacts" / "adapter")}
    assert "bitsandbytes" in refused(home, **wish).message
    assert "quantized_base=original" in refused(home, **wish).next_step
    prepared = check(home, **wish, quantized_base="original")
    assert prepared["quantized"] == ""
    assert "which it never saw" in prepared["warnings"][0]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    assert "bitsandbytes" in refused(home, **wish, quantized_base="original").message


def test_a_disk_without_room_for_a_whole_model_is_refused(home: Home) -> None:
    with pytest.raises(InsufficientResourcesError, match="the run writes"):
        check(home, refuse_below=1 << 60, verify=ROWS_FILE)
