"""The viewer's small parts: what it remembers, what it calls out, what it writes, and whose memory is on a GPU."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.attention import sequences
from llmops_tui.screens.custom import shell_line
from llmops_tui.screens.exporting import write
from llmops_tui.screens.gpu_cells import heaviest_of_mine, holders, use_of
from llmops_tui.screens.line_speed import LineSpeed
from llmops_tui.screens.palettes import PALETTES, SERIES
from llmops_tui.screens.view_file import ViewFile
from llmops_tui.screens.widgets.lines import LineWidget
from tests.tui.fake import FakeEngine, gpu


def test_a_view_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    view = ViewFile(tmp_path / "deep" / "view.json")
    view.mode, view.run, view.pages, view.seen = "runs", "train-a-0001", {"runs": {"filter": "tag:x"}}, {"epoch": 7}
    view.save()
    again = ViewFile(tmp_path / "deep" / "view.json")
    assert (again.mode, again.run, again.pages, again.seen) == ("runs", "train-a-0001", {"runs": {"filter": "tag:x"}}, {"epoch": 7})
    assert os.listdir(tmp_path / "deep") == ["view.json"], "no temporary file stays"


def test_what_another_console_read_stays_read(tmp_path: Path) -> None:
    mine, other = ViewFile(tmp_path / "view.json"), ViewFile(tmp_path / "view.json")
    other.seen = {"epoch": 9, "older": 3}
    other.save()
    mine.mode, mine.seen = "runs", {"epoch": 7}
    mine.save()
    again = ViewFile(tmp_path / "view.json")
    assert (again.mode, again.seen) == ("runs", {"epoch": 9, "older": 3})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version":99,"mode":"runs"}', '{"version":1,"mode":3,"pages":[1],"seen":{"a":"b"},"drafts":null}', "\x00\xff"],
)
def test_a_damaged_view_costs_only_the_memory(tmp_path: Path, text: str) -> None:
    path = tmp_path / "view.json"
    path.write_text(text, encoding="latin-1")
    view = ViewFile(path)
    assert (view.mode, view.run, view.pages, view.seen, view.drafts) == ("pulse", None, {}, {}, {})


def test_a_view_that_cannot_be_written_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    view = ViewFile(tmp_path / "file" / "view.json")
    view.mode = "runs"
    view.save()
    assert (tmp_path / "file").read_text() == ""


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    view = ViewFile(tmp_path / "view.json")
    view.mode = "queue"
    view.save()
    (tmp_path / "view.json").unlink()
    view.save()
    assert not (tmp_path / "view.json").exists()


@pytest.mark.parametrize(
    ("environ", "form"),
    [
        ({"TERM_PROGRAM": "WezTerm"}, "\x1b]9;a failed: why\a"),
        ({"TERM": "xterm-kitty"}, "\x1b]9;a failed: why\a"),
        ({"TERM": "foot"}, "\x1b]777;notify;a failed;why\a"),
        ({"TERM": "xterm-256color"}, ""),
    ],
)
def test_a_terminal_is_told_in_the_form_it_knows(environ: dict[str, str], form: str) -> None:
    assert sequences("a failed", "why", bell=False, desktop="auto", environ=environ) == form


def test_tmux_hands_notifications_through() -> None:
    told = sequences("a", "", bell=True, desktop="9", environ={"TMUX": "/tmp/x"})
    assert told == "\a\x1bPtmux;\x1b\x1b]9;a\a\x1b\\"


def test_a_run_name_cannot_write_to_the_terminal() -> None:
    told = sequences("x\x1b]0;evil\a\n", "a;b\x9c", bell=False, desktop="777", environ={})
    assert told.startswith("\x1b]777;notify;")
    assert told.count("\x1b") == told.count("\a") == 1
    assert told.count(";") == 3


def test_a_slow_line_is_noticed_after_three_full_looks_and_forgiven_after_thirty_empty_ones() -> None:
    line = LineSpeed()
    assert [line.look(waiting) for waiting in (9000, 9000, 0, 9000, 9000, 9000)] == [False] * 5 + [True]
    assert line.slow
    assert [line.look(0) for _ in range(30)] == [False] * 29 + [True]
    assert not line.slow


def test_a_command_of_the_user_gets_its_fields_quoted() -> None:
    assert shell_line("tail -f {log} # {run}", {"log": "/a b/$(rm -rf x)", "run": "x"}) == "tail -f '/a b/$(rm -rf x)' # x"
    with pytest.raises(KeyError, match="gpu"):
        shell_line("echo {gpu}", {"run": "x"})


def test_an_export_never_overwrites_and_says_where_it_cannot_write(tmp_path: Path) -> None:
    path = write("a,b\n", "csv", "runs", "", tmp_path, 0.0)
    assert path.parent == tmp_path
    assert path.suffix == ".csv"
    assert path.read_text() == "a,b\n"
    with pytest.raises(LlmopsError, match="is there already"):
        write("other", "csv", "runs", "", tmp_path, 0.0)
    assert path.read_text() == "a,b\n"
    with pytest.raises(LlmopsError, match="No such file"):
        write("x", "svg", "runs", "none/x.svg", tmp_path, 0.0)


def test_an_export_that_a_full_disk_ends_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path: Path, *_: object, **__: object) -> FullDisk:
        path.touch(exist_ok=False)
        return FullDisk()

    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(LlmopsError, match="No space left"):
        write("a,b", "csv", "runs", "x.csv", tmp_path, 0.0)
    assert os.listdir(tmp_path) == []


def test_who_holds_memory_is_told_heaviest_first_and_ones_own_run_is_found() -> None:
    engine = FakeEngine()
    mine = {"pid": 1, "memory_bytes": 9 << 30, "run": "train-fiqa-0003", "owner": "ada", "command": "python"}
    other = {"pid": 2, "memory_bytes": 40 << 30, "run": None, "owner": "bob", "command": "/usr/bin/vllm serve x"}
    engine.gpus = [
        gpu(0, processes=[mine], held_by=["train-fiqa-0003"], holders=[{"run": "train-fiqa-0003", "owner": "ada", "since": 5.0}]),
        gpu(1, processes=[other]),
        gpu(2, hidden_bytes=3 << 30),
        gpu(3, held_by=["x-y-0001"], holders=[{"run": "x-y-0001", "owner": "eve", "since": 5.0}], idle_seconds=900.0),
    ]
    found = holders(engine.status())
    assert [(holder.gpu, holder.run, holder.owner) for holder in found] == [
        (1, None, "bob"), (0, "train-fiqa-0003", "ada"), (2, None, ""), (3, "x-y-0001", "eve"),
    ]  # fmt: skip
    assert "vllm serve x" in found[0].what
    assert found[3].idle_seconds == 900.0
    assert heaviest_of_mine(found, "ada") == "0 train-fiqa-0003"
    assert heaviest_of_mine(found, "nobody") == found[0].key
    assert heaviest_of_mine([], "ada") is None


def test_every_use_of_a_gpu_has_its_words() -> None:
    assert use_of(gpu(0), 0.0) == ("free", "good")
    assert use_of(gpu(0, health="error", reason="Xid 79"), 0.0) == ("Xid 79", "bad")
    assert use_of(gpu(0, reserved_by={"owner": "ada", "until": 3600.0, "note": "paper"}), 0.0) == (
        "reserved by ada for 1h00m: paper",
        "warn",
    )
    assert use_of(gpu(0, held_by=["a-b-0001"], idle_seconds=120.0), 0.0) == ("a-b-0001  idle 2m00s", "warn")
    assert use_of(gpu(0, held_by=["a-b-0001"], idle_seconds=3.0), 0.0) == ("a-b-0001", "accent")
    assert use_of(gpu(0, hidden_bytes=1 << 30), 0.0) == ("hidden memory 1.0 GiB", "warn")


@pytest.mark.parametrize("name", PALETTES)
def test_every_palette_has_every_role_and_ground(name: str) -> None:
    palette, dark = PALETTES[name], PALETTES["dark"]
    assert palette.roles.keys() == dark.roles.keys()
    assert palette.grounds.keys() == dark.grounds.keys()
    assert {f"series-{number}" for number in range(SERIES)} <= palette.roles.keys()
    assert len({palette.roles[f"series-{number}"] for number in range(SERIES)}) == SERIES


@pytest.mark.parametrize("name", PALETTES)
def test_text_is_readable_on_every_ground(name: str) -> None:
    palette = PALETTES[name]
    for role in ("text", "muted", "accent", "good", "warn", "bad", *(f"series-{number}" for number in range(SERIES))):
        for ground in ("screen", "bar", "dialog", "cursor"):
            least = 3.0 if role != "text" else 4.5  # WCAG 2.2, 1.4.3: large or bold text, and body text
            if name == "sixteen" and ground == "cursor":
                least = 1.0  # a terminal of sixteen colours marks the cursor by its sign
            assert _contrast(palette.roles[role].split()[-1], palette.grounds[ground]) >= least, (role, ground)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_view_file_is_json_that_a_person_can_read(tmp_path: Path) -> None:
    view = ViewFile(tmp_path / "view.json")
    view.run = "train-a-0001"
    view.save()
    assert json.loads((tmp_path / "view.json").read_text())["run"] == "train-a-0001"


@pytest.mark.parametrize("name", ["weird [b]name[/b]", "rewards[/INST]", "[@click=app.quit]x", "[", ""])
def test_a_title_shows_a_name_with_brackets_as_it_is(name: str) -> None:
    widget = LineWidget()
    widget.border_title = name
    assert widget.border_title == name


def test_a_title_holds_no_escapes() -> None:
    widget = LineWidget()
    widget.border_title = "loss \x1b[31m\x07"
    assert widget.border_title == "loss  [31m "
