"""Small files for tests: models whose headers are real and whose weights are zeros, and rows."""

from __future__ import annotations

import json
import struct
from pathlib import Path

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 2048, "hidden_size": 8}
ROWS = [{"question": f"What is {number} plus one?", "answer": f"It is {number + 1}."} for number in range(40)]


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]], seed: int = 0) -> Path:
    """float32 tensors, every byte `seed`."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes([seed]) * at)
    return path


def write_model(path: Path, *, seed: int = 0, chat_template: bool = True, tokenizer: bool = True) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    write_safetensors(
        path / "model.safetensors", {"model.embed_tokens.weight": (16, 8), "model.layers.0.self_attn.q_proj.weight": (8, 8)}, seed
    )
    if tokenizer:
        (path / "tokenizer.json").write_text("{}")
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"} if chat_template else {}))
    return path


def write_adapter(path: Path, base: str, *, tokenizer: bool = True) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if tokenizer:
        (path / "tokenizer.json").write_text("{}")
        (path / "chat_template.jinja").write_text("{{ messages }}")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": base}))
    write_safetensors(
        path / "adapter_model.safetensors",
        {f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight": shape for half, shape in (("A", (4, 8)), ("B", (8, 4)))},
    )
    return path


def write_gguf(path: Path, *, seed: int = 0) -> Path:
    """One 32 × 2 tensor in Q8_0, with the metadata that tells what it is."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def pair(key: str, kind: int, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + value

    vocabulary = struct.pack("<IQ", 8, 3) + text("a") + text("b") + text("ü")
    pairs = [
        pair("general.architecture", 8, text("llama")),
        pair("general.license", 8, text("apache-2.0")),
        pair("llama.context_length", 4, struct.pack("<I", 4096)),
        pair("tokenizer.ggml.tokens", 9, vocabulary),
        pair("tokenizer.chat_template", 8, text("{{ messages }}")),
    ]
    tensor = text("blk.0.attn_q.weight") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + bytes(-len(header) % 32) + bytes([seed]) * 68)
    return path
