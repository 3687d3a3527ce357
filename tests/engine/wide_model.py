"""A Llama whose rows are whole blocks of 256 weights, so that each K type of GGUF is really used, with a tokenizer that merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.engine.tiny_model import make_tokenizer

_MERGES = (("W", "h"), ("i", "s"), ("Ġ", "is"))


def make_merging_tokenizer() -> Any:
    """The tiny model's, and three merges: llama.cpp reads no tokenizer without any."""
    from tokenizers import Tokenizer

    tokenizer = make_tokenizer()
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model = described["model"]
    for one, other in _MERGES:
        model["vocab"][one + other] = len(model["vocab"])
    model["merges"] = [list(merge) for merge in _MERGES]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(described))
    return tokenizer


def save_wide(directory: Path, **more: Any) -> Path:
    """2 layers, hidden 256, 4 heads of which 2 hold keys, tied embeddings, in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=262, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=257, eos_token_id=258, pad_token_id=256, **more,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    make_merging_tokenizer().save_pretrained(directory)
    return directory
