"""ctrl+s and `:export`: the page as a picture, as text, its table whole, a comparison to paste; nothing is overwritten."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmops_tui.app import LlmopsApp
from tests.tui.driving import until, words
from tests.tui.fake import FakeEngine, summary


async def test_every_run_that_the_filter_finds_is_written_not_only_those_on_the_screen(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine.recent += [summary(f"train-many-{number:04d}", "succeeded", tags=["bulk"]) for number in range(100, 700)]
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("colon", *"runs", "space", *"tag", "colon", *"bulk", "enter")
        await until(
            pilot,
            lambda: app.board() is not None and app.board().PAGE == "runs" and "600" in str(app.screen.query_one("#every").border_title),
        )
        await pilot.press("colon", *"export", "space", *"csv", "space", *"all", "full_stop", *"csv", "enter")
        await until(pilot, lambda: (tmp_path / "all.csv").exists() and "wrote" in app.state.notice)
    with open(tmp_path / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 600
    assert {row["tags"] for row in rows} == {"bulk"}
    assert len({row["id"] for row in rows}) == 600


@pytest.mark.parametrize(("form", "begins"), [("svg", "<svg"), ("text", " llmops-tui"), ("json", "[")])
async def test_a_page_is_written_in_the_form_that_was_chosen(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, begins: str
) -> None:
    monkeypatch.chdir(tmp_path)
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("3")
        await until(pilot, lambda: app.board() is not None and app.board().PAGE == "queue")
        app.export(form, f"page.{form}")
        await until(pilot, lambda: (tmp_path / f"page.{form}").exists() and "wrote" in app.state.notice)
        app.export(form, f"page.{form}")
        await until(pilot, lambda: "is there already" in app.state.notice)
    text = (tmp_path / f"page.{form}").read_text()
    assert text.startswith(begins)
    if form == "json":
        assert [row["run"] for row in json.loads(text)] == ["evaluate-fiqa-0004", "train-boolq-0005"]


async def test_a_form_that_the_page_has_not_is_said_with_those_it_has(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.state.live)
        app.export("markdown", "x.md")
        await until(pilot, lambda: "this page has no markdown" in words(pilot, "#foot") and "svg" in words(pilot, "#foot"))
        app.export("../../etc", "")
        await until(pilot, lambda: "is no format" in words(pilot, "#foot"))
    assert list(tmp_path.iterdir()) == []


async def test_the_first_page_has_a_table_to_write(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.state.live and app.state.selected)
        app.export("csv", "pulse.csv")
        await until(pilot, lambda: "wrote" in app.state.notice)
        shown = [run["id"] for run in app.state.runs()]
    with open(tmp_path / "pulse.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == shown


async def test_the_whole_run_leaves_for_another_tool_into_a_new_directory(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.state.live and app.state.selected)
        await pilot.press("enter")
        await until(pilot, lambda: app.board() is not None and app.board().PAGE == "run")
        run = app.board().run_id()
        app.export("tensorboard", "logs/x")
        await until(pilot, lambda: "wrote" in app.state.notice)
        app.export("tensorboard", "logs/x")
        await until(pilot, lambda: "is there already" in app.state.notice)
    assert [(path.name, path.read_text()) for path in (tmp_path / "logs" / "x").iterdir()] == [("tensorboard.txt", run)]
