"""The job `prune` on a tiny model, and the parts it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmops_tui.data.checkpoints import complete_checkpoints
from llmops_tui.data.model_files import recognise
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs import healing
from llmops_tui.engine.jobs.block_influence import block_influences, decoder_layers, least_influential, remove_layers
from llmops_tui.engine.jobs.corpus import encode_rows
from llmops_tui.engine.jobs.healing import rate_scale
from llmops_tui.engine.jobs.labels import EncodedRow, RowEncoder
from llmops_tui.engine.jobs.sparsity import Masks, keep_mask, prune_by_magnitude, prune_by_wanda, reapply
from tests.engine.job_in_process import Ended, run_in_process
from tests.engine.tiny_model import make_model, make_tokenizer, save_model, write_rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prune")
    save_model(directory / "model")
    write_rows(directory / "rows.jsonl")
    return directory


def prune(monkeypatch: pytest.MonkeyPatch, place: Path, number: int, **fields: Any) -> Ended:
    dataset = {"path": "rows.jsonl", "eval_fraction": 0.25}
    wish = {"kind": "prune", "model": "./model", "dataset": dataset, "max_length": 96, "calibration_rows": 6, "output": "smaller", **fields}
    return run_in_process(monkeypatch, place, wish, number)


def rows_of(texts: int = 6) -> list[EncodedRow]:
    encoder = RowEncoder(make_tokenizer(), 64, assistant_only=False)
    return encode_rows(
        encoder, [{"text": f"{number} and {number * 7} make" + "!" * number} for number in range(texts)], lambda *_: None
    ).rows


def test_a_layer_less_is_written_scored_from_its_files_and_healed(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    heal = {"steps": 3, "batch": 4, "learning_rate": 1e-3}
    ended = prune(monkeypatch, place, 1, layers=1, heal=heal)
    assert (ended.code, ended.end["error"]) == (0, "")
    summary = ended.summary
    assert (summary["layers_before"], len(summary["layers_removed"]), summary["heal_steps"]) == (2, 1, 3)
    assert summary["parameters_after"] < summary["parameters_before"]
    assert summary["perplexity_before"] > 1
    assert summary["perplexity_after"] == pytest.approx(summary["after"]["perplexity"])
    losses = [event["values"]["train/distill_loss"] for event in ended.events if "train/distill_loss" in event.get("values", {})]
    assert len(losses) == 3
    assert losses[-1] < losses[0]

    model = ended.run / "artifacts" / "model"
    config = json.loads((model / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    assert recognise(model).complete
    assert {name.split(".")[2] for name in load_file(model / "model.safetensors") if ".layers." in name} == {"0"}
    (artifact,) = ended.models()
    assert artifact["lineage"]["how"] == "prune by layers, healed"
    assert [parent["role"] for parent in artifact["lineage"]["parents"]] == ["model"]
    assert artifact["lineage"]["data"][0]["path"] == str(place / "rows.jsonl")


def test_wanda_in_twos_of_four_stays_so_through_healing_and_says_its_exact_sparsity(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    ended = prune(monkeypatch, place, 2, method="wanda", pattern="2:4", heal={"steps": 2, "batch": 2})
    assert (ended.code, ended.end["error"]) == (0, "")
    summary = ended.summary
    assert (summary["sparsity"], summary["groups_of_four"]) == (0.5, summary["groups_of_four_met"])
    weights = load_file(ended.run / "artifacts" / "model" / "model.safetensors")
    inside = {name: tensor for name, tensor in weights.items() if name.endswith("_proj.weight")}
    assert sum(int((tensor == 0).sum()) for tensor in inside.values()) == summary["zeros"]
    assert all(bool(((tensor == 0).reshape(-1, 4).sum(1) == 2).all()) for tensor in inside.values())
    embeddings = "model.embed_tokens.weight"
    assert torch.equal(weights[embeddings], load_file(place / "model" / "model.safetensors")[embeddings])


@pytest.mark.parametrize("fields", [{"layers": 1}, {"method": "magnitude"}])
def test_healing_goes_on_from_its_newest_checkpoint_as_if_nothing_had_been(
    monkeypatch: pytest.MonkeyPatch, place: Path, fields: dict[str, Any]
) -> None:
    number = 10 + 3 * len(fields.get("method", ""))
    heal = {"steps": 5, "batch": 4, "learning_rate": 1e-3, "checkpoint_every": 2}
    whole = prune(monkeypatch, place, number, heal=heal, **fields)
    assert [path.name for path in (whole.run / "checkpoints").iterdir()] == ["checkpoint-5"]
    # Dies, as by kill -9, after the step behind a checkpoint.
    with monkeypatch.context() as dying:
        dying.setattr(healing, "reapply", _dies_at(4))
        assert prune(dying, place, number + 1, heal=heal, **fields).code != 0
    (checkpoint,) = complete_checkpoints(RunDir(place / "home" / "runs" / f"prune-tiny-{number + 1:04}"))
    assert checkpoint["step"] == 2
    monkeypatch.setenv("LLMOPS_RESUME_FROM", checkpoint["path"])
    resumed = prune(monkeypatch, place, number + 2, heal=heal, **fields)
    assert (resumed.code, resumed.end["error"]) == (0, "")
    assert _losses(resumed) == {step: loss for step, loss in _losses(whole).items() if step > 2}
    for name in ("perplexity_before", "perplexity_pruned", "perplexity_after", "heal_tokens", "checks"):
        assert resumed.summary[name] == whole.summary[name], name
    assert "scoring before" not in [event["phase"] for event in resumed.events if event["type"] == "phase"]


def _dies_at(step: int) -> Callable[..., None]:
    seen: list[int] = []

    def reapply_or_die(model: Any, masks: Masks) -> None:
        seen.append(1)
        if len(seen) == step:
            raise RuntimeError("the process is gone")
        reapply(model, masks)

    return reapply_or_die


def _losses(ended: Ended) -> dict[int, float]:
    return {event["step"]: event["values"]["train/loss"] for event in ended.events if "train/loss" in event.get("values", {})}


def test_block_influence_is_one_less_the_mean_cosine_of_what_goes_in_and_out() -> None:
    model, rows = make_model(), rows_of()
    with torch.no_grad():  # a layer that hands on what it was given has no influence
        for name, parameter in model.model.layers[1].named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
    found = block_influences(model, rows, pad_id=256, token_budget=100, progress=lambda *_: None)
    similarity, tokens = 0.0, 0
    for row in rows:
        states = model(input_ids=torch.tensor([row.input_ids.tolist()]), output_hidden_states=True).hidden_states
        similarity += float(torch.nn.functional.cosine_similarity(states[0], states[1], dim=-1).sum().detach())
        tokens += len(row.input_ids)
    assert found[0] == pytest.approx(1 - similarity / tokens, abs=1e-5)
    assert found[1] == pytest.approx(0.0, abs=1e-6)
    assert least_influential(found, 1) == [1]
    assert least_influential([0.2, 0.1, 0.3, 0.1], 3) == [0, 1, 3]


def test_a_model_without_a_layer_is_the_rest_of_it_and_generates_with_its_cache() -> None:
    model = make_model()
    ids = torch.tensor([[5, 6, 7, 8]])
    inside = model(ids, output_hidden_states=True).hidden_states
    alone = model.model.norm(inside[1])
    remove_layers(model, [1])
    assert len(decoder_layers(model)) == model.config.num_hidden_layers == 1
    torch.testing.assert_close(model.model(ids).last_hidden_state, alone)
    other = make_model()
    remove_layers(other, [0])
    assert [layer.self_attn.layer_idx for layer in other.model.layers] == [0]
    with_cache = other.generate(ids, max_new_tokens=5, do_sample=False)
    without = other.generate(ids, max_new_tokens=5, do_sample=False, use_cache=False)
    assert with_cache.tolist() == without.tolist()


@pytest.mark.parametrize(("by_row", "pattern", "gone"), [(False, "none", 10), (True, "none", 12), (True, "2:4", 16)])
def test_exactly_as_many_weights_go_as_asked_and_the_least(by_row: bool, pattern: str, gone: int) -> None:
    scores = torch.rand(4, 8, generator=torch.Generator().manual_seed(1))
    keep = keep_mask(scores, 0.3125 if not by_row else 0.34, by_row=by_row, pattern=pattern)
    assert int((~keep).sum()) == gone
    if pattern == "2:4":
        assert bool((keep.reshape(4, 2, 4).sum(-1) == 2).all())
    elif by_row:
        assert bool(((~keep).sum(1) == 3).all())
        assert all(float(scores[row][~keep[row]].max()) < float(scores[row][keep[row]].min()) for row in range(4))
    else:
        assert float(scores[~keep].max()) < float(scores[keep].min())


def test_wanda_scores_by_what_each_weight_meets_after_the_blocks_before_it_were_pruned() -> None:
    rows, by_hand, model = rows_of(), make_model(), make_model()
    prune_by_wanda(model, rows, 0.5, "none", 256, lambda *_: None)
    # By hand for the first block's q_proj: inputs of all real tokens.
    squares = torch.zeros(32)

    def add(_module: Any, given: tuple[torch.Tensor, ...]) -> None:
        squares.add_(given[0][0].square().sum(0))

    hook = by_hand.model.layers[0].self_attn.q_proj.register_forward_pre_hook(add)
    with torch.no_grad():
        for row in rows:
            by_hand.model(torch.tensor([row.input_ids.tolist()]))
    hook.remove()
    weight = by_hand.model.layers[0].self_attn.q_proj.weight
    keep = keep_mask(weight.abs() * squares.sqrt(), 0.5, by_row=True, pattern="none")
    assert bool(((model.model.layers[0].self_attn.q_proj.weight != 0) == keep).all())
    assert "forward" not in vars(model.model.layers[0])


def test_magnitude_leaves_the_greatest_of_each_matrix() -> None:
    model, whole = make_model(), make_model()
    masks = prune_by_magnitude(model, 0.25, "none", lambda *_: None)
    assert len(masks) == 14
    pruned, original = model.model.layers[0].mlp.up_proj.weight, whole.model.layers[0].mlp.up_proj.weight
    gone = pruned == 0
    assert int(gone.sum()) == gone.numel() // 4
    assert bool(original[gone].abs().max() <= original[~gone].abs().min())


def test_the_rate_of_healing_rises_and_falls() -> None:
    scales = [rate_scale(step, 200) for step in range(200)]
    assert (scales[0], scales[9], scales.index(max(scales))) == (0.1, 1.0, 9)
    assert scales[-1] == pytest.approx(0.05, abs=0.001)
    assert rate_scale(0, 1) == 1.0
