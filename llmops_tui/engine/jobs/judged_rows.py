"""Rows with judged answers as tokens: prompt and answer as one sequence, of which the answer's assistant turns are what is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from llmops_tui.data.judged import AnyRow, KtoRow, PreferenceRow
from llmops_tui.engine.jobs.labels import IGNORED, EncodedRow, RowEncoder
from llmops_tui.errors import UsageError

Progress = Callable[[int, int], None]
# One answer as a row of a data set: `ids`, and in `mask` 1 where a token is judged.
AnswerRow = dict[str, list[int]]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; `place` is the row's among those given."""

    chosen: EncodedRow
    rejected: EncodedRow
    place: int


@dataclass(frozen=True)
class Judged:
    """One answer, and whether it is a good one; `place` is the row's among those given."""

    answer: EncodedRow
    good: bool
    place: int


@dataclass
class Counted:
    """What became of the rows: how many were cut, and how many left out because nothing of an answer fits the length."""

    rows_cut: int = 0
    rows_left_out: int = 0
    tokens: int = 0

    def facts(self, learnt: int, held_out: int) -> dict[str, str | int | float | None]:
        """For the run's summary."""
        return {"rows": learnt, "rows_held_out": held_out, "rows_cut": self.rows_cut, "rows_without_labels": self.rows_left_out}


def encode_pairs(encoder: RowEncoder, rows: Sequence[AnyRow], counted: Counted, progress: Progress) -> list[Pair]:
    """Both sides of every pair. A pair of which one side has no answer token within the length is left out."""
    pairs: list[Pair] = []
    for number, row in enumerate(rows, 1):
        pair = _pair(encoder, row, number - 1)
        if _keep(counted, pair.chosen, pair.rejected):
            pairs.append(pair)
        _tell(progress, number, len(rows))
    return pairs


def encode_judged(encoder: RowEncoder, rows: Sequence[AnyRow], counted: Counted, progress: Progress) -> list[Judged]:
    """Every judged answer; a pair counts as a good answer and a bad one."""
    answers: list[Judged] = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict) and "completion" in row:
            found = [Judged(_answer(encoder, row), row["label"], number - 1)]
        else:
            pair = _pair(encoder, row, number - 1)
            found = [Judged(pair.chosen, True, pair.place), Judged(pair.rejected, False, pair.place)]
        answers += [judged for judged in found if _keep(counted, judged.answer)]
        _tell(progress, number, len(rows))
    return answers


def require_answers(count: int, max_length: int) -> None:
    """Raise UsageError where nothing is left to learn from."""
    if not count:
        raise UsageError(f"no row is left to learn from: none has an answer within {max_length} tokens", "raise max_length")


def answer_columns(row: EncodedRow) -> AnswerRow:
    """An answer for a data set."""
    return {"ids": row.input_ids.tolist(), "mask": [int(label != IGNORED) for label in row.labels]}


def padded(answers: Sequence[AnswerRow], pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `completion_mask` of some answers, padded on the right to the longest."""
    width = max(len(answer["ids"]) for answer in answers)

    def tensor(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    return {
        "input_ids": tensor([answer["ids"] for answer in answers], pad_id),
        "attention_mask": tensor([[1] * len(answer["ids"]) for answer in answers], 0),
        "completion_mask": tensor([answer["mask"] for answer in answers], 0),
    }


def _pair(encoder: RowEncoder, row: AnyRow, place: int) -> Pair:
    assert isinstance(row, dict)  # preflight let no other format through
    assert "chosen" in row
    return Pair(_side(encoder, row, "chosen"), _side(encoder, row, "rejected"), place)


def _side(encoder: RowEncoder, row: PreferenceRow, side: str) -> EncodedRow:
    return encoder.encode_answer(row["prompt"], row["chosen"] if side == "chosen" else row["rejected"])


def _answer(encoder: RowEncoder, row: KtoRow) -> EncodedRow:
    return encoder.encode_answer(row["prompt"], row["completion"])


def _keep(counted: Counted, *answers: EncodedRow) -> bool:
    counted.rows_cut += any(answer.cut for answer in answers)
    if all(answer.labelled for answer in answers):
        counted.tokens += sum(len(answer.input_ids) for answer in answers)
        return True
    counted.rows_left_out += 1
    return False


def _tell(progress: Progress, number: int, total: int) -> None:
    if number % 64 == 0 or number == total:
        progress(number, total)
