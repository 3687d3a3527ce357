"""Rows divided into k parts of which each is held out once; the same answer on every machine and Python.

What belongs together is never divided: rows that teach the same, and rows that agree in the key `group_by`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from llmops_tui.data.rows import RowError, read_rows
from llmops_tui.errors import UsageError


def groups_of(path: Path, group_by: str) -> list[bytes] | None:
    """The group of each row, by its value of `group_by`; None where nothing is grouped. Reads the rows again.

    Raises RowError for a row without such a key: it could belong to any group.
    """
    if not group_by:
        return None
    groups = []
    for number, row in read_rows(path):
        value = row.get(group_by)
        if value is None or value == "":
            raise RowError(number, f"has no {group_by!r}, by which the rows are grouped")
        groups.append(blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return groups


def joined(keys: Sequence[bytes], groups: Sequence[bytes] | None) -> list[bytes]:
    """One key a row, equal for rows that belong together: by content, by group, or by a chain of both."""
    if groups is None:
        return list(keys)
    leaders: dict[bytes, bytes] = {}

    def leader(name: bytes) -> bytes:
        while (above := leaders.setdefault(name, name)) != name:
            leaders[name] = leaders.get(above, above)
            name = above
        return name

    for key, group in zip(keys, groups, strict=True):
        one, other = leader(b"k" + key), leader(b"g" + group)
        if one != other:
            leaders[one] = other
    return [leader(b"k" + key) for key in keys]


def fold_rows(order: Sequence[int], fold: int, folds: int, keys: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """`(learnt, held out)` of one fold (from 1), in the order of `order`, whose indices they share out.

    Groups go one after the other, the largest first, to the part that has the fewest rows: parts differ by one row at most where no
    group is larger than that. Raises UsageError where there are fewer groups than folds.
    """
    members: dict[bytes, list[int]] = {}
    for index in order:
        members.setdefault(keys[index], []).append(index)
    if len(members) < folds:
        raise UsageError(
            f"dataset: {len(order)} rows in {len(members)} groups cannot be divided into {folds} folds",
            "ask for fewer folds, or group by something else",
            [{"field": "dataset.folds", "message": f"only {len(members)} groups of rows"}],
        )
    parts: list[list[int]] = [[] for _ in range(folds)]
    for group in sorted(members.values(), key=len, reverse=True):  # stable: equal sizes keep the shuffled order
        min(parts, key=len).extend(group)
    held_out = set(parts[fold - 1])
    return [index for index in order if index not in held_out], [index for index in order if index in held_out]
