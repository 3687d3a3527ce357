"""A model from scratch and pretraining on raw text: blocks, the tokenizer, and the model every later step works on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.jobs.blocks import cut_into_blocks
from llmops_tui.engine.jobs.labels import IGNORED
from llmops_tui.engine.jobs.scratch import first_loss_words, train_tokenizer
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.train_scratch import SHAPES, SPECIAL_TOKENS
from tests.engine.job_in_process import run_in_process
from tests.engine.tiny_model import write_rows

TEXT = "The engine keeps every run. A run keeps every event. What is kept is never lost, and what is lost was never kept.\n\n"


def test_documents_are_laid_end_to_end_and_every_token_but_a_blocks_first_is_learnt() -> None:
    blocks = cut_into_blocks([[1, 2, 3], [4, 5, 6, 7, 8], [9]], 4)
    assert [list(block.row.input_ids) for block in blocks] == [[1, 2, 3, 4], [5, 6, 7, 8]]  # nothing can be learnt from a lone 9
    assert [list(block.row.labels) for block in blocks] == [[IGNORED, 2, 3, 4], [IGNORED, 6, 7, 8]]
    assert [block.documents for block in blocks] == [[0, 1], [1]]
    assert [list(block.row.input_ids) for block in cut_into_blocks([[1, 2, 3], [4, 5, 6]], 4)][-1] == [5, 6]
    assert cut_into_blocks([], 4) == []


def test_the_tokenizer_writes_back_any_text_and_keeps_turns_apart() -> None:
    tokenizer = train_tokenizer([TEXT] * 3, 300, 128)
    assert len(tokenizer) == 300
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2]
    for text in (TEXT, "Größe 東京 🙂\t0x1F"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    turns = [{"role": "user", "content": "Kept?"}, {"role": "assistant", "content": "Kept."}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|im_start|>user\nKept?<|im_end|>\n<|im_start|>assistant\nKept.<|im_end|>\n"
    )
    assert tokenizer.eos_token == "<|im_end|>"
    with pytest.raises(UsageError, match="too little text"):
        train_tokenizer(["a"], 300, 128)


def test_the_first_loss_is_held_against_the_logarithm_of_the_vocabulary() -> None:
    assert first_loss_words(math.log(300) + 0.1, 300)[1]
    words, near = first_loss_words(2.0, 300)
    assert not near
    assert "ln 300 is 5.704" in words


@pytest.mark.parametrize(("preset", "millions"), [("nano", 1.3), ("tiny", 5.5), ("small", 25.7)])
def test_a_preset_has_the_parameters_it_is_described_by(preset: str, millions: float) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SHAPES[preset]
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig.from_dict(shape.config(4096, 512)))
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters(4096)
    assert round(shape.parameters(4096) / 1e6, 1) == millions


def test_from_a_plain_text_to_a_model_that_is_then_fine_tuned_on_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(f"Part {part}. {(TEXT * 18).strip()}" for part in range(12)))
    fields: dict[str, Any] = {"sample_tokens": 2, "optim": {"learning_rate": 0.003}, "micro_batch": 4}
    scratch = {"preset": "nano", "vocabulary": 300, "context": 128}
    wish = {"kind": "train", "method": "pretrain", "scratch": scratch, "dataset": {"path": "book.txt"}, "max_length": 64, "max_steps": 6}
    begun = run_in_process(monkeypatch, tmp_path, {**wish, **fields})
    assert begun.end["error"] == ""
    assert abs(begun.summary["eval_loss_before"] - math.log(300)) < 0.3
    assert begun.summary["eval_loss_after"] < begun.summary["eval_loss_before"] - 1
    assert any("as it should" in event["message"] for event in begun.events if event["type"] == "log")
    (model,) = begun.models()
    assert (model["format"], model["base"]) == ("full", "")
    result = begun.run / model["path"]
    assert json.loads((result / "config.json").read_text())["num_hidden_layers"] == 4
    rows = json.loads((begun.run / "artifacts" / "batches.jsonl").read_text().splitlines()[0])["rows"]
    assert rows
    assert all(isinstance(row, int) for row in rows)

    write_rows(tmp_path / "rows.jsonl")
    taught = {"kind": "train", "model": str(result), "dataset": {"path": "rows.jsonl"}, "max_length": 128, "max_steps": 4}
    tuned = run_in_process(monkeypatch, tmp_path, {**taught, **fields}, number=2)
    assert tuned.end["error"] == ""
    assert tuned.summary["eval_loss_after"] < tuned.summary["eval_loss_before"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "name the model to start from, or set scratch.preset"),
        ({"model": "m", "scratch": {"preset": "nano"}}, "leave one of the two empty"),
        ({"adaptation": "lora", "scratch": {"preset": "nano"}}, "lora trains an adapter; use full"),
        ({"method": "dpo", "scratch": {"preset": "nano"}}, "learns by sft or pretrain, then by dpo"),
        ({"max_length": 2048, "scratch": {"preset": "nano"}}, "2048 is beyond scratch.context, 1024"),
        ({"scratch": {"preset": "huge"}}, "nano"),
        ({"scratch": {"preset": "nano", "vocabulary": 100}}, "scratch.vocabulary"),
        ({"model": "m", "method": "pretrain", "packing": True}, "nothing to pack"),
    ],
)
def test_an_impossible_model_from_scratch_is_refused_in_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(LlmopsError) as caught:
        parse_spec({"kind": "train", "dataset": {"path": "rows.jsonl"}, **fields})
    assert said in f"{caught.value} {caught.value.fields}"
    assert "\n" not in str(caught.value)
