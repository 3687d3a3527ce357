"""A model that knows nothing: a tokenizer trained on the rows, a Llama with random weights, the chat template ChatML.

It is written as a model directory, so that everything after it (training, scoring, merging, serving) takes it for any other
model. The directory is made once a run: an attempt that resumes finds it there.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmops_tui.data.durable import sync_directory
from llmops_tui.engine.jobs.corpus import Row
from llmops_tui.errors import UsageError
from llmops_tui.specs.train_scratch import SHAPES, SMALLEST_VOCABULARY, SPECIAL_TOKENS, ScratchChoice

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Llama's own, and that of nearly every model since GPT-2.
_INITIAL_SPREAD = 0.02


def texts_of(rows: Iterable[Row]) -> Iterator[str]:
    """What the tokenizer is to write well: each document, or each turn."""
    for row in rows:
        if isinstance(row, dict):
            yield row["text"]
        else:
            yield from (message["content"] for message in row)


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909): at most `vocabulary` tokens, fewer where the text has too few pairs.

    Raises UsageError where there is no text at all.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() <= SMALLEST_VOCABULARY:
        raise UsageError("the rows hold too little text to train a tokenizer on", "add rows, or start from a model with a tokenizer")
    text_end, turn_begin, turn_end = SPECIAL_TOKENS
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=turn_begin,
        eos_token=turn_end,
        pad_token=text_end,
        unk_token=text_end,
        model_max_length=context,
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def make_model(choice: ScratchChoice, rows: Iterable[Row], seed: int, directory: Path) -> None:
    """Write tokenizer and model into `directory`, whole or not at all; nothing is done where it is there already."""
    if directory.is_dir():
        return
    tokenizer = train_tokenizer(texts_of(rows), choice.vocabulary, choice.context)
    torch.manual_seed(seed)
    config = LlamaConfig.from_dict(SHAPES[choice.preset].config(len(tokenizer), choice.context))
    config.initializer_range = _INITIAL_SPREAD
    config.bos_token_id, config.eos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    LlamaForCausalLM(config).save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    for path in unfinished.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(unfinished)
    unfinished.rename(directory)
    sync_directory(directory.parent)


def first_loss_words(loss: float, vocabulary: int) -> tuple[str, bool]:
    """A model that knows nothing guesses among all tokens alike: its first loss is ln V. Whether that is so, in words."""
    expected = math.log(vocabulary)
    near = abs(loss - expected) < 0.5
    words = f"first loss {loss:.3f}, and ln {vocabulary} is {expected:.3f}: "
    return words + ("it begins with an even guess, as it should" if near else "it does not begin with an even guess"), near
