"""Several adapters become one: exactly their weighted sum, or PEFT's other ways; what cannot be added is refused before."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmops_tui.engine.preflight import prepare
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.combine import CombineSpec
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.catalog_files import write_adapter, write_model
from tests.engine.job_in_process import run_in_process
from tests.engine.tiny_adapter import save_adapter, save_base


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("combine")
    base = save_base(directory / "base")
    save_adapter(directory / "one", base, seed=1, rank=4)
    save_adapter(directory / "two", base, seed=2, rank=4)
    save_adapter(directory / "wide", base, seed=3, rank=8)
    return directory


def updates(adapter: Path) -> dict[str, torch.Tensor]:
    """What an adapter adds to each weight: scale · B @ A."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    weights = load_file(adapter / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    thin = {name.removesuffix(".lora_A.weight"): tensor for name, tensor in weights.items() if name.endswith(".lora_A.weight")}
    return {name: scale * weights[f"{name}.lora_B.weight"] @ tensor for name, tensor in thin.items()}


@pytest.mark.parametrize(("number", "method", "adapters", "rank"), [
    (1, "cat", {"./one": 0.7, "./wide": -0.4}, 12),
    (2, "linear", {"./one": 1.0, "./two": 0.5}, 4),
    (3, "ties", {"./one": 1.0, "./two": 0.5}, 4),
    (4, "dare_linear", {"./one": 1.0, "./two": 0.5}, 4),
    (5, "dare_ties", {"./one": 1.0, "./two": 0.5}, 4),
])  # fmt: skip
def test_adapters_become_one_that_says_what_it_was_made_of(
    monkeypatch: pytest.MonkeyPatch, place: Path, number: int, method: str, adapters: dict[str, float], rank: int
) -> None:
    ended = run_in_process(monkeypatch, place, {"kind": "combine", "adapters": adapters, "method": method, "output": "both"}, number)
    assert (ended.code, ended.end["error"]) == (0, "")
    (artifact,) = ended.models()
    assert (artifact["name"], artifact["format"], artifact["base"]) == ("both", "adapter", str(place / "base"))
    assert [(parent["role"], parent.get("weight")) for parent in artifact["lineage"]["parents"]] == [
        *(("adapter", weight) for weight in adapters.values()),
        ("base", None),
    ]
    made = ended.run / "artifacts" / "adapter"
    assert sorted(path.name for path in (ended.run / "artifacts").iterdir()) == ["adapter"]
    config = json.loads((made / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"], ended.summary["rank"]) == (rank, str(place / "base"), rank)
    combined = updates(made)
    if method == "cat":
        one, wide = updates(place / "one"), updates(place / "wide")
        for name, update in combined.items():
            torch.testing.assert_close(update, 0.7 * one[name] - 0.4 * wide[name], rtol=1e-4, atol=1e-5)
    else:
        assert all(float(update.abs().max()) > 0 for update in combined.values())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    base = write_model(tmp_path / "base")
    write_model(tmp_path / "other", seed=1)
    write_model(tmp_path / "copy")
    for name, on in (("one", base), ("two", base), ("elsewhere", tmp_path / "other"), ("moved", tmp_path / "copy")):
        write_adapter(tmp_path / name, str(on))
    for name, changes in (
        ("wide", {"r": 16}), ("dora", {"use_dora": True}), ("pattern", {"target_modules": ".*q_proj"}),
        ("head1", {"modules_to_save": ["lm_head"]}), ("head2", {"modules_to_save": ["lm_head"]}), ("other_kind", {"peft_type": "IA3"}),
        ("judge", {"task_type": "SEQ_CLS"}),
    ):  # fmt: skip
        config = json.loads((write_adapter(tmp_path / name, str(base)) / "adapter_config.json").read_text())
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    return Home(tmp_path / "home", explicit=True)


def check(home: Home, *adapters: str, **fields: Any) -> dict[str, Any]:
    wish = {"kind": "combine", "adapters": list(adapters), **fields}
    return prepare(parse_spec(wish), home, Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}}), home.root.parent)


def test_adapters_of_the_same_base_are_taken_also_where_it_lies_twice(home: Home) -> None:
    prepared = check(home, "./one", "./two", "./moved")
    assert [adapter["weight"] for adapter in prepared["adapters"]] == [1.0, 1.0, 1.0]
    assert check(home, "./one", "./wide", method="cat")["adapters"][1]["ref"] == "./wide"


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        (("./one", "./elsewhere"), "'./one' was trained on"),
        (("./one", "./elsewhere"), "'./elsewhere' on"),
        (("./one", "./base"), "'./base' is a full model"),
        (("./one", "./gone"), "no file at"),
        (("./one", "./wide"), "the adapters have different ranks (./one 4, ./wide 16), which linear cannot add"),
        (("./one", "./dora"), "'./dora' is a DoRA adapter"),
        (("./one", "./other_kind"), "'./other_kind' is IA3, not LoRA"),
        (("./one", "./judge"), "'./judge' is a reward model"),
        (("./one", "./pattern"), "'./pattern' names its modules by a pattern"),
        (("./head1", "./head2"), "both bring whole modules"),
        (("./one",), "at least 2"),
        (("./one", "./one"), "./one is named twice"),
    ],
)
def test_what_cannot_be_added_is_refused_with_the_names(home: Home, adapters: tuple[str, ...], words: str) -> None:
    with pytest.raises(LlmopsError) as caught:
        check(home, *adapters)
    assert caught.value.fields[0]["field"] == "adapters"
    assert words in caught.value.message
    assert caught.value.next_step


def test_weights_are_named_in_a_list_or_a_mapping_and_must_do_something() -> None:
    listed = CombineSpec.model_validate({"adapters": [{"model": "a", "weight": 0.7}, "b"]})
    assert listed.adapters == {"a": 0.7, "b": 1.0}
    for adapters in ({"a": 0, "b": 1}, {"a": 1000, "b": 1}, [{"model": "a", "wait": 1}, "b"], {"a": "much", "b": 1}):
        with pytest.raises(ValueError, match="adapters"):
            CombineSpec.model_validate({"adapters": adapters})
