"""How many parameters are trained: exact for LoRA, rsLoRA, QLoRA, DoRA and full, by the rules of PEFT. Pure.

LoRA adds A (r x inputs) and B (outputs x r) to a matrix (arXiv:2106.09685); DoRA one magnitude per output more
(arXiv:2402.09353); rsLoRA and QLoRA change the scale and the frozen weights alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmops_tui.engine.estimate.shapes import Matrix, ModelShape


@dataclass(frozen=True)
class Adapted:
    """The matrices that get an adapter, with how often each occurs: (matrix, count)."""

    matrices: tuple[tuple[Matrix, int], ...]

    def parameters(self, rank: int, *, dora: bool) -> int:
        """What is trained beside the frozen weights."""
        return sum(count * (rank * (matrix.inputs + matrix.outputs) + (matrix.outputs if dora else 0)) for matrix, count in self.matrices)

    def names(self) -> set[str]:
        """The last words of the adapted modules' names."""
        return {matrix.path.rpartition(".")[2] for matrix, _ in self.matrices}


def adapted(shape: ModelShape, targets: str | list[str]) -> Adapted:
    """As PEFT chooses them: "all-linear", a list of last words of names, or a pattern that a whole name matches."""
    found: dict[Matrix, int] = {}
    for name, matrix in _modules(shape):
        # PEFT's "all-linear" leaves out embeddings and the output layer.
        if matrix not in shape.outer if targets == "all-linear" else _is_chosen(name, targets):
            found[matrix] = found.get(matrix, 0) + 1
    return Adapted(tuple(found.items()))


def _modules(shape: ModelShape) -> Iterator[tuple[str, Matrix]]:
    for matrix in shape.layer:
        if not shape.layer_path:  # from the headers: each stands for itself
            yield matrix.path, matrix
            continue
        for number in range(shape.layers):
            yield f"{shape.layer_path.format(number)}.{matrix.path}", matrix
    for matrix in shape.outer:
        yield matrix.path, matrix


def _is_chosen(name: str, targets: str | list[str]) -> bool:
    if isinstance(targets, str):
        try:
            return re.fullmatch(targets, name) is not None
        except re.error:
            return False
    return any(name == end or name.endswith(f".{end}") for end in targets)
