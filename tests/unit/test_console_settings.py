"""`[console]`: read by the viewer without an engine, wrong values named in one line, and the defaults hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.errors import UsageError
from llmops_tui.keys import in_force, keymap, remap
from llmops_tui.specs.console import ConsoleSettings, CustomCommand, load_console
from llmops_tui.specs.settings import load_settings


@pytest.fixture(autouse=True)
def _own_keys_are_forgotten() -> object:
    yield
    remap({})


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_console(tmp_path / "none.toml", {}) == (ConsoleSettings(), "")


def test_a_whole_section_is_read(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        [console]
        theme = "light"
        ascii = true
        status_seconds = 2
        hosts = ["gpu1", "me@gpu2"]
        [console.keys]
        quit = "Q"
        [[console.commands]]
        key = "ctrl+o"
        title = "shell"
        run = "cd {run}"
        confirm = true
        """,
    )
    settings, problem = load_console(path, {})
    assert problem == ""
    assert (settings.theme, settings.ascii, settings.status_seconds, settings.hosts) == ("light", "on", 2.0, ("gpu1", "me@gpu2"))
    assert settings.keys == {"quit": "Q"}
    assert settings.commands == (CustomCommand("ctrl+o", "shell", "cd {run}", confirm=True),)
    load_settings(path)  # the engine takes the same file


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[console]\ntheme = 'pink'", "console.theme: must be one of auto, dark"),
        ("[console]\ntheem = 'dark'", "console.theem: unknown key"),
        ("[console]\nmouse = 'yes'", "console.mouse: must be true or false"),
        ("[console]\nstatus_seconds = 0", "console.status_seconds: must be a number from 0.2 to 60"),
        ("[console]\nstatus_seconds = true", "console.status_seconds: must be a number"),
        ("[console]\nhosts = ['-oProxyCommand=x']", "console.hosts: must be a list of host names"),
        ("[console]\nkeys = 3", "console.keys: must be a table"),
        ("[console.keys]\nquit = 3", "console.keys.quit: must be keys as text"),
        ("[console]\ncommands = 3", "console.commands: must be at most"),
        ("[[console.commands]]\nkey = 'a'", "console.commands[1]: has no title"),
        ("[[console.commands]]\nkey = 'a'\ntitle = 'b'\nrun = 'c'\nwhen = 1", "console.commands[1].when: unknown key"),
        ("console = 3", "console: must be a table"),
        ("[console", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_and_the_defaults_hold(tmp_path: Path, text: str, told: str) -> None:
    path = _file(tmp_path, text)
    settings, problem = load_console(path, {})
    assert settings == ConsoleSettings()
    assert told in problem
    assert "\n" not in problem
    with pytest.raises(UsageError):
        load_settings(path)


def test_the_environment_names_another_theme(tmp_path: Path) -> None:
    assert load_console(tmp_path / "none.toml", {"LLMOPS_THEME": "contrast"})[0].theme == "contrast"
    assert "must be one of" in load_console(tmp_path / "none.toml", {"LLMOPS_THEME": "pink"})[1]


def test_a_key_gets_another_key_and_the_help_says_so() -> None:
    assert remap({"quit": "Q, ctrl+c", "export": "?"}) == "keys.export: ? is help already"
    assert keymap() == {}, "nothing of a table that is wrong counts"
    assert remap({"quit": "Q, ctrl+c", "help": "H", "export": "?"}) == ""
    assert next(key for key in in_force() if key.id == "quit").keys == ("Q", "ctrl+c")
    assert keymap()["export"] == "question_mark"


@pytest.mark.parametrize(
    ("wished", "told"),
    [({"quitt": "Q"}, "no such key"), ({"quit": " , "}, "names no key"), ({"quit": "r"}, "r is")],
)
def test_a_wrong_key_table_is_refused_as_a_whole(wished: dict[str, str], told: str) -> None:
    assert told in remap(wished)
    assert keymap() == {}
