"""What a GGUF file says before each labelled token, by llama.cpp itself: the other side of a comparison (divergence.py).

Its logits take a vocabulary's width a token and are not kept: they are formed when they are asked for, once, in the rows' order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional

from llmops_tui.engine.jobs.divergence import Progress
from llmops_tui.engine.jobs.labels import IGNORED, EncodedRow
from llmops_tui.engine.jobs.quantizing.llama_library import LlamaModel


class LlamaHeard:
    """`order`: the rows by their index, as the first side has them. What is asked for must follow what was asked before."""

    def __init__(self, model: LlamaModel, rows: Sequence[EncodedRow], order: Sequence[int], progress: Progress) -> None:
        targets = [[token for token in rows[index].labels[1:] if token != IGNORED] for index in order]
        self.targets = torch.tensor([token for row in targets for token in row])
        self.row = torch.tensor([index for index, row in zip(order, targets, strict=True) for _ in row])
        self._model = model
        self._pieces = self._said(rows, order, progress)
        self._left = torch.empty(0, model.vocabulary_size)
        self._at = 0

    def log_probabilities(self, part: slice) -> torch.Tensor:
        """(positions, vocabulary), float32."""
        assert part.start == self._at
        count = len(self.targets[part])
        while len(self._left) < count:
            self._left = torch.cat([self._left, next(self._pieces)])
        said, self._left = self._left[:count], self._left[count:]
        self._at += count
        return functional.log_softmax(said, dim=-1)

    def _said(self, rows: Sequence[EncodedRow], order: Sequence[int], progress: Progress) -> Iterator[torch.Tensor]:
        done, total = 0, sum(len(row.input_ids) for row in rows)
        for index in order:
            row = rows[index]
            wanted = [label != IGNORED for label in row.labels[1:]] + [False]
            for piece in self._model.logits(row.input_ids, wanted):
                yield torch.from_numpy(piece.copy())
            done += len(row.input_ids)
            progress(done, total)
