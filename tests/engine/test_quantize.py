"""The job `quantize` on tiny models: what is written, what its card says, and what makes it refuse."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from llmops_tui.data.gguf_header import read_gguf_header
from llmops_tui.engine.jobs.quantizing import making
from llmops_tui.engine.preflight import prepare
from llmops_tui.errors import UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.engine.job_in_process import Ended, run_in_process
from tests.engine.tiny_adapter import save_adapter
from tests.engine.tiny_model import write_rows
from tests.engine.wide_model import make_merging_tokenizer, save_wide

gguf = pytest.importorskip("gguf")
needs_llamacpp = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
_MEASURE = {"dataset": "rows.jsonl", "rows": 6, "max_length": 96, "prompts": 2, "answer_tokens": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("quantize")
    save_wide(directory / "model")
    write_rows(directory / "rows.jsonl")
    return directory


def quantize(monkeypatch: pytest.MonkeyPatch, place: Path, number: int, **fields: Any) -> Ended:
    wish = {"kind": "quantize", "model": "./model", "measure": _MEASURE, "output": "small", **fields}
    return run_in_process(monkeypatch, place, wish, number)


@needs_llamacpp
def test_several_forms_are_measured_and_marked_and_none_is_a_model_yet(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    ended = quantize(monkeypatch, place, 1, types="F16,Q8_0,Q4_K_M")
    assert (ended.code, ended.end["error"]) == (0, "")
    assert ended.models() == []
    cards = {card["type"]: card for card in ended.summary["candidates"]}
    assert list(cards) == ["F16", "Q8_0", "Q4_K_M"]
    assert cards["F16"]["mean_kl"] < 1e-5 < cards["Q8_0"]["mean_kl"] < cards["Q4_K_M"]["mean_kl"]
    assert cards["F16"]["bytes"] > cards["Q8_0"]["bytes"] > cards["Q4_K_M"]["bytes"]
    for word, card in cards.items():
        path = ended.run / "artifacts" / word.lower() / f"small-{word.lower()}.gguf"
        assert read_gguf_header(path).quantization == word
        assert card["perplexity_source"] == pytest.approx(cards["F16"]["perplexity"], rel=1e-3)
        assert card["tokens_per_second"] > 0
        assert card["memory_bytes"] > card["bytes"]
        assert sum(row["bytes"] for row in card["mix"]) < path.stat().st_size == card["bytes"]
        verdicts = {check["name"]: check["verdict"] for check in card["checks"]}
        assert (verdicts["chat template"], verdicts["stop token"], verdicts["tokens"]) == ("passed", "passed", "passed")
    mix = {(row["tensor"], row["type"]) for row in cards["Q4_K_M"]["mix"]}
    assert {("attn_q", "Q4_K"), ("ffn_down", "Q6_K"), ("token_embd", "Q6_K"), ("attn_norm", "F32")} <= mix
    events = [event for event in ended.events if event["type"] == "artifact"]
    assert [event["artifact"] for event in events] == ["candidate"] * 3
    assert [parent["role"] for parent in events[0]["lineage"]["parents"]] == ["model"]
    assert not (ended.run / "scratch").exists()


@needs_llamacpp
def test_one_form_alone_is_a_model_at_once_with_its_card(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    ended = quantize(monkeypatch, place, 2, types=["Q8_0"])
    (model,) = ended.models()
    assert (model["name"], model["format"], model["card"]["type"], model["card"]["on_front"]) == ("small", "gguf", "Q8_0", True)
    assert not ended.summary["to_pick"]


@needs_llamacpp
def test_an_unquantized_gguf_file_is_rounded_as_its_safetensors_are(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    first = quantize(monkeypatch, place, 3, types="F16,Q4_K_M")
    f16, direct = (first.run / "artifacts" / word / f"small-{word}.gguf" for word in ("f16", "q4_k_m"))
    again = quantize(monkeypatch, place, 4, model=str(f16), types="Q4_K_M", output="again")
    assert (again.code, again.end["error"]) == (0, "")
    one, other = (gguf.GGUFReader(path).tensors for path in (direct, again.run / "artifacts/q4_k_m/again.gguf"))
    assert [tensor.name for tensor in one] == [tensor.name for tensor in other]
    # The embedding's bfloat16 fits into float16 here, so that nothing was lost on the way.
    assert all(np.array_equal(a.data, b.data) for a, b in zip(one, other, strict=True))
    card = again.summary["candidates"][0]
    assert card["heard_by"].startswith("llama.cpp itself")
    assert card["mean_kl"] == pytest.approx(first.summary["candidates"][1]["mean_kl"], rel=0.05)


@needs_llamacpp
def test_an_adapter_becomes_a_gguf_lora_that_says_what_the_adapter_says(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    save_adapter(place / "adapter", place / "model", rank=4, strength=0.2, use_rslora=True)
    make_merging_tokenizer().save_pretrained(place / "adapter")
    ended = quantize(monkeypatch, place, 5, model="./adapter", types="F16", output="lora")
    assert (ended.code, ended.end["error"]) == (0, "")
    path = ended.run / "artifacts" / "f16" / "lora.gguf"
    header = read_gguf_header(path)
    assert (header.text("general.type"), header.text("adapter.type")) == ("adapter", "lora")
    card = ended.summary["candidates"][0]
    # Against the adapter on its base: were it lost, they would be as far apart as adapter and base.
    assert card["mean_kl"] < 1e-3
    assert card["perplexity"] == pytest.approx(card["perplexity_source"], rel=1e-2)
    (model,) = ended.models()
    assert [parent["role"] for parent in model["lineage"]["parents"]] == ["adapter", "base"]


def test_bitsandbytes_is_saved_as_it_was_loaded_and_heard_from_its_files(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    pytest.importorskip("bitsandbytes")
    ended = quantize(monkeypatch, place, 6, types="bnb-nf4")
    assert (ended.code, ended.end["error"]) == (0, "")
    card = ended.summary["candidates"][0]
    config = json.loads((ended.run / "artifacts" / "bnb-nf4" / "model" / "config.json").read_text())
    assert (config["quantization_config"]["quant_method"], config["quantization_config"]["bnb_4bit_quant_type"]) == ("bitsandbytes", "nf4")
    assert 0 < card["mean_kl"] < 1
    assert card["heard_by"].startswith("transformers in")
    assert card["ttft_seconds"] > 0
    assert ("up_proj", "U8") in {(row["tensor"], row["type"]) for row in card["mix"]}


def test_torchao_int8_is_close_to_its_source(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    pytest.importorskip("torchao")
    ended = quantize(monkeypatch, place, 7, types="torchao-int8")
    assert (ended.code, ended.end["error"]) == (0, "")
    card = ended.summary["candidates"][0]
    assert 0 < card["mean_kl"] < 0.05
    assert ("up_proj", "I8") in {(row["tensor"], row["type"]) for row in card["mix"]}


@needs_llamacpp
def test_a_value_that_is_no_number_is_named_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path) -> None:
    save_wide(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    ended = quantize(monkeypatch, tmp_path, 8, types="Q8_0", measure={**_MEASURE, "quality": False})
    assert ended.code == 2
    assert "tensor blk.1.ffn_up.weight: value 773 is not a number" in ended.end["error"]
    assert [path.name for path in (ended.run / "artifacts").rglob("*") if path.is_file()] == []


@needs_llamacpp
def test_a_source_that_speaks_nonsense_is_told_before_anything_is_made_of_it(
    monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    save_wide(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    heard = quantize(monkeypatch, tmp_path, 9, types="bnb-nf4")
    assert "the source's own perplexity is nan: its weights are damaged" in heard.end["error"]


@needs_llamacpp
def test_a_form_that_lost_its_template_gets_no_name(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    from llmops_tui.engine.jobs.quantizing import gguf_vocabulary

    monkeypatch.setattr(gguf_vocabulary, "_template", lambda tokenizer: "")
    ended = quantize(monkeypatch, place, 10, types="Q8_0")
    assert ended.code == 3
    assert "chat template: was lost: the file has none" in ended.end["error"]
    assert ended.models() == []
    assert not (ended.run / "artifacts" / "q8_0").exists()


@needs_llamacpp
def test_an_attempt_that_goes_on_takes_the_forms_that_are_done(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    whole_make = making.Maker.make

    def dies_at_the_second(self: making.Maker, candidate: Any) -> str:
        if candidate.word == "Q8_0":
            candidate.directory.mkdir()
            candidate.staging.write_bytes(b"GGUF half of it")
            raise RuntimeError("the process is gone")
        return whole_make(self, candidate)

    with monkeypatch.context() as dying:
        dying.setattr(making.Maker, "make", dies_at_the_second)
        candidate_directory = place / "home" / "runs" / "quantize-tiny-0011" / "artifacts"
        assert quantize(dying, place, 11, types="F16,Q8_0").code == 1
    assert (candidate_directory / "f16" / "candidate.json").exists()
    f16 = (candidate_directory / "f16" / "small-f16.gguf").stat()
    # The same run directory again, as a retry has it.
    spec = parse_spec({"kind": "quantize", "model": "./model", "types": "F16,Q8_0", "measure": _MEASURE, "output": "small", "threads": 1})
    again = retry(monkeypatch, candidate_directory.parent, spec)
    assert (again.code, again.end["error"]) == (0, "")
    assert (candidate_directory / "f16" / "small-f16.gguf").stat().st_mtime_ns == f16.st_mtime_ns
    assert "F16 was done by an earlier attempt" in [event.get("message") for event in again.events]
    assert [card["type"] for card in again.summary["candidates"]] == ["F16", "Q8_0"]
    assert sorted(path.name for path in (candidate_directory / "q8_0").iterdir()) == ["candidate.json", "small-q8_0.gguf"]


def retry(monkeypatch: pytest.MonkeyPatch, run: Path, spec: Any) -> Ended:
    from llmops_tui.engine.jobs import quantize as module
    from llmops_tui.engine.jobs.outcome import run_job
    from tests.engine.tiny_model import read_events

    monkeypatch.setenv("LLMOPS_RUN_DIR", str(run))
    monkeypatch.setenv("LLMOPS_ATTEMPT", "2")
    code = run_job(module.quantize, module.OUT_OF_MEMORY_ADVICE)
    return Ended(code, run, [event for event in read_events(run) if event["attempt"] == 2])


def test_calibration_rows_are_not_those_compared_on(place: Path) -> None:
    from llmops_tui.engine.jobs.quantizing.compressor import calibration_rows
    from llmops_tui.engine.jobs.verification_rows import read_verification

    spec = parse_spec({"kind": "quantize", "model": "./model", "types": "Q8_0", "measure": {**_MEASURE, "rows": 20}, "calibration_rows": 3})
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}})
    prepared = prepare(spec, Home(place / "home", explicit=True), settings, place)
    tokenizer = make_merging_tokenizer()
    rows = calibration_rows(spec, prepared["measure"], tokenizer, lambda *_: None)  # type: ignore[arg-type]
    compared = read_verification(prepared["measure"], tokenizer, spec.measure, lambda *_: None)  # type: ignore[attr-defined]
    assert (len(rows), len(compared)) == (3, 20)
    assert not {tuple(row) for row in rows} & {tuple(row.input_ids) for row in compared}
    spec.measure.rows = 24  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="to calibrate on"):
        calibration_rows(spec, prepared["measure"], tokenizer, lambda *_: None)  # type: ignore[arg-type]
