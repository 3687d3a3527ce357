"""Which tokens the model learns: the assistant's, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tui.engine.jobs.labels import IGNORED, RowEncoder
from llmops_tui.errors import UsageError
from tests.engine.tiny_model import make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


def said(tokenizer: Any, row: Any, **options: Any) -> list[str]:
    """The labelled stretches of a row as text."""
    encoded = RowEncoder(tokenizer, options.pop("max_length", 1000), **options).encode(row)
    stretches: list[list[int]] = [[]]
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (IGNORED, token)
        if label != IGNORED:
            stretches[-1].append(token)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


USER = {"role": "user", "content": "Hi?"}
BOT = {"role": "assistant", "content": "Hello."}


def test_only_the_answer_and_its_end_of_turn_are_learnt_under_a_default_system_prompt(tokenizer: Any) -> None:
    assert said(tokenizer, [USER, BOT]) == ["Hello.<|im_end|>"]


def test_every_assistant_turn_is_learnt_and_no_user_or_system_turn(tokenizer: Any) -> None:
    row = [
        {"role": "system", "content": "Be brief"},
        USER,
        BOT,
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "So long"},
    ]
    assert said(tokenizer, row) == ["Hello.<|im_end|>", "So long<|im_end|>"]


def test_a_word_of_the_assistant_quoted_by_the_user_is_not_learnt_there(tokenizer: Any) -> None:
    row = [{"role": "user", "content": "Say Hello."}, BOT]
    assert said(tokenizer, row) == ["Hello.<|im_end|>"]


def test_text_of_many_bytes_a_letter_keeps_its_labels_in_place(tokenizer: Any) -> None:
    row = [{"role": "user", "content": "größe 漢字 🚀?"}, {"role": "assistant", "content": "Größe 漢字 🚀!"}]
    assert said(tokenizer, row) == ["Größe 漢字 🚀!<|im_end|>"]


def test_the_whole_conversation_is_learnt_where_asked_for_but_not_its_first_token(tokenizer: Any) -> None:
    encoded = RowEncoder(tokenizer, 1000, assistant_only=False).encode([USER, BOT])
    assert encoded.labels[0] == IGNORED
    assert list(encoded.labels[1:]) == list(encoded.input_ids[1:])


def test_plain_text_is_learnt_whole_with_an_end_that_is_added_once(tokenizer: Any) -> None:
    assert said(tokenizer, {"text": "abc"}) == ["bc<|im_end|>"]
    assert said(tokenizer, {"text": "abc<|im_end|>"}) == ["bc<|im_end|>"]


def test_a_long_row_is_cut_and_says_so(tokenizer: Any) -> None:
    whole = RowEncoder(tokenizer, 1000).encode([USER, BOT])
    cut = RowEncoder(tokenizer, len(whole.input_ids) - 4).encode([USER, BOT])
    assert not whole.cut
    assert cut.cut
    assert cut.labelled == whole.labelled - 3  # the newline after the end of turn was not learnt


def test_a_row_whose_prompt_alone_fills_the_length_has_nothing_to_learn(tokenizer: Any) -> None:
    assert RowEncoder(tokenizer, 8).encode([USER, BOT]).labelled == 0


def test_an_earlier_turn_that_the_template_rewrites_is_left_out_and_the_last_is_learnt(tokenizer: Any) -> None:
    rewriting = make_tokenizer()
    rewriting.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{{ m['content'] if loop.last or m['role'] != 'assistant' else m['content'].split('</think>')[-1] }}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    row = [USER, {"role": "assistant", "content": "hm</think>One"}, USER, {"role": "assistant", "content": "so</think>Two"}]
    assert said(rewriting, row) == ["so</think>Two<|im_end|>"]


def test_a_conversation_without_a_chat_template_is_refused_with_the_way_out() -> None:
    bare = make_tokenizer()
    bare.chat_template = None
    with pytest.raises(UsageError, match=r"no chat template; use an instruction-tuned model"):
        RowEncoder(bare, 100).encode([USER, BOT])
