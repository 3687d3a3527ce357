"""The job `merge` on a tiny model: what a good merge leaves, and that a broken one is refused and leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmops_tui.data.model_files import recognise
from llmops_tui.engine.jobs import model_writing
from llmops_tui.engine.jobs.divergence import Divergence, Heard, compare
from llmops_tui.engine.jobs.merge import verification_faults
from llmops_tui.specs.merge import VerifyChoice
from tests.engine.job_in_process import Ended, run_in_process
from tests.engine.tiny_adapter import save_adapter, save_base
from tests.engine.tiny_model import write_rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("merge")
    save_adapter(directory / "adapter", save_base(directory / "base"))
    write_rows(directory / "rows.jsonl")
    (directory / "base" / "LICENSE").write_text("Apache License\nVersion 2.0")
    return directory


def merge(monkeypatch: pytest.MonkeyPatch, place: Path, number: int, **fields: Any) -> Ended:
    wish = {"kind": "merge", "adapter": "./adapter", "output": "merged", "verify": {"dataset": "rows.jsonl", "rows": 8}, **fields}
    return run_in_process(monkeypatch, place, wish, number)


def test_a_merged_model_is_written_as_its_base_was_and_proven_to_speak_as_the_adapter(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    ended = merge(monkeypatch, place, 1)
    assert (ended.code, ended.end["status"], ended.end["error"]) == (0, "succeeded", "")
    summary = ended.summary
    assert summary["verified"] is True
    assert summary["mean_kl"] < 1e-3 < summary["kl_to_base"]
    assert summary["perplexity_merged"] == pytest.approx(summary["perplexity_adapter"], rel=0.005)
    assert [check["verdict"] for check in summary["checks"][:3]] == ["passed"] * 3

    model = ended.run / "artifacts" / "model"
    weights = load_file(model / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert not [name for name in weights if "lora" in name]
    found = recognise(model)
    assert (found.complete, found.format, found.chat_template, found.licence) == (True, "full", True, "apache-2.0")
    assert json.loads((model / "generation_config.json").read_text())["eos_token_id"] == 258

    (artifact,) = ended.models()
    assert (artifact["name"], artifact["path"], artifact["licence"]) == ("merged", "artifacts/model", "apache-2.0")
    assert [(parent["role"], parent["path"]) for parent in artifact["lineage"]["parents"]] == [
        ("adapter", str(place / "adapter")),
        ("base", str(place / "base")),
    ]


def _without_the_adapter(model: Any) -> None:
    """What is left where the adapter's update is never added."""
    from transformers import AutoModelForCausalLM

    model.load_state_dict(AutoModelForCausalLM.from_pretrained(model.config.name_or_path, dtype=torch.float32).state_dict())


def _a_layer_off(model: Any) -> None:
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(-3.0)


def _not_a_number(model: Any) -> None:
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")


@pytest.mark.parametrize(
    ("number", "breaks", "reason"),
    [
        (2, _without_the_adapter, "the adapter's effect was lost"),
        (3, _a_layer_off, "nats a token is above"),
        (4, _not_a_number, "mean KL nan"),
    ],
)
def test_a_broken_merge_is_refused_with_code_3_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, place: Path, number: int, breaks: Callable[[Any], None], reason: str
) -> None:
    settle = model_writing.settle_stop_tokens

    def settle_and_break(model: Any, tokenizer: Any) -> None:
        settle(model, tokenizer)
        breaks(model)

    monkeypatch.setattr(model_writing, "settle_stop_tokens", settle_and_break)
    ended = merge(monkeypatch, place, number)
    assert (ended.code, ended.end["status"]) == (3, "failed")
    assert reason in ended.end["error"]
    assert "nothing was registered" in ended.end["error"]
    assert ended.models() == []
    assert sorted(path.name for path in (ended.run / "artifacts").iterdir()) == ["verification.json"]


def test_a_lost_template_refuses_the_merge_and_the_files_are_kept_aside_where_asked(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    write = model_writing.write_full_model

    def write_otherwise(model: Any, tokenizer: Any, directory: Path, *others: Any) -> None:
        write(model, tokenizer, directory, *others)
        template = directory / "chat_template.jinja"
        template.write_text(template.read_text().replace("Be nice", "Be rude"))

    monkeypatch.setattr(model_writing, "write_full_model", write_otherwise)
    ended = merge(monkeypatch, place, 5, keep_refused=True)
    assert ended.code == 3
    assert "chat template: renders conversation 1 otherwise than its source" in ended.end["error"]
    assert recognise(ended.run / "artifacts" / "refused").complete
    assert ended.models() == []


def test_divergence_is_torchs_kl_and_the_worst_token_is_found_in_its_row() -> None:
    generator = torch.Generator().manual_seed(3)
    one, other = torch.randn(300, 11, generator=generator), torch.randn(300, 11, generator=generator)
    targets, row = torch.randint(11, (300,), generator=generator), torch.arange(300) // 100
    other[250] = -5 * one[250]
    found = compare(Heard(one, None, targets, row), Heard(other, None, targets, row))
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    each = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    assert found.mean_kl == pytest.approx(float(each.mean()), rel=1e-5)
    assert found.max_kl == pytest.approx(float(each.max()), rel=1e-5)
    assert (found.worst_row, found.tokens, found.rows) == (2, 300, 3)
    assert found.perplexity_first == pytest.approx(float(torch.nn.functional.cross_entropy(one, targets).exp()), rel=1e-4)


def test_each_threshold_is_named_with_its_figure_and_not_a_number_breaks_all() -> None:
    allowed = VerifyChoice()

    def faults(**figures: float) -> list[str]:
        good = {"mean_kl": 1e-5, "max_kl": 1e-3, "perplexity_first": 10.0, "perplexity_second": 10.01}
        whole = {"worst_row": 4, "same_choice": 1.0, "tokens": 9, "rows": 5}
        effect = Divergence(mean_kl=0.1, max_kl=1.0, perplexity_first=10.0, perplexity_second=12.0, **whole)  # type: ignore[arg-type]
        return verification_faults(Divergence(**{**good, **whole, **figures}), effect, allowed)  # type: ignore[arg-type]

    assert faults() == []
    assert faults(mean_kl=0.006) == ["mean KL 0.006 nats a token is above 0.005"]
    assert faults(max_kl=0.6) == ["KL 0.6 nats at one token of row 5 is above 0.5"]
    assert faults(perplexity_second=9.8) == ["perplexity 10 became 9.8, more than 1.0% off"]
    nan = float("nan")
    assert len(faults(mean_kl=nan, max_kl=nan, perplexity_second=nan)) == 3
