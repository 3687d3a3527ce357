"""A model that is not made yet, told as if it lay on the disk: what preflight and the estimator ask of any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.data.model_files import ModelFiles
from llmops_tui.specs.train_scratch import SHAPES, ScratchChoice

# Weights from scratch belong to whoever trains them.
_LICENCE = "own"


def files_of(choice: ScratchChoice) -> ModelFiles:
    """As `recognise` would tell of it. The tokenizer may come out smaller where the rows have too few pairs of letters."""
    shape = SHAPES[choice.preset]
    return ModelFiles(
        path=Path(),
        format="full",
        architecture="LlamaForCausalLM",
        parameters=shape.parameters(choice.vocabulary),
        dtype="float32",
        context_length=choice.context,
        licence=_LICENCE,
        chat_template=True,
        tokenizer=True,
        config=shape.config(choice.vocabulary, choice.context),
    )


def record_of(choice: ScratchChoice) -> dict[str, Any]:
    """What a run keeps of it in place of a model's path and digest."""
    files = files_of(choice)
    return {
        "ref": "", "name": f"scratch-{choice.preset}", "version": None, "path": "", "format": "scratch",
        "architecture": files.architecture, "parameters": files.parameters, "dtype": files.dtype, "bytes": 0,
        "licence": files.licence, "base": "", "sha256": "", "chat_template": True, "vocabulary": choice.vocabulary,
    }  # fmt: skip


def facts_of(choice: ScratchChoice) -> dict[str, Any]:
    """For the estimator, as `describe_model` tells of a directory; nothing is read from a file."""
    files = files_of(choice)
    return {"config": files.config, "parameters": files.parameters, "matrices": {}, "file_bytes": 0, "file_item_bytes": 4}
