"""GGUF files made on the spot: a Llama of one layer that llama.cpp loads and answers with, and adapters of it that change what it says."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

_HIDDEN, _HEADS, _FEED, _CONTEXT = 64, 4, 96, 2048
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def write_model(path: Path, *, seed: int = 0, hidden: int = _HIDDEN, context: int = _CONTEXT, architecture: str = "llama") -> Path:
    """A model with one token a byte."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(path.stem)
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(hidden // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    writer.add_tensor("token_embd.weight", matrix(len(tokens), hidden))
    writer.add_tensor("output.weight", matrix(len(tokens), hidden))
    writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
    for name, shape in (
        ("attn_q", (hidden, hidden)), ("attn_k", (hidden, hidden)), ("attn_v", (hidden, hidden)), ("attn_output", (hidden, hidden)),
        ("ffn_gate", (_FEED, hidden)), ("ffn_up", (_FEED, hidden)), ("ffn_down", (hidden, _FEED)),
    ):  # fmt: skip
        writer.add_tensor(f"blk.0.{name}.weight", matrix(*shape))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(hidden, np.float32))
    _write(writer)
    return path


def write_adapter(path: Path, *, seed: int = 1, hidden: int = _HIDDEN, architecture: str = "llama") -> Path:
    """A GGUF-LoRA of such a model, strong enough to be heard."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for name, rows, columns in (("attn_output", hidden, hidden), ("ffn_down", hidden, _FEED)):
        writer.add_tensor(f"blk.0.{name}.weight.lora_a", random.normal(0, 1, (8, columns)).astype(np.float32))
        writer.add_tensor(f"blk.0.{name}.weight.lora_b", random.normal(0, 1, (rows, 8)).astype(np.float32))
    _write(writer)
    return path


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
