"""Whether a model that was made still speaks as its source: the chat template, the stop tokens, and an answer that ends.

A model whose template or stop token was lost on the way answers endlessly or in the wrong role, and no loss shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from llmops_tui.data.formats import Conversation, Message
from llmops_tui.engine.jobs.loading import load_tokenizer
from llmops_tui.specs.answers import ModelCheck

# Each shows something that a broken template loses: roles, several turns, blanks at the edges, other scripts, a system prompt.
CONVERSATIONS: list[Conversation] = [
    [Message(role="user", content="Hello")],
    [Message(role="user", content="What is 2 + 2?"), Message(role="assistant", content="4")],
    [
        Message(role="system", content="Answer in one word."),
        Message(role="user", content="  The capital of France?\n"),
        Message(role="assistant", content="Paris"),
        Message(role="user", content="Und von Österreich?"),
    ],
    [Message(role="user", content="翻译: cat\n\n```python\nprint('{{ x }}')\n```"), Message(role="assistant", content="猫 <b>&</b>")],
]
_PROMPTS = ["What is 2 + 2? Answer with one number.", "Say hello."]
MOST_TOKENS = 64

Beat = Callable[[int, int], None]


def check_speech(
    source: PreTrainedTokenizerBase,
    produced: PreTrainedTokenizerBase,
    settings: Any,
    source_ended: int | None,
    produced_ended: int,
    most_tokens: int = MOST_TOKENS,
) -> list[ModelCheck]:
    """All checks of a produced model: its tokenizer beside the source's, its generation settings, and how many prompts it ended.

    `source_ended` is None where the source was not heard; then a model that never ends is only noted.
    """
    return [
        check_template(source, produced),
        check_token("stop token", source.eos_token_id, produced.eos_token_id, settings.eos_token_id, produced),
        check_token("padding token", source.pad_token_id, produced.pad_token_id, settings.pad_token_id, produced),
        check_ending(source_ended, produced_ended, most_tokens),
    ]


def check_trained(model: Any, source: PreTrainedTokenizerBase, directory: Path, most_tokens: int, beat: Beat) -> list[ModelCheck]:
    """The checks of a model that was just trained and still lies in memory; `directory` is where its tokenizer was written."""
    produced = load_tokenizer(directory)
    ended = count_ended(model, produced, beat, most_tokens)
    return check_speech(source, produced, model.generation_config, None, ended, most_tokens)


def check_template(source: PreTrainedTokenizerBase, produced: PreTrainedTokenizerBase) -> ModelCheck:
    """Whether fixed conversations are rendered, character by character, as by the source; a template may refuse some, both alike."""
    if not source.chat_template and not produced.chat_template:
        return ModelCheck(name="chat template", verdict="passed", words="neither it nor its source has one")
    for number, conversation in enumerate(CONVERSATIONS, 1):
        for prompted in (False, True):
            if render(source, conversation, prompted) != render(produced, conversation, prompted):
                return ModelCheck(name="chat template", verdict="failed", words=f"renders conversation {number} otherwise than its source")
    return ModelCheck(name="chat template", verdict="passed", words=f"renders {len(CONVERSATIONS)} conversations as its source")


def check_token(
    name: str, source: int | None, produced: int | None, in_settings: int | list[int] | None, tokenizer: PreTrainedTokenizerBase
) -> ModelCheck:
    """Whether a special token is the source's, and the one that generation goes by."""
    if produced != source:
        return ModelCheck(name=name, verdict="failed", words=f"is token {produced}, its source's is {source}")
    if produced is None:
        return ModelCheck(name=name, verdict="warning", words="neither it nor its source has one")
    settled = in_settings if isinstance(in_settings, list) else [in_settings]
    if produced not in settled:
        return ModelCheck(name=name, verdict="failed", words=f"is token {produced}, but generation_config.json says {in_settings}")
    return ModelCheck(name=name, verdict="passed", words=f"{tokenizer.convert_ids_to_tokens(produced)} ({produced}), as its source's")


def check_ending(source_ended: int | None, produced_ended: int, most_tokens: int = MOST_TOKENS) -> ModelCheck:
    """Whether short answers come to an end; a model that ends fewer than its source has unlearnt to stop."""
    words = f"{produced_ended} of {len(_PROMPTS)} short prompts ended within {most_tokens} tokens"
    if source_ended is not None:
        words += f", {source_ended} of its source"
    good = produced_ended >= max(1, source_ended or 0)
    return ModelCheck(name="generation ends", verdict="passed" if good else "warning", words=words)


def faults(checks: list[ModelCheck]) -> list[str]:
    """What failed, in words."""
    return [f"{check['name']}: {check['words']}" for check in checks if check["verdict"] == "failed"]


@torch.no_grad()  # type: ignore[untyped-decorator]  # not inference_mode: see sharding.py
def count_ended(model: Any, tokenizer: PreTrainedTokenizerBase, beat: Beat, most_tokens: int = MOST_TOKENS) -> int:
    """How many of the fixed prompts the model ends by itself, greedily; `beat(done, total)` after each."""
    stops = {tokenizer.eos_token_id}
    settled = model.generation_config.eos_token_id
    stops.update(settled if isinstance(settled, list) else [settled])
    device = next(model.parameters()).device
    ended = 0
    model.eval()
    for number, prompt in enumerate(ending_prompts(tokenizer), 1):
        ids = torch.tensor([prompt], device=device)
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=most_tokens, do_sample=False, temperature=None,
            top_p=None, top_k=None, eos_token_id=[stop for stop in stops if stop is not None] or None, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        ended += int(output[0, -1]) in stops
        beat(number, len(_PROMPTS))
    return ended


def ending_prompts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The fixed prompts as the model meets them."""
    found = []
    for prompt in _PROMPTS:
        text = prompt
        if tokenizer.chat_template:
            text = str(tokenizer.apply_chat_template([Message(role="user", content=prompt)], tokenize=False, add_generation_prompt=True))
        found.append(list(tokenizer(text, add_special_tokens=False)["input_ids"]))
    return found


def render(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, prompted: bool) -> str:
    """What the template makes of it, or how it refuses it."""
    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=prompted))
    except Exception as refusal:  # noqa: BLE001 - a template raises what it likes; what it says is compared
        return f"refused: {refusal}"
