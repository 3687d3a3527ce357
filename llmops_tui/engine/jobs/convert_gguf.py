"""A GGUF file becomes a plain Hugging Face directory: `python -m llmops_tui.engine.jobs.convert_gguf FILE.gguf OUT_DIR`.

The weights are dequantised to bfloat16 safetensors, with tokenizer, chat template and generation settings beside them, so
that `from_pretrained(OUT_DIR)` sees an ordinary model without a trace of a quantizer. For the llama architecture the
tensors are written straight from the file; every other architecture takes transformers' own, slower loader.
OUT_DIR appears whole or not at all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tui.data.durable import sync_directory
from llmops_tui.errors import LlmopsError, NotFoundError, UsageError

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader

Say = Callable[[str], None]

# llama.cpp's names (gguf.constants.TENSOR_NAMES) for a Llama's tensors, block numbers left out.
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INSIDE = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def convert(source: Path, target: Path, say: Say = print) -> None:
    """Write `target` from the GGUF file `source`. Raises UsageError for what is no readable GGUF, OSError on a full disk."""
    _check(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    staging.mkdir()
    try:
        _write(source, staging, say)
        _make_durable(staging)
        try:
            staging.rename(target)
        except OSError:
            if not (target / "config.json").is_file():  # else another conversion of the same file was faster
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync_directory(target.parent)
    say(f"wrote {target}")


def _check(source: Path, target: Path) -> None:
    if not source.is_file():
        raise NotFoundError(f"no such file: {source}", "give the path of a .gguf file")
    with open(source, "rb") as file:
        if file.read(4) != b"GGUF":
            raise UsageError(f"{source} is not a GGUF file", "it must begin with the letters GGUF")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} already exists", "choose a directory that does not exist yet")


def _write(source: Path, directory: Path, say: Say) -> None:
    say("loading libraries")
    from gguf import GGUFReader

    say(f"reading {source.name}")
    try:
        reader = GGUFReader(source)
        names = {tensor.name: _llama_name(tensor.name) for tensor in reader.tensors}
        plain_llama = _field(reader, "general.architecture") == "llama" and None not in names.values()
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise UsageError(f"{source} is a broken GGUF file: {error}", "download it again") from error
    if plain_llama:
        _write_llama(reader, directory, say)
    else:
        _write_by_transformers(source, directory, say)
    say("writing the tokenizer")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise UsageError(f"the tokenizer of {source.name} cannot be read: {error}", "use a model in the safetensors format") from error
    tokenizer.save_pretrained(directory)


def _write_llama(reader: GGUFReader, directory: Path, say: Say) -> None:
    import numpy as np
    import torch
    from gguf import dequantize
    from safetensors.torch import save_file

    config = _llama_config(reader)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights: dict[str, torch.Tensor] = {}
    for number, tensor in enumerate(reader.tensors, 1):
        # A tensor stored as float32 comes as a view of the read-only file; torch wants memory of its own.
        values = torch.from_numpy(np.require(dequantize(tensor.data, tensor.tensor_type), requirements="W")).to(torch.bfloat16)
        part = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        if part in heads:
            values = _undo_permutation(values, heads[part])
        name = _llama_name(tensor.name)
        assert name is not None  # every name was checked before
        weights[name] = values.contiguous()
        if number % 50 == 0 or number == len(reader.tensors):
            say(f"dequantised {number} of {len(reader.tensors)} tensors")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(directory)

    from transformers import GenerationConfig

    GenerationConfig.from_model_config(config).save_pretrained(directory)


def _llama_name(name: str) -> str | None:
    """The transformers name of a Llama tensor; None for one this table does not know (rope factors, experts, …)."""
    stem, _, suffix = name.rpartition(".")
    if stem.startswith("blk."):
        _, block, part = stem.split(".", 2)
        return f"model.layers.{block}.{_INSIDE[part]}.{suffix}" if part in _INSIDE and suffix == "weight" else None
    return f"{_OUTSIDE[stem]}.{suffix}" if stem in _OUTSIDE and suffix == "weight" else None


def _undo_permutation(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp interleaves the two halves of each rotary head (convert_hf_to_gguf.py, LlamaModel.permute); this undoes it."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _llama_config(reader: GGUFReader) -> Any:
    import torch
    from transformers import LlamaConfig

    heads = _field(reader, "llama.attention.head_count")
    hidden = _field(reader, "llama.embedding_length")
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype=torch.bfloat16,
        vocab_size=len(tokens.data) if tokens else _field(reader, "llama.vocab_size"),
        hidden_size=hidden,
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=_field(reader, "llama.attention.head_count_kv", heads),
        head_dim=_field(reader, "llama.attention.key_length", hidden // heads),
        max_position_embeddings=_field(reader, "llama.context_length"),
        rms_norm_eps=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": _field(reader, "llama.rope.freq_base", 10000.0)},
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        bos_token_id=_field(reader, "tokenizer.ggml.bos_token_id", None),
        eos_token_id=_field(reader, "tokenizer.ggml.eos_token_id", None),
        pad_token_id=_field(reader, "tokenizer.ggml.padding_token_id", None),
    )


_REQUIRED = object()


def _field(reader: GGUFReader, key: str, default: Any = _REQUIRED) -> Any:
    field = reader.get_field(key)
    if field is not None:
        return field.contents()
    if default is _REQUIRED:
        raise UsageError(f"the GGUF file does not state {key}", "it may come from a converter that is too old; convert it again")
    return default


def _write_by_transformers(source: Path, directory: Path, say: Say) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    say("dequantising with transformers (this takes a while)")
    try:
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"transformers cannot read {source.name}: {error}", "use a model in the safetensors format") from error
    # The loader leaves its quantizer on the model, and save_pretrained would then write a model that cannot be loaded.
    model.hf_quantizer = None
    model.is_quantized = False
    model.__dict__.pop("quantization_method", None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(directory)


def _make_durable(directory: Path) -> None:
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)


def main(arguments: list[str] | None = None) -> int:
    """Exit codes as the command line's: 0, 1 (disk), 2 (not a GGUF), 4 (no such file)."""
    parser = argparse.ArgumentParser(prog="convert_gguf", description="Convert a GGUF file to a Hugging Face directory.")
    parser.add_argument("source", type=Path, metavar="FILE.gguf")
    parser.add_argument("target", type=Path, metavar="OUT_DIR")
    options = parser.parse_args(arguments)
    try:
        convert(options.source, options.target, lambda line: print(line, flush=True))
    except LlmopsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: cannot write {options.target}: {error.strerror or error}; free some disk and try again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
