"""Which rows meet in a batch, and how they become tensors, so that few computed tokens are padding.

On a CPU rows of like length are grouped; on a GPU several rows are packed into one sequence, each seeing only itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from llmops_tui.engine.jobs.labels import IGNORED

Batch = dict[str, torch.Tensor]

# Groups are formed within this many updates: enough to find rows of like length, few enough to keep the order random.
_UPDATES_SORTED_TOGETHER = 50


class LengthGroupedOrder(Sampler[int]):  # type: ignore[misc]  # torch is untyped to mypy here
    """An order of rows, random by seed and epoch, in which the rows of one update have like length.

    It is a function of `(seed, epoch)` alone, so that a resumed run meets the same rows as one that was never interrupted.
    With `longest_first` the update with the longest row leads: a run that will not fit in a GPU's memory says so at once.
    """

    def __init__(
        self, lengths: Sequence[int], rows_per_update: int, seed: int, *, grouped: bool = True, longest_first: bool = False
    ) -> None:
        self._lengths = lengths
        self._rows_per_update = rows_per_update
        self._seed = seed
        self._grouped = grouped
        self._longest_first = longest_first
        self._epoch = 0
        self._passed: tuple[int, list[int]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each pass."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(self._epoch))

    def rows_of_step(self, step: int) -> list[int]:
        """Row indices that optimizer step `step`, from 1, learns from; the last update of a pass may be short."""
        size = self._rows_per_update
        updates = -(-len(self._lengths) // size)
        epoch, update = divmod(step - 1, updates)
        if self._passed is None or self._passed[0] != epoch:
            self._passed = epoch, self.order(epoch)
        return self._passed[1][update * size : (update + 1) * size]

    def order(self, epoch: int) -> list[int]:
        """Row indices of one pass."""
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        shuffled: list[int] = torch.randperm(len(self._lengths), generator=generator).tolist()
        if not self._grouped:
            return shuffled
        stretch = self._rows_per_update * _UPDATES_SORTED_TOGETHER
        by_length: list[int] = []
        for start in range(0, len(shuffled), stretch):
            by_length += sorted(shuffled[start : start + stretch], key=lambda row: self._lengths[row], reverse=True)
        size = self._rows_per_update
        groups = [by_length[start : start + size] for start in range(0, len(by_length) - size + 1, size)]
        rest = by_length[len(groups) * size :]  # a short update can only come last
        mixed = [groups[index] for index in torch.randperm(len(groups), generator=generator).tolist()]
        if mixed and self._longest_first:
            longest = max(range(len(mixed)), key=lambda index: max(self._lengths[row] for row in mixed[index]))
            mixed[0], mixed[longest] = mixed[longest], mixed[0]
        return [row for group in mixed for row in group] + rest


class PaddingCollator:
    """Rows to tensors, padded on the right to the longest; packed rows get positions that begin anew with each document."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, list[int]]]) -> Batch:
        width = max(len(row["input_ids"]) for row in rows)
        batch = {
            "input_ids": _padded(rows, "input_ids", width, self._pad_id),
            "labels": _padded(rows, "labels", width, IGNORED),
        }
        if "seq_lengths" in rows[0]:
            # No mask: the attention finds the documents by their positions, and padding is one more document.
            positions = [_document_positions(row["seq_lengths"], width) for row in rows]
            batch["position_ids"] = torch.tensor(positions)
        else:
            batch["attention_mask"] = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
        return batch


def real_tokens(batch: Batch) -> int:
    """Tokens of a padded batch that are not padding."""
    mask = batch.get("attention_mask")
    return int(mask.sum()) if mask is not None else batch["input_ids"].numel()


def split_batch(batch: Batch, token_budget: int) -> list[Batch]:
    """Cut a padded batch into pieces of at most `token_budget` computed tokens (one row at least), each as narrow as its rows.

    On a CPU a forward pass gains nothing beyond a few hundred tokens, but its activations leave the cache and fill the
    memory. The sum over the pieces of a token-weighted loss is the loss of the batch, so only rounding changes.
    """
    mask = batch.get("attention_mask")
    if mask is None:
        return [batch]
    lengths = mask.sum(dim=1)
    order = torch.argsort(lengths, descending=True, stable=True).tolist()
    pieces = []
    while order:
        width = int(lengths[order[0]])
        rows = order[: max(1, token_budget // width)]
        order = order[len(rows) :]
        piece = {name: value[rows, :width] for name, value in batch.items()}
        if bool((lengths[rows] == width).all()):
            del piece["attention_mask"]  # nothing is padding: the attention needs no mask but the causal one
        pieces.append(piece)
    return pieces


@dataclass(frozen=True)
class PackingPlan:
    """How packed rows fill an update with as many tokens as unpacked ones would."""

    length: int
    accumulation: int


def plan_packing(lengths: Sequence[int], rows_per_update: int, max_length: int) -> PackingPlan:
    """Packed sequences of one row a forward pass that keep the mean tokens of an update: `rows_per_update` mean rows."""
    tokens_per_update = rows_per_update * sum(lengths) / len(lengths)
    length = max(max(lengths), min(max_length, round(tokens_per_update)))
    return PackingPlan(length=length, accumulation=max(1, round(tokens_per_update / length)))


def pack_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows that share a sequence, by best fit, longest first (the BFD of TRL and of arXiv:2404.10830); none is cut."""
    space: dict[int, list[int]] = {}  # free tokens -> bins that have exactly that much
    bins: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True):
        need = lengths[row]
        fitting = [free for free in space if free >= need]
        free = min(fitting) if fitting else capacity
        if fitting:
            index = space[free].pop()
            if not space[free]:
                del space[free]
            bins[index].append(row)
        else:
            index = len(bins)
            bins.append([row])
        space.setdefault(free - need, []).append(index)
    return bins


def _padded(rows: list[dict[str, list[int]]], name: str, width: int, value: int) -> torch.Tensor:
    return torch.tensor([row[name] + [value] * (width - len(row[name])) for row in rows])


def _document_positions(lengths: list[int], width: int) -> list[int]:
    whole = [*lengths, width - sum(lengths)]
    return [position for length in whole for position in range(length)]
