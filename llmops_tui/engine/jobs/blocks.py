"""Raw text as a model is pretrained on it: documents one after another, each closed by the end token, cut into equal blocks.

Every token is learnt but the first of a block, before which nothing stands. The last block is as long as what is left.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from llmops_tui.engine.jobs.labels import IGNORED, EncodedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS_TOGETHER = 64


@dataclass(frozen=True)
class Block:
    """Up to `length` tokens, and the places of the documents they are from."""

    row: EncodedRow
    documents: list[int]


def tokenised(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], progress: Callable[[int, int], None]) -> Iterator[list[int]]:
    """The tokens of each document, closed by the end token."""
    end = tokenizer.eos_token_id
    waiting = iter(texts)
    done = 0
    while part := list(islice(waiting, _TEXTS_TOGETHER)):
        for ids in tokenizer(part, add_special_tokens=False)["input_ids"]:
            yield ids if end is None or ids[-1:] == [end] else [*ids, end]
        done += len(part)
        progress(done, len(texts))


def cut_into_blocks(documents: Iterable[list[int]], length: int) -> list[Block]:
    """Blocks of `length` tokens; one of a single token, from which nothing can be learnt, is left out."""
    blocks: list[Block] = []
    tokens: list[int] = []
    sources: list[int] = []

    def close(ids: list[int], of: list[int]) -> None:
        if len(ids) > 1:
            labels = array("l", [IGNORED, *ids[1:]])
            blocks.append(Block(EncodedRow(array("l", ids), labels, cut=False), of))

    for place, document in enumerate(documents):
        at = 0
        while at < len(document):
            taken = document[at : at + length - len(tokens)]
            at += len(taken)
            tokens += taken
            sources.append(place)
            if len(tokens) == length:
                close(tokens, sources)
                tokens, sources = [], []
    close(tokens, sources)
    return blocks
