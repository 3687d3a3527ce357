"""A Llama of two layers with a byte tokenizer and a chat template, and rows for it, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# As SmolLM2's: a default system prompt where none is given, and a newline after each end of turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe nice<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer() -> Any:
    """One token a byte, plus the three of ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, "<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(seed: int = 0) -> Any:
    """2 layers, hidden 32, 4 heads of which 2 hold keys, tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=257,
        eos_token_id=258,
        pad_token_id=256,
    )
    return LlamaForCausalLM(config)


def save_model(directory: Path) -> Path:
    """A model directory as `from_pretrained` reads it."""
    make_model().save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def write_rows(path: Path, count: int = 24) -> Path:
    """Questions and answers of differing length."""
    rows = ({"question": f"What is {n} + {n}?", "answer": f"It is {2 * n}." + " Indeed." * (n % 5)} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_run(directory: Path, spec: dict[str, Any], model: Path, rows: Path) -> Path:
    """A run directory as the engine leaves it for a job; `spec` is the validated dump."""
    directory.mkdir(parents=True)
    record = {
        "id": directory.name,
        "schema": 1,
        "spec": spec,
        "prepared": {
            "model": {"path": str(model), "format": "full", "dtype": "float32"},
            "dataset": {"path": str(rows), "format": "question_answer"},
        },
    }
    (directory / "spec.json").write_text(json.dumps(record))
    return directory


def read_events(run: Path) -> list[dict[str, Any]]:
    """Every event of the run, in order."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
