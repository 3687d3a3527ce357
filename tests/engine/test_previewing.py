"""Rows are shown as the model will meet them before anything is started, with what it learns marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine import previewing
from llmops_tui.engine.permissions import deed_of
from llmops_tui.engine.previewing import preview
from llmops_tui.errors import LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import PreviewText
from llmops_tui.specs.preview_text import cut_words, head_line, marked, text_line
from llmops_tui.specs.train import TrainSpec
from tests.catalog_files import write_model, write_rows
from tests.engine.tiny_model import make_tokenizer

PAIRS: list[dict[str, object]] = [{"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go."}, {"prompt": "Hi?", "chosen": "Hello."}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of a model but weights that mean anything: a preview reads none."""
    directory = write_model(tmp_path_factory.mktemp("model"), tokenizer=False)
    (directory / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    make_tokenizer().save_pretrained(directory)
    return directory


def wish(model: Path, rows: Path, **fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": str(model), "dataset": {"path": str(rows), **fields.pop("dataset", {})}, **fields})


def shown(text: PreviewText) -> str:
    return "".join(words for words, _ in marked(text)) + cut_words(text)


def test_both_sides_of_a_pair_are_rendered_and_a_broken_row_says_why_in_its_place(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "pairs.jsonl", [PAIRS[1], PAIRS[0], PAIRS[0]])
    found = preview(Home(tmp_path / "home", explicit=True), wish(model, rows, dataset={"format": "preference"}), Path("/"), 2)
    bad, good = found["rows"]
    assert (bad["row"], bad["problem"], bad["texts"]) == ("1", "`rejected` is missing", [])
    head = "<|im_start|>system\nBe nice<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
    assert [text["title"] for text in good["texts"]] == ["chosen", "rejected"]
    assert [shown(text) for text in good["texts"]] == [f"{head}[[Hello.<|im_end|>]]\n", f"{head}[[Go.<|im_end|>]]\n"]
    assert head_line(found) == "[[learnt]], the rest only read · preference (set by the user) · max_length 1024"


def test_what_is_cut_is_counted_and_not_shown(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"question": "Hi?", "answer": "Hello."}])
    whole = preview(Home(tmp_path / "home", explicit=True), wish(model, rows), Path("/"), 1)["rows"][0]["texts"][0]
    cut = preview(Home(tmp_path / "home", explicit=True), wish(model, rows, max_length=whole["tokens"] - 5), Path("/"), 1)
    text = cut["rows"][0]["texts"][0]
    assert (text["tokens"], text["learnt_tokens"], text["cut_tokens"]) == (whole["tokens"] - 5, 3, 5)
    assert shown(text).endswith("[[Hel]] … 5 tokens more are cut")
    assert text_line(cut["rows"][0], text).endswith("3 learnt, 5 cut")


def test_what_cannot_be_previewed_says_what_and_why(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home", explicit=True)
    rows = write_rows(tmp_path / "rows.jsonl", [{"question": "Hi?", "answer": "Hello."}])
    with pytest.raises(NotFoundError, match="no file at"):
        preview(home, wish(model, tmp_path / "none.jsonl"), Path("/"), 1)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UsageError, match="holds no rows"):
        preview(home, wish(model, tmp_path / "empty.jsonl", dataset={"format": "messages"}), Path("/"), 1)
    bare = write_model(tmp_path / "bare", tokenizer=False, chat_template=False)
    with pytest.raises(UsageError, match="the rows cannot be rendered"):
        preview(home, wish(bare, rows), Path("/"), 1)
    monkeypatch.setattr(previewing, "_HELPER_SECONDS", 0.01)
    with pytest.raises(LlmopsError, match=r"rendering took longer than 0.01 s"):
        preview(home, wish(model, rows), Path("/"), 1)


def test_a_preview_only_reads() -> None:
    assert deed_of("POST", "/v1/preview", b"{}") is None


def test_text_of_rows_cannot_steer_the_terminal() -> None:
    text = PreviewText(title="text", pieces=[{"text": "a\x1b[2Jb\u202e\tc\n", "learnt": False}], tokens=3, learnt_tokens=0, cut_tokens=0)
    assert shown(text) == "a�[2Jb�    c\n"
