"""The rows on which a model that was made is compared with the one it was made from."""

from __future__ import annotations

from typing import Protocol, TypedDict

from transformers import PreTrainedTokenizerBase

from llmops_tui.engine.jobs.corpus import PreparedFile, Progress, encode_rows, read_split, require_rows
from llmops_tui.engine.jobs.labels import EncodedRow, RowEncoder
from llmops_tui.specs.train import DatasetChoice


class PreparedRows(TypedDict):
    """What preflight chose: a training run's own split (its `held_out` rows), or all rows of a file; and why, in words."""

    choice: dict[str, object]
    dataset: PreparedFile
    eval_dataset: PreparedFile | None
    seed: int
    held_out: bool
    assistant_only: bool
    why: str


class Allowed(Protocol):
    """What a spec says of them: VerifyChoice, MeasureChoice."""

    @property
    def rows(self) -> int: ...
    @property
    def max_length(self) -> int: ...


def read_verification(prepared: PreparedRows, tokenizer: PreTrainedTokenizerBase, allowed: Allowed, progress: Progress) -> list[EncodedRow]:
    """At most `allowed.rows` encoded rows, in the split's order. Raises UsageError where none has a token to compare."""
    choice = DatasetChoice.model_validate(prepared["choice"])
    learnt, held_out, _ = read_split(choice, prepared["dataset"], prepared["eval_dataset"], prepared["seed"])
    encoder = RowEncoder(tokenizer, allowed.max_length, assistant_only=prepared["assistant_only"])
    tokens = encode_rows(encoder, (held_out if prepared["held_out"] else learnt)[: allowed.rows], progress)
    require_rows(tokens, "to compare on", allowed.max_length)
    return tokens.rows
