"""The form of a new run: filled in, checked, launched once, and never lost."""

from __future__ import annotations

import base64
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.errors import ConflictError, UsageError
from llmops_tui.screens import editor
from llmops_tui.screens.help import HelpScreen
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.view_file import ViewFile
from llmops_tui.screens.widgets.form import FieldLine, FormView
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine
from tests.tui.fake_form import TRAIN

NEWEST = "train-fiqa-0003"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Every run was asked for by the same train spec."""
    monkeypatch.setenv("LLMOPS_ASCII", "0")
    engine = FakeEngine()
    engine.specs = {run["id"]: TRAIN for run in (*engine.running, *engine.waiting, *engine.recent)}
    return engine


@asynccontextmanager
async def form(
    engine: FakeEngine, *keys: str, size: tuple[int, int] = (80, 24), view: ViewFile | None = None
) -> AsyncIterator[Pilot[None]]:
    """The form on top, after some keys."""
    app = LlmopsApp(engine, status_seconds=0.05, view=view)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "dataset.path" in fields(pilot))
        await press(pilot, *keys)
        yield pilot


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


async def turn_kind(pilot: Pilot[None], kind: str) -> None:
    """From the line of the kind: the choices before it, until it is this one."""
    while f" {kind} " not in f"{row(pilot, 'kind')} ":
        shown = row(pilot, "kind")
        await pilot.press("h")
        await until(pilot, lambda shown=shown: row(pilot, "kind") != shown)  # type: ignore[misc]


def fields(pilot: Pilot[None]) -> str:
    return words(pilot, "#fields")


def named(pilot: Pilot[None]) -> list[str]:
    """The fields in the order shown."""
    return [line[3:].split()[0] for line in fields(pilot).splitlines() if line[3:].split()]


def view_of(pilot: Pilot[None]) -> FormView:
    return pilot.app.screen.query_one(FormView)


def row(pilot: Pilot[None], name: str) -> str:
    """The line of a field."""
    return next((line for line in fields(pilot).splitlines() if line[3:].startswith(f"{name} ")), "")


def on(pilot: Pilot[None], key: str) -> Callable[[], bool]:
    return lambda: view_of(pilot).key == key


async def go(pilot: Pilot[None], key: str) -> None:
    """The cursor onto a field by moving."""
    await press(pilot, "g")
    for _ in range(80):
        if view_of(pilot).key == key:
            return
        await press(pilot, "j")
    raise AssertionError(f"no field {key}:\n{screen_text(pilot)}")


async def find(pilot: Pilot[None], name: str) -> None:
    """The cursor onto a field by a part of its name."""
    await press(pilot, "slash")
    await typed(pilot, name)
    await press(pilot, "enter")


async def typed(pilot: Pilot[None], text: str) -> None:
    """Into the line that is being written; as if pasted, which is the same but for the time it takes."""
    pilot.app.screen.query_one(FieldLine).post_message(events.Paste(text))
    await pilot.pause()


async def test_the_last_recipe_again_is_two_keys(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        assert f"from {NEWEST}" in screen_text(pilot)
        assert row(pilot, "optim.learning_rate").split()[-1] == "0.0001"
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert engine.submitted == [({**TRAIN}, "/home/ada/work")]
        await until(pilot, lambda: "train-fiqa-0101 is queued" in words(pilot, "#foot"))
        await press(pilot, "escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, NewRunScreen | RunScreen))


async def test_enter_on_the_first_line_launches_too(engine: FakeEngine) -> None:
    async with form(engine, "enter") as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert len(engine.submitted) == 1


async def test_a_new_fine_tune_from_nothing_is_six_keys(engine: FakeEngine) -> None:
    async with form(engine, "N") as pilot:
        assert "new run · empty" in screen_text(pilot)
        assert view_of(pilot).key == "model"
        await until(pilot, lambda: pilot.app.screen._offers._pages.get("model"))  # type: ignore[attr-defined]
        await press(pilot, "enter")
        await until(pilot, lambda: "smollm2@v1" in fields(pilot) and "@champion · full · 134M" in fields(pilot))
        await press(pilot, "down", "enter")
        assert row(pilot, "model").split()[-1] == "smollm2@v1"
        await press(pilot, "enter")
        await until(pilot, lambda: "5,500 rows" in fields(pilot))
        await press(pilot, "enter")
        assert row(pilot, "dataset.path").split()[-1] == "fiqa@v2"
        await press(pilot, "f5")
        await until(pilot, lambda: bool(engine.submitted))
        assert engine.submitted[0][0] == {"kind": "train", "model": "smollm2@v1", "dataset": {"path": "fiqa@v2"}}


async def test_a_wrong_number_is_said_while_it_is_typed_and_kept(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        await go(pilot, "epochs")
        await press(pilot, "enter", "ctrl+u")
        await typed(pilot, "many")
        await until(pilot, lambda: "✗ should be a number" in fields(pilot))
        await press(pilot, "enter")
        assert "many" in row(pilot, "epochs")
        assert "should be a number" in row(pilot, "epochs")
        await press(pilot, "ctrl+r")
        assert view_of(pilot).key == "epochs"
        assert engine.submitted == []
        await press(pilot, "enter", "ctrl+u", "2", "enter")
        assert "was 3" in row(pilot, "epochs")
        await until(pilot, lambda: "4,950 rows to learn from, 64 held out" in words(pilot, "#found"))
        assert "licence of the dataset" in " ".join(words(pilot, "#found").split())


async def test_escape_leaves_the_field_as_it_was(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        await go(pilot, "epochs")
        await press(pilot, "enter", "9", "escape")
        assert row(pilot, "epochs").split()[-1] == "3"
        assert isinstance(pilot.app.screen, NewRunScreen)


async def test_what_the_engine_refuses_stands_at_its_field_and_the_cursor_goes_there(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        engine.refusal = UsageError(
            "lora.r: too many", "", [{"field": "lora.r", "message": "names no weight"}, {"field": "argh", "message": "x"}]
        )
        await press(pilot, "ctrl+r")
        await until(pilot, on(pilot, "lora.r"))
        assert "✗" in row(pilot, "lora.r")
        assert "names no weight" in row(pilot, "lora.r")
        assert "lora.r: too many" in words(pilot, "#found")
        engine.refusal = ConflictError("after_ok: train-x-0001 failed")
        await press(pilot, "v")
        await until(pilot, lambda: "✗ after_ok: train-x-0001 failed" in words(pilot, "#found"))
        assert row(pilot, "lora.r").split() == ["▸", "lora.r", "16"]
        engine.refusal = None
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: len(engine.submitted) == 1)


async def test_a_launch_pressed_twice_starts_one_run(engine: FakeEngine) -> None:
    engine.before_answer = threading.Event()
    async with form(engine) as pilot:
        await press(pilot, "ctrl+r", "ctrl+r", "enter", "f5")
        assert "being submitted" in row(pilot, "launch")
        engine.before_answer.set()
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert len(engine.submitted) == 1


async def test_a_launch_answered_under_a_dialog_opens_the_run_when_the_dialog_closes(engine: FakeEngine) -> None:
    engine.before_answer = threading.Event()
    async with form(engine, "ctrl+r", "question_mark") as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        engine.before_answer.set()
        await until(pilot, lambda: bool(engine.submitted))
        await pilot.pause()
        await press(pilot, "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))


async def test_an_engine_lost_after_it_queued_the_run_is_not_asked_for_a_second_one(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        await go(pilot, "epochs")
        await press(pilot, "5", "enter")
        engine.lose_answer = True
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: "nothing typed is lost" in words(pilot, "#foot"))
        assert row(pilot, "epochs").split()[2] == "5"
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert len(engine.submitted) == 1


async def test_an_engine_lost_before_it_queued_the_run_is_asked_again(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        engine.lost = True
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: "nothing typed is lost" in words(pilot, "#foot") or "RECONNECTING" in words(pilot, "#header"))
        await until(pilot, lambda: "being submitted" not in row(pilot, "launch"))
        engine.lost = False
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert len(engine.submitted) == 1


async def test_a_draft_outlives_escape_and_the_viewer_and_ends_with_the_launch(engine: FakeEngine, tmp_path: Path) -> None:
    view = tmp_path / "view.json"
    async with form(engine, view=ViewFile(view)) as pilot:
        await go(pilot, "epochs")
        await press(pilot, "7", "enter", "escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, NewRunScreen))
        await press(pilot, "n")
        await until(pilot, lambda: "was 3" in row(pilot, "epochs"))
    app = LlmopsApp(engine, status_seconds=0.05, view=ViewFile(view))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "7  was 3" in row(pilot, "epochs"))
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert engine.submitted[-1][0]["epochs"] == 7.0
        await press(pilot, "escape", "n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "epochs" in fields(pilot))
        assert "7" in row(pilot, "epochs")
        assert "was" not in row(pilot, "epochs"), "the newest run is what it begins with now"


async def test_a_clone_begins_with_its_run_and_says_what_changed(engine: FakeEngine) -> None:
    engine.specs["train-fiqa-0002"] = {**TRAIN, "epochs": 9.0}
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        app.new_run(base="train-fiqa-0002")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "from train-fiqa-0002" in screen_text(pilot))
        assert row(pilot, "epochs").split()[-1] == "9"
        await go(pilot, "optim.learning_rate")
        await press(pilot, "0")
        await typed(pilot, ".5")
        await press(pilot, "enter")
        assert "0.5  was 0.0001" in row(pilot, "optim.learning_rate")
        assert "1 changed" in screen_text(pilot)
        await press(pilot, "k", "d")
        assert "was" not in row(pilot, "optim.learning_rate")
        await press(pilot, "d")
        assert "0.0002  was 0.0001" in row(pilot, "optim.learning_rate")


async def test_all_fields_stand_in_sections_and_a_field_is_found_by_its_name(engine: FakeEngine) -> None:
    async with form(engine, size=(160, 45)) as pilot:
        assert "limits.grace_seconds" not in fields(pilot)
        await press(pilot, "full_stop", "G")
        assert "when it is ended" in fields(pilot)
        assert view_of(pilot).key == "limits.grace_seconds"
        await press(pilot, "a", "slash")
        await typed(pilot, "weight_decay")
        await press(pilot, "enter")
        await until(pilot, lambda: view_of(pilot).editing == "optim.weight_decay")
        await press(pilot, "ctrl+u")
        await typed(pilot, "0.1")
        await press(pilot, "tab")
        assert view_of(pilot).editing == "optim.max_grad_norm"
        await press(pilot, "shift+tab", "escape")
        assert "0.1" in row(pilot, "optim.weight_decay")
        assert "AdamW" in words(pilot, "#about") or "Decoupled" in words(pilot, "#about")


async def test_choices_turn_without_writing(engine: FakeEngine) -> None:
    async with form(engine, size=(160, 60)) as pilot:
        await find(pilot, "schedule")
        await press(pilot, "l")
        assert row(pilot, "optim.schedule").split()[2] == "linear"
        await press(pilot, "h", "h")
        assert row(pilot, "optim.schedule").split()[2] == "constant"
        await find(pilot, "assistant")
        await press(pilot, "enter")
        assert row(pilot, "assistant_only").split()[2] == "false"
        await find(pilot, "dataset.format")
        await press(pilot, "down", "down", "enter")
        assert "alpaca" in row(pilot, "dataset.format")


async def test_another_kind_has_its_own_fields_and_keeps_the_common_ones(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        await go(pilot, "!kind")
        await press(pilot, "l")
        await until(pilot, lambda: "split" in fields(pilot))
        assert row(pilot, "model").split()[-1] == "smollm2@v1"
        await press(pilot, "enter")
        await typed(pilot, "comm")
        await press(pilot, "enter")
        await until(pilot, lambda: "argv" in fields(pilot))
        await go(pilot, "argv")
        await press(pilot, "enter")
        await typed(pilot, "python -c 'print")
        await until(pilot, lambda: "a quote is not closed" in fields(pilot))
        await typed(pilot, " 1'")
        await press(pilot, "ctrl+r")
        await until(pilot, lambda: bool(engine.submitted))
        assert engine.submitted[0][0] == {"kind": "command", "argv": ["python", "-c", "print 1"], "tags": ["nightly"], "name": "fiqa"}


async def test_pasted_garbage_is_text_on_one_line(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        await go(pilot, "name")
        await press(pilot, "enter", "ctrl+u")
        garbage = "a\r\nb\x1b[31m\x00\u202e" + "x" * 100_000
        await typed(pilot, garbage)
        await press(pilot, "enter")
        await until(pilot, lambda: "✗" in row(pilot, "name"))
        assert "use 1 to 40" in words(pilot, "#found").replace("\n", " ")
        view_of(pilot).post_message(events.Paste("\n\n"))
        await press(pilot, "k", "enter", "ctrl+u")
        await typed(pilot, "\n")
        await press(pilot, "enter")
        await until(pilot, lambda: "✗" not in row(pilot, "name"))


async def test_the_equal_command_is_shown_and_copied_through_the_terminal(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with form(engine) as pilot:
        sent: list[str] = []
        driver = pilot.app._driver
        assert driver is not None
        monkeypatch.setattr(driver, "write", sent.append)
        await press(pilot, "y")
        await until(pilot, lambda: "OSC 52" in words(pilot, "#foot"))
        copied = base64.b64decode(next(text for text in sent if text.startswith("\x1b]52;c;"))[7:-1]).decode()
        assert copied.startswith(
            "cd /home/ada/work && llmops-tui run train --set model=smollm2@v1 --set epochs=3.0 --set dataset.path=fiqa@v2"
        )
        assert " ".join(words(pilot, "#equal").split()) == copied


async def test_paths_are_completed_from_the_file_system(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "inner").mkdir()
    async with form(engine) as pilot:
        await go(pilot, "dataset.path")
        await press(pilot, "enter", "ctrl+u")
        await typed(pilot, f"{tmp_path}/")
        await until(pilot, lambda: "inner/" in fields(pilot) and "rows.jsonl" in fields(pilot))
        await press(pilot, "r")
        await until(pilot, lambda: "inner/" not in fields(pilot))
        await press(pilot, "tab", "enter")
        assert pilot.app.screen.draft.value("dataset.path") == str(tmp_path / "rows.jsonl")  # type: ignore[attr-defined]


def editing(monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]) -> list[str]:
    """Let a function be the editor; the files it was given."""
    files: list[str] = []

    def edit(app: Any, text: str, file: str = "") -> str:
        path = Path(file or f"/tmp/{id(files)}-{len(files)}.yaml")
        path.write_text(change(path.read_text() if file else text))
        files.append(str(path))
        return str(path)

    monkeypatch.setattr(editor, "edit", edit)
    return files


async def test_the_editor_changes_fields_and_its_faults_come_back_to_them(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with form(engine, size=(80, 40)) as pilot:
        files = editing(monkeypatch, lambda text: text.replace("epochs: 3.0", "epochs: lots").replace("#seed: 0", "seed: 5"))
        await press(pilot, "e")
        await until(pilot, on(pilot, "epochs"))
        assert "lots" in row(pilot, "epochs")
        assert row(pilot, "seed").split()[2] == "5"
        assert not Path(files[0]).exists()
        editing(monkeypatch, lambda text: text.replace("epochs: lots", "epochs: 4"))
        await press(pilot, "enter", "ctrl+e")
        await until(pilot, lambda: "4  was 3" in row(pilot, "epochs"))


async def test_a_file_that_is_no_yaml_is_kept_and_opened_again(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with form(engine) as pilot:
        files = editing(monkeypatch, lambda text: text.replace("epochs: 3.0", "epochs: [3"))
        await press(pilot, "e")
        await until(pilot, lambda: "not valid YAML" in words(pilot, "#found"))
        assert row(pilot, "epochs").split()[-1] == "3"
        again = editing(monkeypatch, lambda text: text.replace("epochs: [3", "epochs: 6"))
        await press(pilot, "e")
        await until(pilot, lambda: "6  was 3" in row(pilot, "epochs"))
        assert again == files
        assert not Path(files[0]).exists()


async def test_a_terminal_that_cannot_be_given_away_says_so(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "true")
    async with form(engine, "e") as pilot:
        await until(pilot, lambda: "cannot be given to an editor" in words(pilot, "#foot"))


async def test_a_form_that_could_not_be_had_comes_when_the_engine_is_back(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        engine.lost = True
        await press(pilot, "n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "no engine runs" in fields(pilot))
        engine.lost = False
        await until(pilot, lambda: "dataset.path" in fields(pilot))


async def test_capital_l_takes_the_newest_runs_spec_whatever_was_typed(engine: FakeEngine) -> None:
    async with form(engine, "N") as pilot:
        assert row(pilot, "epochs").split()[-1] == "1"
        await press(pilot, "L")
        await until(pilot, lambda: row(pilot, "epochs").split()[-1:] == ["3"])


@pytest.mark.parametrize("key", ["pagedown", "ctrl+d", "G", "end"])
async def test_pages_and_ends_move_the_cursor(engine: FakeEngine, key: str) -> None:
    async with form(engine, "full_stop", key) as pilot:
        assert view_of(pilot).key != "!launch"
        await press(pilot, *["pageup"] * 20)
        assert view_of(pilot).key == "!launch"
        await press(pilot, "down", "tab", "up", "shift+tab", "home")
        assert view_of(pilot).key == "!launch"


async def test_the_mouse_chooses_and_writes(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        line = next(at for at, text in enumerate(fields(pilot).splitlines()) if "epochs" in text)
        await pilot.click("#fields", offset=(10, line + 1))
        await until(pilot, on(pilot, "epochs"))
        await pilot.click("#fields", offset=(10, line + 1))
        await until(pilot, lambda: view_of(pilot).editing == "epochs")


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (40, 12), (300, 80)])
async def test_no_size_of_terminal_breaks_the_form(engine: FakeEngine, size: tuple[int, int]) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.live)
        await press(pilot, "n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.screen.draft is not None)
        await press(pilot, "j", "j", "enter", "x", "down", "escape", "full_stop", "G", "slash", "escape")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "limits.grace_seconds" in fields(pilot))


async def test_the_form_reads_in_ascii(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_ASCII", "1")
    async with form(engine, "j", "j", "j", "d", "d", "enter") as pilot:
        await until(pilot, lambda: view_of(pilot).editing == "model")
        assert [character for character in screen_text(pilot) if not character.isascii()] == []


async def test_a_form_that_stands_again_launches_nothing_by_an_enter_that_was_meant_for_the_shell(engine: FakeEngine) -> None:
    view = ViewFile(None)
    view.pages["new"] = {"open": True}
    app = LlmopsApp(engine, status_seconds=0.05, view=view)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "dataset.path" in fields(pilot))
        await until(pilot, on(pilot, "!kind"))
        await press(pilot, "enter")
        await pilot.pause()
        assert isinstance(app.screen, NewRunScreen), "the form is still there"
        assert NEWEST not in [run["id"] for run in engine.waiting]


@pytest.mark.parametrize("key", ["!launch", "dataset.path", "no.such.field", ""])
async def test_a_word_about_a_field_that_is_not_there_any_more_breaks_nothing(engine: FakeEngine, key: str) -> None:
    async with form(engine, "g", "j") as pilot:
        await turn_kind(pilot, "command")
        view = pilot.app.screen.query_one(FormView)
        assert isinstance(pilot.app.screen, NewRunScreen)
        before = pilot.app.screen.remember()
        for message in (FormView.FieldWritten(key, "x", 0, True), FormView.FieldTurned(key, 1), FormView.FieldTyped(key, "x")):
            view.post_message(message)
        view.post_message(FormView.FieldReset(key))
        await pilot.pause()
        assert pilot.app._exception is None
        assert pilot.app.screen.remember() == before


async def test_every_word_that_may_stand_in_a_field_is_seen_under_it_the_first_too(engine: FakeEngine) -> None:
    async with form(engine, "j", "j", "enter") as pilot:
        await until(pilot, lambda: view_of(pilot).editing == "method")
        offered = [line.split() for line in fields(pilot).splitlines()]
        assert ["▸", "sft", "the", "default"] in offered
        assert [word for word in ("pretrain", "dpo", "kto", "orpo", "distill") if [word] not in offered] == []


async def test_a_method_brings_its_own_fields_and_what_it_cannot_do_without(engine: FakeEngine) -> None:
    async with form(engine, size=(120, 40)) as pilot:
        assert named(pilot)[2:7] == ["method", "model", "dataset.path", "adaptation", "optim.learning_rate"]
        await press(pilot, "slash", *"method", "enter", *"distill", "enter")
        await until(pilot, lambda: "distill.teacher" in named(pilot))
        assert named(pilot)[6:8] == ["distill.teacher", "distill.weight"]
        assert "required" in row(pilot, "distill.teacher")
        await press(pilot, "slash", *"method", "enter", *"grpo", "enter")
        await until(pilot, lambda: "grpo.rewards" in fields(pilot))
        assert "distill.teacher" not in fields(pilot)


async def test_a_new_model_is_offered_where_none_is_chosen_and_has_no_adapter(engine: FakeEngine) -> None:
    async with form(engine, size=(120, 40)) as pilot:
        assert "scratch.preset" not in fields(pilot)
        assert "lora.r" in fields(pilot)
        await press(pilot, "N")
        await until(pilot, lambda: "scratch.preset" in fields(pilot))
        await press(pilot, "slash", *"scratch.preset", "enter", *"tiny", "enter")
        await until(pilot, lambda: "tiny" in row(pilot, "scratch.preset"))
        assert "lora.r" not in fields(pilot)
        assert "required" not in row(pilot, "model")
