"""torchao int8 and bitsandbytes NF4 and INT8: quantized while they are loaded, and saved as they then are.

The directory's config.json says how (`quantization_config`), so that whatever loads it by transformers, or vLLM, quantizes nothing
again. The output matrix and the embeddings keep their precision, as both libraries leave them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerBase

from llmops_tui.engine.jobs.model_writing import copy_licences, settle_stop_tokens, sync_files


def write_quantized(word: str, source: Path, tokenizer: PreTrainedTokenizerBase, target: Path, device: str) -> None:
    """Load `source` in `word`'s form and save it in the empty directory `target`, durable."""
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.bfloat16, attn_implementation="sdpa", device_map={"": device}, quantization_config=_config(word)
    )
    settle_stop_tokens(model, tokenizer)
    model.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)
    copy_licences(source, target)
    sync_files(target)


def _config(word: str) -> Any:
    if word == "bnb-nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
    if word == "bnb-int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())
