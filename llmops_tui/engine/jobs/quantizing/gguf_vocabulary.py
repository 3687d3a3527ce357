"""A byte-level BPE tokenizer as GGUF's `tokenizer.*` settings, from the files that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
from transformers import GenerationConfig, PreTrainedTokenizerBase

from llmops_tui.engine.jobs.quantizing.architectures import pre_tokenizer_of
from llmops_tui.engine.jobs.quantizing.gguf_file import Setting, Settings
from llmops_tui.errors import UsageError

_UINT32, _BOOL, _STRING, _INT32 = (
    gguf.GGUFValueType.UINT32,
    gguf.GGUFValueType.BOOL,
    gguf.GGUFValueType.STRING,
    gguf.GGUFValueType.INT32,
)


def vocabulary_settings(directory: Path, tokenizer: PreTrainedTokenizerBase, size: int) -> Settings:
    """`size`: the rows of the embedding; what the tokenizer does not use is filled up as unused. Raises UsageError."""
    described: dict[str, Any] = json.loads((directory / "tokenizer.json").read_bytes())
    tokens, kinds = _tokens(described, size)
    settings: Settings = {
        "tokenizer.ggml.model": Setting("gpt2", _STRING),
        "tokenizer.ggml.pre": Setting(pre_tokenizer_of(described), _STRING),
        "tokenizer.ggml.tokens": Setting(tokens, gguf.GGUFValueType.ARRAY, _STRING),
        "tokenizer.ggml.token_type": Setting(kinds, gguf.GGUFValueType.ARRAY, _INT32),
        "tokenizer.ggml.merges": Setting(_merges(described), gguf.GGUFValueType.ARRAY, _STRING),
        # Only what the tokenizer itself puts before a text: a template brings its own beginning.
        "tokenizer.ggml.add_bos_token": Setting(_adds_beginning(tokenizer), _BOOL),
    }
    named = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "padding": tokenizer.pad_token_id}
    named["unknown"] = tokenizer.unk_token_id
    if (turn := _end_of_turn(directory, tokenizer)) is not None:
        named["eot"] = turn
    for name, number in named.items():
        if number is not None:
            settings[f"tokenizer.ggml.{name}_token_id"] = Setting(number, _UINT32)
    if template := _template(tokenizer):
        settings["tokenizer.chat_template"] = Setting(template, _STRING)
    return settings


def _tokens(described: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    by_number: dict[int, tuple[str, int]] = {number: (text, gguf.TokenType.NORMAL) for text, number in described["model"]["vocab"].items()}
    for added in described.get("added_tokens") or []:
        text = str(added["content"])
        control = added.get("special") or (text.startswith("<|") and text.endswith("|>"))
        by_number[added["id"]] = (text, gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED)
    if by_number and max(by_number) >= size:
        raise UsageError(
            f"the tokenizer has a token {max(by_number)}, but the model's embedding only {size} rows",
            "bring back the model's own tokenizer",
        )
    unused = gguf.TokenType.UNUSED
    pairs = [by_number.get(number, (f"[PAD{number}]", unused)) for number in range(size)]
    return [text for text, _ in pairs], [int(kind) for _, kind in pairs]


def _merges(described: dict[str, Any]) -> list[str]:
    """One string a pair; a blank within a half, which no byte-level vocabulary has, would cut it wrongly."""
    return [
        merge if isinstance(merge, str) else " ".join(half.replace(" ", chr(ord(" ") + 256)) for half in merge)
        for merge in described["model"]["merges"]
    ]


def _adds_beginning(tokenizer: PreTrainedTokenizerBase) -> bool:
    plain = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and plain[:1] == [tokenizer.bos_token_id]


def _end_of_turn(directory: Path, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """A stop token of generation that is not the tokenizer's end, as Llama 3's <|eot_id|>."""
    if not (directory / "generation_config.json").is_file():
        return None
    stops = GenerationConfig.from_pretrained(directory).eos_token_id
    others = [stop for stop in (stops if isinstance(stops, list) else [stops]) if stop not in (None, tokenizer.eos_token_id)]
    return int(others[-1]) if others else None


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    template = tokenizer.chat_template
    return str(template.get("default", "")) if isinstance(template, dict) else str(template or "")
