"""What `combine` needs before it starts: LoRA adapters of one base whose matrices fit each other.

`prepared`: `adapters` (as `model` of train, with `weight`), `base`, `adapter_tokenizer` (whether the first brings its own) and
`warnings`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.preflight_checks import (
    base_of,
    described,
    field_error,
    model_info,
    model_record,
    require_packages,
)
from llmops_tui.errors import UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.combine import CombineSpec

_PACKAGES = ("torch", "transformers", "peft", "safetensors")
_OTHER_FILES_BYTES = 16 << 20  # tokenizer, template, settings


def prepare_combine(spec: CombineSpec, home: Home, cwd: Path) -> tuple[dict[str, Any], int]:
    """Check the wish; returns `prepared` and the bytes it will write. Raises UsageError or NotFoundError at `adapters`."""
    require_packages(_PACKAGES)
    infos = {name: model_info(home, name, cwd, "adapters") for name in spec.adapters}
    for name, info in infos.items():
        if info["format"] != "adapter":
            raise _refusal(
                f"{name!r} is {described(info)}, and combining takes adapters", "name adapters; llmops-tui models list shows them"
            )
    files = {name: recognise(Path(info["path"])) for name, info in infos.items()}
    bases = {name: base_of(home, info, cwd, "adapters") for name, info in infos.items()}
    _check_bases(home, bases)
    ranks = {name: _rank(name, found) for name, found in files.items()}
    if spec.method != "cat" and len(set(ranks.values())) > 1:
        told = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
        raise _refusal(
            f"the adapters have different ranks ({told}), which {spec.method} cannot add", "use method=cat, the exact sum of any ranks"
        )
    _check_targets(files)
    first, base = next(iter(infos)), next(iter(bases.values()))
    warnings = []
    templates = {name: found.chat_template for name, found in files.items() if found.tokenizer}
    if len(set(templates.values())) > 1:
        warnings.append(f"some adapters bring a chat template and some none: {first}'s tokenizer is kept")
    size = sum(found.bytes for found in files.values()) if spec.method == "cat" else max(found.bytes for found in files.values())
    return {
        "adapters": [
            {**model_record(home, name, info, files[name], "adapters"), "weight": spec.adapters[name]} for name, info in infos.items()
        ],
        "base": model_record(home, base["path"], base, recognise(Path(base["path"])), "adapters"),
        "adapter_tokenizer": files[first].tokenizer,
        "warnings": warnings,
    }, 2 * size + _OTHER_FILES_BYTES + disk_forecast.RECORDS_BYTES  # adapters may lie in half the precision they are written in


def _check_bases(home: Home, bases: dict[str, ModelInfo]) -> None:
    """The same directory, or the same content elsewhere."""
    digests: dict[str, str] = {}
    first, base = next(iter(bases.items()))
    for name, other in bases.items():
        if os.path.realpath(other["path"]) == os.path.realpath(base["path"]):
            continue
        for info in (base, other):
            if info["path"] not in digests:
                found = recognise(Path(info["path"]))
                digests[info["path"]] = model_record(home, info["path"], info, found, "adapters")["sha256"]
        if digests[other["path"]] != digests[base["path"]]:
            raise _refusal(
                f"{first!r} was trained on {base['path']} and {name!r} on {other['path']}: adapters of different bases cannot be added",
                "combine adapters of one base",
            )


def _rank(name: str, adapter: ModelFiles) -> int:
    config = adapter.config
    if config.get("peft_type") != "LORA":
        raise _refusal(f"{name!r} is {config.get('peft_type')}, not LoRA", "combine LoRA adapters")
    if config.get("use_dora"):
        raise _refusal(
            f"{name!r} is a DoRA adapter, whose magnitudes cannot be added", "merge it into its base instead: llmops-tui run merge"
        )
    pattern = config.get("rank_pattern") or {}
    ranks = [rank for rank in (config.get("r"), *pattern.values()) if isinstance(rank, int)]
    if not ranks:
        raise _refusal(f"{name!r}: its adapter_config.json names no rank", "bring back the adapter's own configuration")
    return max(ranks)


def _check_targets(files: dict[str, ModelFiles]) -> None:
    """What PEFT's add_weighted_adapter cannot do, said before anything is loaded."""
    kinds = {name: isinstance(found.config.get("target_modules"), str) for name, found in files.items()}
    if len(set(kinds.values())) > 1:
        by_pattern = next(name for name, pattern in kinds.items() if pattern)
        raise _refusal(f"{by_pattern!r} names its modules by a pattern and others by a list", "combine adapters that name them alike")
    whole = [name for name, found in files.items() if found.config.get("modules_to_save")]
    if len(whole) > 1:
        raise _refusal(
            f"{whole[0]!r} and {whole[1]!r} both bring whole modules (modules_to_save), which cannot be added", "combine pure LoRA adapters"
        )


def _refusal(message: str, next_step: str) -> UsageError:
    return field_error("adapters", message, next_step)
