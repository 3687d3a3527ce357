"""What of a model is trained: all of it, or an adapter in one of four kinds; how its base is loaded and the result saved.

lora     two thin matrices beside each weight (Hu et al. 2021, arXiv:2106.09685)
rslora   the same, scaled by alpha / sqrt(r), so that a high rank learns as fast (Kalajdzievski 2023, arXiv:2312.03732)
dora     the weight's direction by two thin matrices, its magnitude by a vector (Liu et al. 2024, arXiv:2402.09353)
qlora    lora on a base of 4-bit NF4 weights (Dettmers et al. 2023, arXiv:2305.14314)
full     every weight, in the plan's precision, Adam's moments too: on a GPU that holds it float32, with products in bfloat16
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftModel
from transformers import BitsAndBytesConfig

from llmops_tui.engine.jobs import ranking
from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.model_writing import Weights, settle_stop_tokens, stored_dtype, sync_files, write_full_model
from llmops_tui.specs.train import TrainSpec

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedTokenizerBase

# PEFT's name of the adapter that is trained.
_TRAINED = "default"


@dataclass(frozen=True)
class Saved:
    """A result on disk: its directory and its format as the registry calls it."""

    directory: Path
    format: str


def load(model_class: Any, spec: TrainSpec, plan: Plan, directory: Path, **options: Any) -> Any:
    """The model to be trained, on its device, in 4 bits for qlora. `model_class` is one of transformers' Auto classes."""
    options = {"dtype": plan.dtype, "attn_implementation": "sdpa", **options}
    if spec.processes.strategy == "fsdp":
        return model_class.from_pretrained(directory, **options)  # in the host's memory until it is cut
    if spec.adaptation != "qlora":
        return model_class.from_pretrained(directory, **options).to(plan.device)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=plan.dtype
    )
    return model_class.from_pretrained(directory, quantization_config=four_bits, device_map={"": plan.device}, **options)


def adapter_config(spec: TrainSpec, task_type: str) -> PeftConfig | None:
    """The adapter that is trained in the model's place; None where the model itself is. `task_type` as PEFT names it."""
    if spec.adaptation == "full":
        return None
    return LoraConfig(
        r=spec.lora.r,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=spec.lora.target_modules,
        use_dora=spec.adaptation == "dora",
        use_rslora=spec.adaptation == "rslora",
        task_type=task_type,
    )


def go_on_from(model: Any, adapter: Path, base: Path) -> Any:
    """The model with an adapter of an earlier run, trainable. TRL's dpo, kto and grpo take it as it was for their reference."""
    adapted = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    adapted.peft_config[_TRAINED].base_model_name_or_path = str(base)  # where it lies now
    return adapted


def save(
    model: Any, tokenizer: PreTrainedTokenizerBase, artifacts: Path, spec: TrainSpec, stored: str, source: Path, weights: Weights = None
) -> Saved:
    """Write what was trained, durable before anybody is told; a whole model with all a server needs.

    `stored`: the type the weights of `source`, the model it came from, are written in; the result's are too. `weights`: those of a
    model that is cut over ranks, gathered: then all ranks call this, the first one writes, and all go on once it has.
    """
    full = spec.adaptation == "full"
    saved = Saved(artifacts / "model", "full") if full else Saved(artifacts / "adapter", "adapter")
    if full:
        settle_stop_tokens(model, tokenizer)  # on all ranks: they hear it together again
    if ranking.number() == 0 and full:
        write_full_model(model, tokenizer, saved.directory, stored_dtype(stored), source, weights)
    elif ranking.number() == 0:
        # Not the copy that a method took for its reference.
        model.save_pretrained(saved.directory, selected_adapters=[_TRAINED], state_dict=weights)
        tokenizer.save_pretrained(saved.directory)
        sync_files(saved.directory)
    if weights is not None:
        ranking.wait_for_all()
    return saved
