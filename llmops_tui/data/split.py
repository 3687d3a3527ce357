"""Which rows are learnt from and which are held out; the same answer on every machine and Python. Standard library only.

Rows are ordered by BLAKE2b of the seed and the row's index, which no library version can change. The held-out pool is a
share of *all* rows, whatever `limit` and `eval_limit` say: an evaluation that asks for more rows than the training run
scored never meets a row that run learnt from. Equal rows (same key) are all learnt or all held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from llmops_tui.data.folds import fold_rows, joined
from llmops_tui.data.formats import Conversation
from llmops_tui.data.judged import AnyRow


class SplitChoice(Protocol):
    """The part of a spec's DatasetChoice that the split depends on."""

    @property
    def limit(self) -> int | None: ...
    @property
    def eval_path(self) -> str: ...
    @property
    def eval_fraction(self) -> float: ...
    @property
    def eval_limit(self) -> int: ...
    @property
    def fold(self) -> int | None: ...
    @property
    def folds(self) -> int | None: ...


def split_rows(
    n_rows: int, choice: SplitChoice, seed: int, keys: Sequence[bytes] | None = None, groups: Sequence[bytes] | None = None
) -> tuple[list[int], list[int]]:
    """`(learnt, held out)` as disjoint 0-based indices in shuffled order.

    `keys[i]` is `row_key` of row i. With `eval_path` all rows are learnt from and the second list is empty: the held-out rows
    are then `held_out_file_rows` of that file. A positive `eval_fraction` holds out at least one row where there are two.
    `groups[i]` (data/folds.py) keeps rows together too. With `fold` the held-out rows are that fold's; raises UsageError where there
    are too few groups for the folds.
    """
    order = _shuffled(n_rows, seed)
    if groups is not None:
        keys = joined(keys if keys is not None else [index.to_bytes(8, "little") for index in range(n_rows)], groups)
    if choice.fold is not None and choice.folds is not None:
        own = keys if keys is not None else [index.to_bytes(8, "little") for index in range(n_rows)]
        learnt, held_out = fold_rows(order[: choice.limit], choice.fold, choice.folds, own)
        return learnt, held_out[: choice.eval_limit]
    if choice.eval_path or choice.eval_fraction == 0:
        return order[: choice.limit], []
    pool = _held_out_pool(order, choice.eval_fraction, keys)
    learnt = [index for index in order if index not in pool]
    held_out = [index for index in order if index in pool]
    if choice.limit is not None:
        # The limit counts both kinds of rows, in the proportion of the whole.
        held_out = held_out[: max(1, round(choice.limit * choice.eval_fraction))]
        learnt = learnt[: max(0, choice.limit - len(held_out))]
    return learnt, held_out[: choice.eval_limit]


def held_out_file_rows(n_rows: int, choice: SplitChoice, seed: int) -> list[int]:
    """The 0-based indices scored of a file that only holds held-out rows (`eval_path`)."""
    return _shuffled(n_rows, seed)[: choice.eval_limit]


def drawn_rows(n_rows: int, count: int, seed: int) -> list[int]:
    """`count` 0-based indices: every row once in shuffled order, then once more in another, and so on."""
    drawn: list[int] = []
    while n_rows and len(drawn) < count:
        drawn += _shuffled(n_rows, seed + len(drawn) // n_rows * 1_000_003)
    return drawn[:count]


def row_key(row: AnyRow) -> bytes:
    """Equal for rows that teach the same: what was made of them is equal. Judged answers are equal by their prompt alone, so that
    two pairs of one prompt are never on both sides of the split."""
    if isinstance(row, list):
        return _turns_key(row)
    if "text" in row:
        return blake2b(row["text"].encode(), digest_size=16).digest()
    return _turns_key(row["prompt"])


def _turns_key(turns: Conversation) -> bytes:
    parts = [f"{message['role']}\0{message['content']}" for message in turns]
    return blake2b("\0\0".join(parts).encode(), digest_size=16).digest()


def _shuffled(n_rows: int, seed: int) -> list[int]:
    salt = seed.to_bytes(8, "little")
    return sorted(range(n_rows), key=lambda index: blake2b(index.to_bytes(8, "little"), digest_size=8, salt=salt).digest())


def _held_out_pool(order: list[int], fraction: float, keys: Sequence[bytes] | None) -> set[int]:
    """Whole groups of equal rows, in shuffled order, until the share is reached."""
    if len(order) < 2:
        return set()
    wanted = max(1, round(len(order) * fraction))
    if keys is None:
        return set(order[: min(wanted, len(order) - 1)])
    groups: dict[bytes, list[int]] = {}
    for index in order:
        groups.setdefault(keys[index], []).append(index)
    if len(groups) < 2:
        return set()
    pool: set[int] = set()
    for group in groups.values():
        if len(pool) + len(group) <= wanted and len(pool) + len(group) < len(order):
            pool.update(group)
    return pool or set(sorted(groups.values(), key=len)[0])
