"""A full model's directory: weights as safetensors, tokenizer, chat template, generation settings and the licence's file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from llmops_tui.data.durable import sync_directory
from llmops_tui.data.model_files import LICENCE_FILES

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def stored_dtype(name: str) -> torch.dtype:
    """The type weights are written in, from what preflight read of a model's files; a quantized model's become bfloat16."""
    return _DTYPES.get(name, torch.bfloat16)


# Of a model whose own weights are not all here, by name; None: they are.
Weights = dict[str, torch.Tensor] | None


def write_full_model(
    model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path, dtype: torch.dtype, source: Path, weights: Weights = None
) -> None:
    """Write everything a server needs, durable when this returns. `source` is the model whose licence goes with it."""
    settle_stop_tokens(model, tokenizer)
    if weights is None:
        model.to(dtype).save_pretrained(directory, safe_serialization=True)
    else:
        cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
        model.save_pretrained(directory, safe_serialization=True, state_dict=cast)
    tokenizer.save_pretrained(directory)
    copy_licences(source, directory)
    sync_files(directory)


def copy_licences(source: Path, directory: Path) -> None:
    """A model's licence goes where what was made of it goes."""
    for name in LICENCE_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)


def sync_files(directory: Path) -> None:
    """Make a directory's files durable."""
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)


def settle_stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """The tokenizer's end token stops generation, whatever else does, and its padding token pads."""
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return  # a model that does not speak, such as a reward model
    known = settings.eos_token_id
    ends = list(known) if isinstance(known, list) else [] if known is None else [known]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        ends.append(tokenizer.eos_token_id)
    if ends:
        settings.eos_token_id = ends if len(ends) > 1 else ends[0]
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id
