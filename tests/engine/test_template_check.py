"""A model whose template or stop token was lost on the way is told so, though no loss shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmops_tui.engine.jobs.template_check import MOST_TOKENS, check_ending, check_speech, check_template, check_token, count_ended, faults
from tests.engine.tiny_model import make_model, make_tokenizer


def test_a_tokenizer_written_as_it_was_passes_all() -> None:
    settings = SimpleNamespace(eos_token_id=[258, 256], pad_token_id=256)
    checks = check_speech(make_tokenizer(), make_tokenizer(), settings, 1, 2)
    assert [check["verdict"] for check in checks] == ["passed"] * 4
    assert faults(checks) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Be nice", "Be rude"),  # the default system prompt
        ("message['role']", "'user'"),  # the roles
        ("message['content']", "message['content'] | trim"),  # blanks at the edges
        ("<|im_start|>assistant", "<|im_start|>user"),  # the generation prompt
        ("{% for", "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for"),  # refuses one
    ],
)
def test_a_template_that_renders_anything_otherwise_fails(old: str, new: str) -> None:
    produced = make_tokenizer()
    assert old in produced.chat_template
    produced.chat_template = produced.chat_template.replace(old, new)
    check = check_template(make_tokenizer(), produced)
    assert check["verdict"] == "failed"
    assert "otherwise than its source" in check["words"]


def test_a_template_that_was_lost_fails_and_one_that_never_was_does_not() -> None:
    bare = make_tokenizer()
    bare.chat_template = None
    assert check_template(make_tokenizer(), bare)["verdict"] == "failed"
    assert check_template(bare, bare)["verdict"] == "passed"


@pytest.mark.parametrize(
    ("source", "produced", "settled", "verdict"),
    [(258, 258, 258, "passed"), (258, 258, [1, 258], "passed"), (258, 256, 256, "failed"), (258, 258, 2, "failed"),
     (258, 258, None, "failed"), (None, None, None, "warning")],
)  # fmt: skip
def test_a_stop_token_must_be_the_sources_and_the_one_generation_goes_by(
    source: int | None, produced: int | None, settled: int | list[int] | None, verdict: str
) -> None:
    assert check_token("stop token", source, produced, settled, make_tokenizer())["verdict"] == verdict


@pytest.mark.parametrize(("source", "produced", "verdict"), [(2, 2, "passed"), (2, 1, "warning"), (0, 0, "warning"), (None, 1, "passed")])
def test_a_model_that_ends_fewer_answers_than_its_source_is_noted(source: int | None, produced: int, verdict: str) -> None:
    assert check_ending(source, produced)["verdict"] == verdict


def test_only_an_answer_that_ends_by_itself_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, beats = make_model(), make_tokenizer(), []
    said: list[list[int]] = [[5, 258], [5] * MOST_TOKENS]

    def generate(input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        assert options["max_new_tokens"] == MOST_TOKENS
        assert 258 in options["eos_token_id"]
        return torch.cat([input_ids, torch.tensor([said.pop(0)])], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    assert count_ended(model, tokenizer, lambda done, total: beats.append((done, total))) == 1
    assert beats == [(1, 2), (2, 2)]
