"""A pruning is refused before anything starts, at its field, for each thing a user can get wrong."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.preflight import prepare
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.prune import PruneSpec
from llmops_tui.specs.settings import Settings
from tests.catalog_files import CONFIG, ROWS, write_adapter, write_model, write_rows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    write_model(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 4}))
    write_adapter(tmp_path / "adapter", str(tmp_path / "model"))
    write_rows(tmp_path / "rows.jsonl", list(ROWS))
    return Home(tmp_path / "home", explicit=True)


def check(home: Home, **fields: Any) -> dict[str, Any]:
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}})
    wish = {"kind": "prune", "model": "./model", "dataset": {"path": "rows.jsonl"}, **fields}
    return prepare(parse_spec(wish), home, settings, home.root.parent)


def test_model_and_rows_are_found_and_the_result_is_forecast(home: Home) -> None:
    prepared = check(home)
    assert prepared["rows"] == {"learnt": 36, "held_out": 4}
    assert prepared["disk_bytes"] > prepared["model"]["bytes"]
    json.dumps(prepared)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"model": "./adapter"}, "model", "is an adapter, and pruning needs a full model"),
        ({"layers": 4}, "layers", "4 of 4 layers would go"),
        ({"sparsity": 0.95}, "sparsity", "4 of 4 layers would go"),
        ({"dataset": {"path": "rows.jsonl", "eval_fraction": 0}}, "dataset.eval_fraction", "nothing is held out"),
        ({"layers": 1, "method": "wanda"}, "prune", "layers goes with method=layers"),
        ({"layers": 1, "sparsity": 0.5}, "prune", "set layers or sparsity, not both"),
        ({"pattern": "2:4"}, "prune", "pattern=2:4 is for single weights"),
        ({"pattern": "2:4", "method": "wanda", "sparsity": 0.6}, "prune", "pattern=2:4 is a sparsity of 0.5"),
        ({"sparsity": 1.0, "method": "wanda"}, "sparsity", "less than 1"),
    ],
)
def test_what_cannot_be_pruned_is_refused_at_its_field(home: Home, fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(LlmopsError) as caught:
        check(home, **fields)
    assert caught.value.fields[0]["field"] == field
    assert words in caught.value.message
    assert caught.value.next_step


def test_a_model_that_does_not_say_its_layers_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(LlmopsError, match="names no num_hidden_layers"):
        check(home)


def test_a_quarter_of_the_layers_is_never_less_than_a_quarter() -> None:
    spec = PruneSpec.model_validate({"model": "m", "dataset": {"path": "d"}})
    assert [spec.layers_of(count) for count in (2, 4, 30, 32)] == [1, 1, 8, 8]
    assert spec.model_copy(update={"method": "wanda"}).share() == 0.5
