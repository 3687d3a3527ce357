"""Training goes on from an adapter, by every method: from where it stood, with its own settings, and only on its own base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.lineage import lineage
from llmops_tui.engine.estimate.facts import glance
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_continued import following
from tests.engine.job_in_process import Ended, run_in_process
from tests.engine.tiny_adapter import save_adapter
from tests.engine.tiny_model import make_model, save_model, write_rows

ADAPTER = "home/runs/train-tiny-0001/artifacts/adapter"
PAIRS = [{"prompt": f"{n}?", "chosen": "Yes, indeed.", "rejected": "No, no."} for n in range(16)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, rows, and an rsLoRA adapter that a run of this box made."""
    place = tmp_path_factory.mktemp("continued")
    save_model(place / "model")
    write_rows(place / "rows.jsonl")
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = run_in_process(monkeypatch, place, wish(model="model", adaptation="rslora", lora={"r": 3, "alpha": 5}))
    assert made.end["status"] == "succeeded", made.end["error"]
    return place


@pytest.fixture
def go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """A run from the adapter; its directory is its own."""

    def run(**changes: Any) -> Ended:
        number = len(list((place / "home" / "runs").iterdir())) + 1
        ended = run_in_process(monkeypatch, place, wish(**changes), number)
        assert ended.end["status"] == "succeeded", ended.end["error"]
        return ended

    return run


def wish(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "train", "model": ADAPTER, "dataset": {"path": "rows.jsonl", "eval_fraction": 0.25}, "sample_tokens": 1,
        "optim": {"learning_rate": 0.02, "schedule": "constant"}, "max_steps": 3, "micro_batch": 2, "max_length": 120, **changes,
    }  # fmt: skip


def losses(run: Ended, name: str = "train/loss") -> dict[int, float]:
    return {event["step"]: event["values"][name] for event in run.events if name in event.get("values", {})}


def test_it_begins_where_the_adapter_stood_keeps_its_settings_and_names_its_line(place: Path, go_on: Callable[..., Ended]) -> None:
    first = json.loads((place / ADAPTER / "../../events.jsonl").resolve().read_text().splitlines()[-1])["summary"]
    second = go_on(lora={"r": 8})
    assert second.summary["eval_loss_before"] == pytest.approx(first["eval_loss_after"], abs=1e-6)
    assert second.summary["eval_loss_after"] < second.summary["eval_loss_before"]
    config = json.loads((second.run / "artifacts/adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (3, 5, True)
    assert config["base_model_name_or_path"] == second.models()[0]["base"] == str(place / "model")
    prepared = json.loads((second.run / "spec.json").read_text())["prepared"]
    assert "lora.r is the adapter's own, 3: 8 is not used" in prepared["warnings"]
    assert prepared["continued"]["adaptation"] == "rslora"
    node = lineage(Home(place / "home", explicit=True), str(second.run / "artifacts/adapter"), place)
    parent = node["parents"][0]
    assert (parent["role"], parent["run"], parent["path"]) == ("adapter", "train-tiny-0001", str(place / ADAPTER))
    assert (parent["parents"][0]["role"], parent["parents"][0]["path"]) == ("base", str(place / "model"))


def test_dpo_prefers_to_the_adapter_it_began_as_not_to_the_bare_base_and_resumes_exactly(
    place: Path, go_on: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "method": "dpo",
        "dataset": {"path": "pairs.jsonl", "eval_fraction": 0.25},
        "max_steps": 4,
        "checkpoint_every": 2,
        "keep_checkpoints": 4,
    }
    whole = go_on(**changes)
    assert whole.summary["before"]["reward_margin"] == 0.0  # the reference is the model as it is
    assert whole.summary["after"]["reward_margin"] > 0.01
    assert sorted(path.name for path in (whole.run / "artifacts/adapter").iterdir() if path.is_dir()) == []
    monkeypatch.setenv("LLMOPS_RESUME_FROM", str(whole.run / "checkpoints" / "checkpoint-2"))
    resumed = losses(go_on(**changes))
    assert resumed == {step: loss for step, loss in losses(whole).items() if step > 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "kto", "dataset": {"path": "pairs.jsonl"}},
        {"method": "orpo", "dataset": {"path": "pairs.jsonl"}},
        {"method": "grpo", "micro_batch": 4, "grpo": {"group": 4, "completion_tokens": 4, "beta": 0.1}},
        {"method": "distill", "distill": {"teacher": "model"}},
    ],
)
def test_every_method_that_speaks_goes_on_from_an_adapter(go_on: Callable[..., Ended], changes: dict[str, Any]) -> None:
    ended = go_on(max_steps=2, **changes)
    assert len(set(losses(ended, "train/adapter_norm").values())) >= (1 if changes["method"] == "grpo" else 2)
    assert ended.models()[0]["format"] == "adapter"


def test_the_estimate_counts_the_adapter_as_it_is(place: Path) -> None:
    spec = parse_spec(wish())
    assert isinstance(spec, TrainSpec)
    facts = glance(Home(place / "home", explicit=True), spec, place)
    assert facts["model"]["config"]["hidden_size"] == 32  # the base's
    followed = following(spec, facts["continued"])
    assert (followed.adaptation, followed.lora.r, followed.lora.alpha) == ("rslora", 3, 5)


def test_what_cannot_be_gone_on_from_is_refused_at_its_field(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(**changes: Any) -> LlmopsError:
        with pytest.raises(LlmopsError) as caught:
            run_in_process(monkeypatch, place, wish(**changes), 99)
        return caught.value

    pairs = {"path": "pairs.jsonl"}
    for changes, field, said in (
        ({"adaptation": "full"}, "adaptation", "is an adapter, and full trains every weight"),
        ({"adaptation": "dora"}, "adaptation", "is a rslora adapter, which cannot become dora"),
        ({"method": "reward", "dataset": pairs}, "model", "a reward model gets another head"),
    ):
        error = refused(**changes)
        assert error.fields[0]["field"] == field
        assert said in error.message
    other = tmp_path / "adapter"
    save_adapter(other, place / "model")
    config = json.loads((other / "adapter_config.json").read_text())
    smaller = tmp_path / "smaller"
    model = make_model()
    model.config.intermediate_size = 48
    type(model)(model.config).save_pretrained(smaller)
    (other / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(smaller)}))
    assert "mlp.down_proj is 32 × 48 there, the adapter's 32 × 64" in refused(model=str(other)).message
    (other / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    assert "is IA3, and training goes on from LoRA" in refused(model=str(other)).message
    kept = place / "model" / "kept.safetensors"
    shutil.move(place / "model" / "model.safetensors", kept)
    make_model(seed=5).save_pretrained(place / "model")
    assert "has changed since train-tiny-0001 made this adapter" in refused().message
    shutil.move(kept, place / "model" / "model.safetensors")
