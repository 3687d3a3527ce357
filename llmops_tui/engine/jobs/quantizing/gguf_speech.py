"""Whether a GGUF file speaks as its source: template and stop tokens in the file, text cut into the same tokens, answers that end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmops_tui.data.formats import Conversation
from llmops_tui.data.gguf_header import read_gguf_header
from llmops_tui.engine.jobs.quantizing.llama_library import LlamaModel
from llmops_tui.engine.jobs.template_check import CONVERSATIONS, MOST_TOKENS, check_ending, ending_prompts, render
from llmops_tui.specs.answers import ModelCheck

_TEXTS = (
    "Hello, world! It's 2024: 3.14 × 10^5, don't you think?", "  two blanks,\ttabs\n\nand lines  \r\n", "naïve café — 翻译 Übergröße",
    "def f(x):\n    return {'a': x**2, \"b\": [1, 23, 456]}", "emoji 👩‍👩‍👧 🇪🇺 end", "https://example.org/?q=1&r=2#x", "",
)  # fmt: skip

# Each conversation up to what a user says last: after it an answer is asked for.
ASKED: list[Conversation] = [conversation if conversation[-1]["role"] == "user" else conversation[:-1] for conversation in CONVERSATIONS]


def check_gguf(
    model: LlamaModel,
    source: PreTrainedTokenizerBase,
    stops: Sequence[int],
    source_ended: int | None,
    rendered: Sequence[str | None] | None,
) -> list[ModelCheck]:
    """All checks. `stops`: the tokens at which the source ends; `rendered`: the server's rendering of each of ASKED."""
    return [
        check_template_text(source, model.chat_template(), rendered),
        check_stops(model, source, stops),
        check_tokens(model, source),
        check_ending(source_ended, sum(ends(model, prompt) for prompt in ending_prompts(source))),
    ]


def ends(model: LlamaModel, prompt: Sequence[int]) -> bool:
    """Whether it ends its answer to a short prompt by itself."""
    return model.ends(model.greedy(prompt, MOST_TOKENS)[-1])


def check_template_text(source: PreTrainedTokenizerBase, text: str, rendered: Sequence[str | None] | None) -> ModelCheck:
    """The template must be the source's, to the letter; that llama.cpp renders it alike is another matter, and only noted."""
    name, own = "chat template", source.chat_template
    expected = str(own.get("default", "") if isinstance(own, dict) else own or "")
    if text != expected:
        return ModelCheck(name=name, verdict="failed", words="the file's is not its source's" if text else "was lost: the file has none")
    if not expected:
        return ModelCheck(name=name, verdict="passed", words="neither it nor its source has one")
    if rendered is None:
        return ModelCheck(name=name, verdict="passed", words="as its source's; no server was asked to render it")
    for number, (conversation, told) in enumerate(zip(ASKED, rendered, strict=True), 1):
        wanted = render(source, conversation, prompted=True)
        if told != wanted and not (told is None and wanted.startswith("refused: ")):
            words = f"as its source's, but llama.cpp renders conversation {number} otherwise"
            return ModelCheck(name=name, verdict="warning", words=words)
    return ModelCheck(name=name, verdict="passed", words=f"as its source's; llama.cpp renders {len(ASKED)} conversations as it does")


def check_stops(model: LlamaModel, source: PreTrainedTokenizerBase, stops: Sequence[int]) -> ModelCheck:
    """Every token at which the source ends must end an answer here."""
    if not stops:
        return ModelCheck(name="stop token", verdict="warning", words="neither it nor its source has one")
    if missed := [stop for stop in stops if not model.ends(stop)]:
        words = ", ".join(f"{source.convert_ids_to_tokens(stop)} ({stop})" for stop in missed)
        return ModelCheck(name="stop token", verdict="failed", words=f"llama.cpp goes on after {words}")
    told = ", ".join(f"{source.convert_ids_to_tokens(stop)} ({stop})" for stop in stops)
    return ModelCheck(name="stop token", verdict="passed", words=f"{told}, as its source's")


def check_tokens(model: LlamaModel, source: PreTrainedTokenizerBase) -> ModelCheck:
    """Whether text becomes the same tokens: a wrong cut of words costs quality that no loss on ready tokens shows."""
    texts = [*_TEXTS, *(render(source, conversation, prompted=True) for conversation in CONVERSATIONS if source.chat_template)]
    for text in texts:
        if model.tokens(text) != source(text, add_special_tokens=False)["input_ids"]:
            return ModelCheck(name="tokens", verdict="failed", words=f"cuts {text[:40]!r} otherwise than its source")
    return ModelCheck(name="tokens", verdict="passed", words=f"cuts {len(texts)} texts as its source")


def stops_of(tokenizer: PreTrainedTokenizerBase, settings: Any) -> list[int]:
    """The tokens that end a model's answers: the tokenizer's and the generation settings' (None: it has none)."""
    known = getattr(settings, "eos_token_id", None)
    found = [tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])]
    return list(dict.fromkeys(int(stop) for stop in found if stop is not None))


def check_file(path: Path, source: PreTrainedTokenizerBase, stops: Sequence[int], *, adapter: bool) -> list[ModelCheck]:
    """The file's own words alone, where no llama.cpp is there to be asked. An adapter has none: its base speaks."""
    if adapter:
        return []
    header = read_gguf_header(path)
    ids = [header.number(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    missed = [stop for stop in stops if stop not in ids]
    stop = ModelCheck(name="stop token", verdict="warning", words=f"the file does not name {missed}; llama.cpp was not asked")
    return [
        check_template_text(source, header.text("tokenizer.chat_template"), None),
        stop if missed else ModelCheck(name="stop token", verdict="passed", words=f"{stops}, as its source's"),
    ]
