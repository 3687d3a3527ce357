"""The user's own editor gets a file, and what it leaves behind is either read or gone."""

from __future__ import annotations

import contextlib
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.app import SuspendNotSupported

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.editor import edit


class Terminal:
    """As much of an app as an editor needs."""

    def __init__(self, gives: bool = True) -> None:
        self.gives = gives

    @contextlib.contextmanager
    def suspend(self) -> Iterator[None]:
        if not self.gives:
            raise SuspendNotSupported
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are made; no editor is set."""
    (tmp_path / "made").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "made"))
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def script(place: Path, body: str) -> str:
    path = place / "editor"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def run(text: str, file: str = "", gives: bool = True) -> str:
    app: Any = Terminal(gives)
    return edit(app, text, file)


def test_the_editors_words_may_have_options_and_the_file_comes_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", script(place, 'echo "$1" >> "$2"') + " --wait")
    file = run("seed: 1\n")
    assert Path(file).read_text() == "seed: 1\n--wait\n"
    assert run("other", file) == file
    assert Path(file).read_text() == "seed: 1\n--wait\n--wait\n"


@pytest.mark.parametrize("wrong", ["fails", "is not there", "has no terminal"])
def test_an_editor_that_does_not_work_leaves_no_new_file_and_keeps_an_old_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv(
        "VISUAL", script(place, "exit 3") if wrong == "fails" else str(place / "none") if wrong == "is not there" else "true"
    )
    gives = wrong != "has no terminal"
    with pytest.raises(LlmopsError, match={"fails": "code 3", "is not there": "No such file", "has no terminal": "cannot be given"}[wrong]):
        run("text", gives=gives)
    assert list((place / "made").iterdir()) == []
    kept = place / "kept.yaml"
    kept.write_text("seed: 2\n")
    with pytest.raises(LlmopsError):
        run("text", str(kept), gives=gives)
    assert kept.read_text() == "seed: 2\n"


def test_without_any_editor_the_way_out_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setenv("EDITOR", "'open quote")
    with pytest.raises(LlmopsError, match="no editor is set; set \\$EDITOR"):
        run("text")


def test_an_interrupt_meant_for_the_editor_does_not_end_the_console(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setenv("EDITOR", script(place, 'kill -INT $PPID; echo saved >> "$1"'))
    assert Path(run("seed: 1\n")).read_text() == "seed: 1\nsaved\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_ends_the_editor_as_ever(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", script(place, "kill -INT $$; sleep 60"))
    with pytest.raises(LlmopsError, match="ended with code -2: nothing was taken over"):
        run("seed: 1\n")
