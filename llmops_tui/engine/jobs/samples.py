"""What the model says to a few fixed prompts, greedily, so that two moments of a run can be read side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from llmops_tui.data.formats import Conversation, Message, TextRow

_FROM_HELD_OUT = 2
_TEXT_PROMPT_CHARACTERS = 200
_LONGEST_PROMPT_TOKENS = 512
_SHOWN_CHARACTERS = 400

Prompt = Conversation | str


def choose_prompts(given: Sequence[str], held_out: Sequence[Conversation | TextRow]) -> list[Prompt]:
    """The user's prompts, each a user turn; else the first held-out rows up to their last answer."""
    if given:
        return [[Message(role="user", content=prompt)] for prompt in given]
    rows = held_out[:_FROM_HELD_OUT]
    return [row["text"][:_TEXT_PROMPT_CHARACTERS] if isinstance(row, dict) else row[:-1] for row in rows]


def show(prompt: Prompt) -> str:
    """A prompt in one short line for the event."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else ""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


@torch.no_grad()  # type: ignore[untyped-decorator]  # not inference_mode: see sharding.py
def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    tokens: int,
    beat: Callable[[int, int], None],
    longest_prompt: int = _LONGEST_PROMPT_TOKENS,
) -> list[str]:
    """Greedy continuations of all prompts in one batch; `beat(done, total)` in tokens after each. The model's mode is kept."""
    if not prompts:
        return []
    texts = [
        prompt if isinstance(prompt, str) else tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"][-longest_prompt:] for text in texts]
    width = max(len(row) for row in rows)
    pad = tokenizer.pad_token_id
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        output = model.generate(
            input_ids=torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device),
            attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device),
            max_new_tokens=tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad,
            stopping_criteria=StoppingCriteriaList([_Beat(beat, width, tokens)]),
        )
    finally:
        model.train(was_training)
    return [str(text).strip() for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]


class _Beat(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Never stops anything: generate() asks it after each token, which is when the run shows that it lives."""

    def __init__(self, beat: Callable[[int, int], None], width: int, total: int) -> None:
        self._beat = beat
        self._width = width
        self._total = total

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_others: object) -> torch.Tensor:
        self._beat(input_ids.shape[1] - self._width, self._total)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
