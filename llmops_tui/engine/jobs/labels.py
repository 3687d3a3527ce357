"""From a row to tokens, and which of them the model learns: the assistant's alone.

TRL's `assistant_only_loss` needs a chat template it knows byte for byte. We need none: a conversation is rendered once
whole and once up to each assistant turn; the text between "everything before, with the generation prompt" and "everything
up to its end" is what the model must say itself. Character offsets carry these spans to tokens, so the row is tokenised
once, whole, exactly as rendered.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops_tui.data.formats import Conversation, TextRow
from llmops_tui.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True)
class EncodedRow:
    """Token ids and labels of one row, equally long; a label is the token itself or IGNORED. The first is always IGNORED."""

    input_ids: array[int]
    labels: array[int]
    cut: bool

    @property
    def labelled(self) -> int:
        """How many tokens of the row are predicted."""
        return len(self.labels) - self.labels.count(IGNORED)


class RowEncoder:
    """Turns rows into tokens and labels with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, *, assistant_only: bool = True) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._assistant_only = assistant_only

    def encode(self, row: Conversation | TextRow) -> EncodedRow:
        """Tokens of one row, cut at `max_length`. Raises UsageError where the model has no chat template for a conversation."""
        if isinstance(row, dict):
            text = row["text"]
            eos = self._tokenizer.eos_token or ""
            text = text if text.endswith(eos) else text + eos
            return self._tokenise(text, [(0, len(text))])
        text, spans = conversation_spans(self._tokenizer, row)
        return self._tokenise(text, spans if self._assistant_only else [(0, len(text))])

    def encode_answer(self, prompt: Conversation, answer: Conversation) -> EncodedRow:
        """Tokens of prompt and answer as one conversation, labelled in the answer's assistant turns alone."""
        text, spans = conversation_spans(self._tokenizer, [*prompt, *answer])
        begin = _common_prefix(_render(self._tokenizer, prompt, generation_prompt=True), text)
        return self._tokenise(text, [span for span in spans if span[1] > begin])

    def encode_prompt(self, prompt: Conversation) -> EncodedRow:
        """Tokens of a conversation up to where the assistant speaks next; nothing is labelled."""
        if not self._tokenizer.chat_template:
            raise _no_template()
        return self._tokenise(_render(self._tokenizer, prompt, generation_prompt=True), [])

    def _tokenise(self, text: str, spans: list[tuple[int, int]]) -> EncodedRow:
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"]
        labels = _label(ids, encoded["offset_mapping"], spans)
        labels[:1] = [IGNORED]  # nothing comes before the first token, so nothing can predict it
        return EncodedRow(array("l", ids[: self._max_length]), array("l", labels[: self._max_length]), len(ids) > self._max_length)


def conversation_spans(tokenizer: PreTrainedTokenizerBase, messages: Conversation) -> tuple[str, list[tuple[int, int]]]:
    """The rendered conversation, and the character span of each assistant turn up to and with its end-of-turn token.

    A turn that the template renders otherwise once more turns follow (templates that drop old reasoning) has no span.
    """
    if not tokenizer.chat_template:
        raise _no_template()
    whole = _render(tokenizer, messages)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        through = _render(tokenizer, messages[: index + 1])
        if not whole.startswith(through):
            continue
        start = _common_prefix(_render(tokenizer, messages[:index], generation_prompt=True), through) if index else 0
        if index == 0:
            start = through.find(message["content"].strip())
        end = len(through)
        # What stands after the end-of-turn token (a newline, in ChatML) glues turns together; nobody generates it.
        if (eos := tokenizer.eos_token) and (at := through.rfind(eos, start)) >= 0:
            end = at + len(eos)
        spans.append((start, end))
    return whole, spans


def _no_template() -> UsageError:
    return UsageError("the model has no chat template", "use an instruction-tuned model, or rows with a `text` field")


def _render(tokenizer: PreTrainedTokenizerBase, messages: Conversation, *, generation_prompt: bool = False) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt))


def _common_prefix(one: str, other: str) -> int:
    if other.startswith(one):
        return len(one)
    return next(index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def _label(ids: list[int], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[int]:
    """A token is labelled where it begins inside a span; one that straddles the beginning belongs to the prompt."""
    labels = [IGNORED] * len(ids)
    position = 0
    for start, end in spans:
        while position < len(ids) and offsets[position][0] < start:
            position += 1
        while position < len(ids) and offsets[position][0] < end:
            labels[position] = ids[position]
            position += 1
    return labels
