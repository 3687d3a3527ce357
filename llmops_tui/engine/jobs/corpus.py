"""The rows of a run: read, split into learnt and held out, tokenised and counted. `train` and `evaluate` share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypedDict

from llmops_tui.data.choices import CHOICES_IN, Choices, numbered_choices
from llmops_tui.data.datasets import unchanged
from llmops_tui.data.folds import groups_of
from llmops_tui.data.formats import Conversation, TextRow, detect
from llmops_tui.data.judged import AnyRow, parse_row
from llmops_tui.data.rows import read_rows
from llmops_tui.data.split import drawn_rows, held_out_file_rows, row_key, split_rows
from llmops_tui.engine.jobs.labels import EncodedRow, RowEncoder
from llmops_tui.errors import ConflictError, UsageError
from llmops_tui.specs.train import DatasetChoice
from llmops_tui.specs.train_keep import KeepChoice

Row = Conversation | TextRow
Progress = Callable[[int, int], None]

_DETECT_ROWS = 200


class PreparedFile(TypedDict):
    """What preflight found of a dataset file: where it lies and how its rows are read (`auto` where it did not look)."""

    path: str
    format: str


@dataclass
class Tokens:
    """Encoded rows, and what happened to the others. `kept` are the places of `rows` among the rows that were given."""

    rows: list[EncodedRow] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    rows_cut: int = 0
    rows_without_labels: int = 0

    @property
    def count(self) -> int:
        """Real tokens of all rows."""
        return sum(len(row.input_ids) for row in self.rows)


def read_split(
    choice: DatasetChoice, dataset: PreparedFile, eval_dataset: PreparedFile | None, seed: int
) -> tuple[list[Row], list[Row], list[Row]]:
    """`read_any_split` for rows of which every token can be learnt. Raises what it raises, and UsageError for judged rows."""
    learnt, held_out, rows = read_any_split(choice, dataset, eval_dataset, seed)
    return _learnable(learnt), _learnable(held_out), _learnable(rows)


def read_any_split(
    choice: DatasetChoice, dataset: PreparedFile, eval_dataset: PreparedFile | None, seed: int
) -> tuple[list[AnyRow], list[AnyRow], list[AnyRow]]:
    """Rows `(learnt, held out, all)`; the same split for the same seed in every job.

    Raises RowError for a bad row, ConflictError where a file is not what was submitted: a run may wait for days.
    """
    if reason := unchanged({"dataset": dataset, "eval_dataset": eval_dataset}):
        raise ConflictError(reason, "submit the run again with the rows as they are now")
    rows = _read(dataset)
    groups = groups_of(Path(dataset["path"]), choice.group_by)
    learnt, held_out = split_rows(len(rows), choice, seed, [row_key(row) for row in rows], groups)
    if eval_dataset is not None:
        scored = _read(eval_dataset)
        eval_rows = [scored[index] for index in held_out_file_rows(len(scored), choice, seed)]
    else:
        eval_rows = [rows[index] for index in held_out]
    return [rows[index] for index in learnt], eval_rows, rows


def read_drawn(part: str, dataset: PreparedFile, count: int, seed: int, *, again: bool) -> list[Row]:
    """`count` rows drawn by the seed; where there are fewer, all of them, or again and again. Raises as `read_split`, naming `part`."""
    _require_unchanged(part, dataset)
    rows = _learnable(_read(dataset))
    return [rows[index] for index in drawn_rows(len(rows), count if again else min(count, len(rows)), seed)]


def drawn_choices(part: str, dataset: PreparedFile, count: int, seed: int) -> list[Choices]:
    """Of the rows that `read_drawn` gives, those with options to choose from. Raises ConflictError, RowError."""
    if dataset["format"] != CHOICES_IN:
        return []
    _require_unchanged(part, dataset)
    rows = list(read_rows(Path(dataset["path"])))
    found = (numbered_choices(*rows[index]) for index in drawn_rows(len(rows), min(count, len(rows)), seed))
    return [choices for choices in found if choices is not None]


def rehearsal_rows(keep: KeepChoice, prepared: Sequence[PreparedFile], learnt: int, seed: int) -> list[Row]:
    """The rows that are learnt among `learnt` rows of the run's own; the trainer's order mixes them. A function of the seed alone."""
    return [
        row
        for choice, dataset in zip(keep.rehearsal, prepared, strict=True)
        for row in read_drawn("keep.rehearsal", dataset, max(1, round(choice.weight * learnt)), seed, again=True)
    ]


def encode_rows(encoder: RowEncoder, rows: list[Row], progress: Progress) -> Tokens:
    """Tokenise, leaving out rows of which nothing would be learnt (the prompt alone fills the length)."""
    tokens = Tokens()
    for number, row in enumerate(rows, 1):
        encoded = encoder.encode(row)
        tokens.rows_cut += encoded.cut
        if encoded.labelled:
            tokens.rows.append(encoded)
            tokens.kept.append(number - 1)
        else:
            tokens.rows_without_labels += 1
        if number % 64 == 0 or number == len(rows):
            progress(number, len(rows))
    return tokens


def require_rows(tokens: Tokens, purpose: str, max_length: int) -> None:
    """Raise UsageError where no row is left to learn from or to score."""
    if not tokens.rows:
        raise UsageError(
            f"no row is left {purpose}: none has an assistant token within {max_length} tokens",
            "raise max_length, or check the rows and their format",
        )


def _require_unchanged(part: str, dataset: PreparedFile) -> None:
    if reason := unchanged({"dataset": dataset}):
        raise ConflictError(f"{part}: {reason}", "submit the run again with the rows as they are now")


def _learnable(rows: list[AnyRow]) -> list[Row]:
    found: list[Row] = []
    for row in rows:
        if isinstance(row, dict) and "text" not in row:
            raise UsageError("the rows are judged answers, of which this job cannot learn", "see docs/methods.md for the methods that do")
        found.append(row)
    return found


def _read(dataset: PreparedFile) -> list[AnyRow]:
    path, row_format = Path(dataset["path"]), dataset["format"]
    if row_format == "auto":
        row_format = detect(row for _, row in islice(read_rows(path), _DETECT_ROWS)).format
    return [parse_row(row, row_format, number) for number, row in read_rows(path)]
