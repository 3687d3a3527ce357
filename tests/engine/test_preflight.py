"""A run is refused before anything starts, naming the field, the reason and the next step; a good one keeps what was found."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data import datasets, models
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.preflight import prepare
from llmops_tui.errors import InsufficientResourcesError, LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.train import LoraChoice, TrainSpec
from tests.catalog_files import ROWS, write_adapter, write_gguf, write_model, write_rows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "LLMOPS_MODEL_DIRS", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    # Only their presence is asked for, never their code: these tests hold where they are not installed.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    write_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", list(ROWS))
    return Home(tmp_path / "home", explicit=True)


def wish(kind: str = "train", dataset: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "model": "./model", "dataset": {"path": "rows.jsonl", **(dataset or {})}, **fields}


def check(home: Home, raw: dict[str, Any], **engine: int) -> dict[str, Any]:
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0, **engine}})
    return prepare(parse_spec(raw), home, settings, home.root.parent)


def refused(home: Home, raw: dict[str, Any]) -> LlmopsError:
    with pytest.raises(LlmopsError) as caught:
        check(home, raw)
    assert caught.value.next_step
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_was_found_is_kept_with_absolute_paths_and_digests(home: Home, tmp_path: Path) -> None:
    prepared = check(home, wish())
    assert prepared["model"]["path"] == str(tmp_path / "model")
    assert prepared["model"]["format"] == "full"
    assert prepared["dataset"]["path"] == str(tmp_path / "rows.jsonl")
    assert (prepared["dataset"]["format"], prepared["dataset"]["rows"]) == ("question_answer", 40)
    assert len(prepared["model"]["sha256"]) == len(prepared["dataset"]["sha256"]) == 64
    assert prepared["eval_dataset"] is None
    assert prepared["rows"] == {"learnt": 36, "held_out": 4}
    assert 0 < prepared["disk_bytes"] < prepared["disk_free_bytes"]
    assert datasets.unchanged(prepared) is None
    json.dumps(prepared)


def test_registered_names_are_resolved(home: Home, tmp_path: Path) -> None:
    models.register_model(home, "small", tmp_path / "model", licence="mit")
    datasets.import_dataset(home, tmp_path / "rows.jsonl", "support", licence="mit")
    prepared = check(home, wish(dataset={"path": "support@v1"}, model="small@v1"))
    assert (prepared["model"]["name"], prepared["model"]["version"]) == ("small", 1)
    assert (prepared["dataset"]["name"], prepared["dataset"]["version"], prepared["dataset"]["why"]) == ("support", 1, "as registered")
    assert not [warning for warning in prepared["warnings"] if "licence" in warning]


def test_a_broken_row_names_its_number_and_reason(home: Home, tmp_path: Path) -> None:
    lines = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)
    lines[16] = '{"question": "and?", "answer": ""}\n'
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    error = refused(home, wish())
    assert error.exit_code == 2
    assert error.message.endswith("rows.jsonl: row 17: `answer` is empty")
    assert error.fields == [{"field": "row 17", "message": "`answer` is empty"}]


def test_a_broken_row_of_the_held_out_file_is_found_too(home: Home, tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_text('{"question": "a", "answer": "b"}\nbroken\n')
    assert "held.jsonl: row 2: invalid JSON" in refused(home, wish(dataset={"eval_path": "held.jsonl"})).message


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (wish(dataset={"path": "gone.jsonl"}), "dataset.path"),
        (wish(dataset={"eval_path": "gone.jsonl"}), "dataset.eval_path"),
        (wish(dataset={"path": "support@v3"}), "dataset.path"),
    ],
)
def test_a_missing_file_is_not_found_at_its_field(home: Home, raw: dict[str, Any], field: str) -> None:
    error = refused(home, raw)
    assert isinstance(error, NotFoundError)
    assert error.exit_code == 4
    assert error.fields[0]["field"] == field


def test_a_missing_model_is_not_found(home: Home) -> None:
    error = refused(home, wish(model="./nowhere"))
    assert error.exit_code == 4
    assert [field["field"] for field in error.fields] == ["model"]
    assert refused(home, wish(model="nobody@v2")).exit_code == 4


def test_a_model_directory_without_weights_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "model" / "model.safetensors").unlink()
    error = refused(home, wish())
    assert error.exit_code == 2
    assert "holds no weights: model.safetensors is missing" in error.message


def test_training_starts_from_a_full_model_or_an_adapter_whose_base_is_there_not_from_gguf(home: Home, tmp_path: Path) -> None:
    write_gguf(tmp_path / "q.gguf")
    write_adapter(tmp_path / "adapter", "org/not-here")
    assert "safetensors directory" in refused(home, wish(model="./q.gguf")).next_step
    assert "the adapter's base is missing" in refused(home, wish(model="./adapter")).message
    write_adapter(tmp_path / "adapter", str(tmp_path / "model"))
    assert check(home, wish(model="./adapter"))["continued"]["r"] == 4


def test_a_model_without_tokenizer_or_chat_template_is_refused_for_conversations(home: Home, tmp_path: Path) -> None:
    write_model(tmp_path / "mute", tokenizer=False)
    write_model(tmp_path / "base", chat_template=False)
    assert "has no tokenizer" in refused(home, wish(model="./mute")).message
    assert "has no chat template" in refused(home, wish(model="./base")).message
    write_rows(tmp_path / "text.jsonl", [{"text": f"Once upon a time, {number}."} for number in range(9)])
    assert check(home, wish(model="./base", dataset={"path": "text.jsonl"}))["dataset"]["format"] == "text"


def test_a_registered_model_whose_files_changed_is_refused(home: Home, tmp_path: Path) -> None:
    models.register_model(home, "small", tmp_path / "model")
    write_model(tmp_path / "model", seed=9)
    assert "changed since 'small' was registered" in refused(home, wish(model="small")).message


def test_missing_libraries_name_the_command_that_installs_them(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("trl", "peft") else object())
    error = refused(home, wish())
    assert error.message == "not installed: peft, trl"
    assert "pip install 'llmops-tui[train]'" in error.next_step


def test_target_modules_that_name_no_weight_are_refused(home: Home) -> None:
    assert refused(home, wish(lora={"target_modules": ["c_attn"]})).fields[0]["field"] == "lora.target_modules"
    assert check(home, wish(lora={"target_modules": ["q_proj"]}))["rows"]["learnt"] == 36


def test_an_empty_sample_prompt_is_refused_by_its_place(home: Home) -> None:
    assert refused(home, wish(sample_prompts=["Hello", " "])).fields[0]["field"] == "sample_prompts.1"


def test_too_few_rows_to_hold_one_out_are_refused(home: Home, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [ROWS[0]] * 5)
    assert "too few to hold one out" in refused(home, wish()).message
    assert check(home, wish(dataset={"eval_fraction": 0}))["rows"] == {"learnt": 5, "held_out": 0}


def test_a_run_that_does_not_fit_the_disk_is_refused_with_the_figures(home: Home) -> None:
    with pytest.raises(InsufficientResourcesError, match=r"has .*B free, the run writes .*B, and 1000000\.0 TB must stay free") as caught:
        check(home, wish(), refuse_start_free_bytes=10**18)
    assert caught.value.exit_code == 5
    assert "keep_checkpoints" in caught.value.next_step


def test_the_users_own_forecast_is_believed(home: Home) -> None:
    command = {"kind": "command", "argv": [sys.executable], "resources": {"disk_bytes": 10**18}}
    with pytest.raises(InsufficientResourcesError):
        check(home, command)
    assert check(home, {**command, "resources": {"disk_bytes": 5}})["disk_bytes"] == 5


def test_the_forecast_counts_the_checkpoint_being_written_beside_those_kept() -> None:
    matrices = {
        "model.embed_tokens.weight": (1000, 100),
        "lm_head.weight": (1000, 100),
        "l.0.q_proj.weight": (100, 100),
        "l.0.up_proj.weight": (400, 100),
    }
    assert sorted(disk_forecast.adapted_matrices(matrices, LoraChoice())) == [(100, 100), (400, 100)]
    assert disk_forecast.adapted_matrices(matrices, LoraChoice(target_modules=["q_proj"])) == [(100, 100)]
    shapes = [(100, 100), (400, 100)]
    spec = TrainSpec.model_validate(wish(lora={"r": 8}, keep_checkpoints=2))
    adapter = 4 * 8 * 700
    more = disk_forecast.train_bytes(spec.model_copy(update={"keep_checkpoints": 3}), shapes) - disk_forecast.train_bytes(spec, shapes)
    assert disk_forecast.train_bytes(spec, shapes) > 10 * adapter
    assert more > 3 * adapter


def test_warnings_name_long_rows_repeated_rows_shared_rows_and_short_sets(home: Home, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [*ROWS[:30], ROWS[0], {"question": "long?", "answer": "word " * 1500}])
    write_rows(tmp_path / "held.jsonl", ROWS[:6])
    warnings = "; ".join(check(home, wish(dataset={"eval_path": "held.jsonl"}, max_length=1024))["warnings"])
    assert "about 1 of 32 rows are longer than max_length" in warnings
    assert "1 of 32 rows repeat another row" in warnings
    assert "6 rows of eval_path are also learnt from" in warnings
    assert "only 6 held-out rows" in warnings
    assert "only 32 rows to learn from" in warnings
    assert "licence of the model is not known" in warnings
    assert "beyond the model's context of 2048" in "; ".join(check(home, wish(max_length=4096))["warnings"])
    write_rows(tmp_path / "rows.jsonl", [*ROWS[:30], {"question": "long?", "answer": "word " * 4000}])
    with pytest.raises(UsageError, match="max_length: about 1 of 31 rows would be longer than the model's context of 2048 tokens"):
        check(home, wish(max_length=4096))


def test_an_adapter_is_evaluated_on_its_base(home: Home, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", str(tmp_path / "model"))
    prepared = check(home, wish("evaluate", model="./adapter"))
    assert (prepared["model"]["format"], prepared["model"]["base_path"]) == ("adapter", str(tmp_path / "model"))
    assert prepared["rows"]["held_out"] == 4
    write_adapter(tmp_path / "adapter", "org/not-here")
    assert "the adapter's base is missing" in refused(home, wish("evaluate", model="./adapter")).message


def test_an_adapter_without_its_tokenizer_is_refused_with_the_way_out(home: Home, tmp_path: Path) -> None:
    write_adapter(tmp_path / "bare", str(tmp_path / "model"), tokenizer=False)
    error = refused(home, wish("evaluate", model="./bare"))
    assert "has no tokenizer" in error.message
    assert "its base's tokenizer" in error.next_step


def test_an_evaluation_of_nothing_is_refused(home: Home) -> None:
    assert refused(home, wish("evaluate", {"eval_fraction": 0})).fields[0]["field"] == "dataset.eval_fraction"
    assert check(home, wish("evaluate", {"eval_fraction": 0}, split="all"))["dataset"]["rows"] == 40


def test_a_commands_program_and_directory_are_found_first(home: Home, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    assert "is not an executable file" in refused(home, {"kind": "command", "argv": ["./job.sh"]}).message
    script.chmod(0o755)
    assert check(home, {"kind": "command", "argv": ["./job.sh"]})["program"] == str(script)
    assert check(home, {"kind": "command", "argv": ["sh"], "cwd": "model"})["cwd"] == str(tmp_path / "model")
    assert refused(home, {"kind": "command", "argv": ["no-such-program"]}).exit_code == 4
    assert refused(home, {"kind": "command", "argv": ["sh"], "cwd": "none"}).fields[0]["field"] == "cwd"
    assert refused(home, {"kind": "command", "argv": ["sh"], "env": {"PATH": str(tmp_path)}}).fields[0]["field"] == "argv.0"


@pytest.mark.parametrize("env", [{"1X": "a"}, {"A B": "a"}, {"": "a"}, {"A": "a\0b"}, {"LLMOPS_RUN_DIR": "/"}])
def test_an_environment_no_process_can_have_is_refused(home: Home, env: dict[str, str]) -> None:
    assert isinstance(refused(home, {"kind": "command", "argv": ["sh"], "env": env}), UsageError)


def test_nothing_is_written_to_the_state_directory_by_a_refused_wish(home: Home) -> None:
    refused(home, wish(dataset={"path": "gone.jsonl"}))
    assert not home.root.exists()
