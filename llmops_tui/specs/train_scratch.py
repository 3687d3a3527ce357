"""The wish to begin with a model that knows nothing: its size, and the tokenizer that is trained for it. Plain arithmetic besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from llmops_tui.specs.common import StrictModel

Preset = Literal["", "nano", "tiny", "small"]

# Beside the bytes and the merges of the rows: the end of a text, the beginning and the end of a turn (ChatML).
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)


class ScratchChoice(StrictModel):
    """A model from scratch; takes the place of `model`."""

    preset: Preset = Field(
        "",
        description="Begin with a new Llama of 1.3M (nano), 5.5M (tiny) or 25.7M (small) parameters; empty starts from `model`",
    )
    vocabulary: int = Field(
        4096, ge=SMALLEST_VOCABULARY + 1, le=1 << 18, description="Tokens of the new model's tokenizer, trained on the rows (BPE)"
    )
    context: int = Field(1024, ge=64, le=1 << 20, description="Longest sequence of the new model, in tokens")


@dataclass(frozen=True)
class Shape:
    """A Llama's measures (arXiv:2302.13971); embeddings and output layer are one matrix, keys and values have half the heads."""

    hidden: int
    layers: int
    heads: int
    intermediate: int

    @property
    def key_heads(self) -> int:
        """Grouped queries (arXiv:2305.13245)."""
        return self.heads // 2

    def parameters(self, vocabulary: int) -> int:
        """Exact number of weights."""
        keys = self.hidden * self.key_heads // self.heads
        layer = 2 * self.hidden**2 + 2 * self.hidden * keys + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * layer + self.hidden + vocabulary * self.hidden

    def config(self, vocabulary: int, context: int) -> dict[str, object]:
        """As in `config.json`."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "max_position_embeddings": context,
            "tie_word_embeddings": True,
        }


SHAPES: dict[str, Shape] = {
    "nano": Shape(hidden=128, layers=4, heads=4, intermediate=384),
    "tiny": Shape(hidden=256, layers=6, heads=4, intermediate=704),
    "small": Shape(hidden=512, layers=8, heads=8, intermediate=1408),
}
