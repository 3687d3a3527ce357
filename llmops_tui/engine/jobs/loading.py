"""A model and its tokenizer from a directory, without a word to a hub and without progress bars in the log."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.errors import NotFoundError, UsageError

_ADAPTER = "adapter_config.json"


def quiet() -> None:
    """Keep bars and deprecation notices of the libraries out of the run's log."""
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token in every case."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise UsageError(f"the tokenizer of {directory} has neither a padding nor an end token", "set one in its tokenizer_config.json")
    return tokenizer


def load_causal_model(directory: Path, plan: Plan, base: Path | None = None) -> Any:
    """A full model, or an adapter on its base: the causal LM with the adapter's layers within. Raises NotFoundError.

    `base` is where the adapter's base lies; None takes the path the adapter names.
    """
    if not (directory / _ADAPTER).is_file():
        return AutoModelForCausalLM.from_pretrained(directory, dtype=plan.dtype, attn_implementation="sdpa").to(plan.device)
    if base is None:
        base = Path(json.loads((directory / _ADAPTER).read_bytes())["base_model_name_or_path"])
    if not (base / "config.json").is_file():
        raise NotFoundError(f"the adapter {directory} was trained on {base}, which is not there", "bring the base model back to that path")
    return PeftModel.from_pretrained(load_causal_model(base, plan), directory).get_base_model()
