"""GPTQ, AWQ and FP8 by llm-compressor, or GPTQ by GPTQModel, in their own environment, which has nothing of ours.

    PYTHON -I compress_apart.py SETTINGS.json

SETTINGS.json: `{"by": "llm-compressor" or "gptqmodel", "type": "gptq-w4a16" | "awq-w4a16" | "fp8", "model", "target", "device",
"rows": [[id]], "answer": FILE.json}`. The output matrix keeps its precision. Progress goes to stdout as lines `progress DONE TOTAL WORDS`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_GROUPS = (128, 64, 32)


def main(arguments: list[str]) -> int:
    """Quantize and save."""
    with open(arguments[0], encoding="utf-8") as file:
        settings = json.load(file)
    answer = by_gptqmodel(settings) if settings["by"] == "gptqmodel" else by_llm_compressor(settings)
    staged = settings["answer"] + ".tmp"
    with open(staged, "w", encoding="utf-8") as file:
        json.dump(answer, file)
    os.replace(staged, settings["answer"])
    return 0


def by_llm_compressor(settings: dict[str, Any]) -> dict[str, Any]:
    """vllm-project/llm-compressor 0.14: `oneshot` with a recipe."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    device = settings["device"]
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype="auto", device_map={"": device})
    group = group_size(model)
    rows = [row for row in settings["rows"] if row]
    print(f"progress 0 {len(rows)} compressing", flush=True)
    given: dict[str, Any] = {}
    if settings["type"] != "fp8":
        data = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
        given = {"dataset": Dataset.from_dict(data), "num_calibration_samples": len(rows), "max_seq_length": max(map(len, rows))}
    oneshot(model=model, recipe=recipe(settings["type"], group), **given)
    model.save_pretrained(settings["target"], save_compressed=True)
    print(f"progress {len(rows)} {len(rows)} compressing", flush=True)
    return {"group_size": None if settings["type"] == "fp8" else group}


def recipe(word: str, group: int) -> list[Any]:
    """Each leaves lm_head as it is."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    if word == "fp8":
        return [QuantizationModifier(targets=["Linear"], scheme="FP8_DYNAMIC", ignore=["lm_head"])]
    weights = {"num_bits": 4, "type": "int", "symmetric": word != "awq-w4a16", "strategy": "group", "group_size": group}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    if word == "gptq-w4a16":
        return [GPTQModifier(config_groups=groups, ignore=["lm_head"])]
    from llmcompressor.modifiers.transform.awq import AWQModifier

    return [AWQModifier(duo_scaling="both"), QuantizationModifier(config_groups=groups, ignore=["lm_head"])]


def by_gptqmodel(settings: dict[str, Any]) -> dict[str, Any]:
    """ModelCloud/GPTQModel 7: load, quantize, save."""
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):  # its shapes alone
        group = group_size(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(settings["model"])))
    rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in settings["rows"] if row]
    model = GPTQModel.load(settings["model"], QuantizeConfig(bits=4, group_size=group))
    print(f"progress 0 {len(rows)} compressing", flush=True)
    model.quantize(rows, batch_size=1)
    model.save(settings["target"])
    print(f"progress {len(rows)} {len(rows)} compressing", flush=True)
    return {"group_size": group}


def group_size(model: Any) -> int:
    """The largest usual group that divides every matrix's rows, the output matrix's aside."""
    import torch

    head = model.get_output_embeddings()
    columns = [module.in_features for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    found = next((size for size in _GROUPS if all(count % size == 0 for count in columns)), None)
    if found is None:
        raise SystemExit(f"error: no group of {', '.join(map(str, _GROUPS))} weights divides rows of {min(columns)}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
