"""The grammar alone: no engine is started here."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

from llmops_tui.cli import parse, run_cli
from llmops_tui.commands import man, reference
from llmops_tui.commands.grammar import build_parser
from llmops_tui.commands.remote import without_host
from llmops_tui.errors import UsageError


@pytest.mark.parametrize(
    "line",
    ["--home /x runs list --json", "runs --home /x list --json", "runs list --home /x --json", "--json --home=/x runs list"],
)
def test_options_of_every_command_may_stand_anywhere(line: str) -> None:
    args = parse(line.split())
    assert (args.home, args.json, args.debug, args.handler) == ("/x", True, False, "runs:list_runs")


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("statsu", "did you mean 'status'?"),
        ("runs lst", "did you mean 'list'?"),
        ("run trian", "did you mean 'train'?"),
        ("runs list --stat running", "did you mean --state?"),
        ("completions bahs", "did you mean 'bash'?"),
        ("runs list --state runing", "did you mean 'running'?"),
    ],
)
def test_a_typo_gets_the_near_word_and_exit_code_2(line: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llmops-tui: unknown ")
    assert captured.err.strip().endswith(near)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "runs", "engine", "runs show", "runs list --limit 0", "runs list --limit x", "runs priority a-b-0001 high", "run", "demo --steps 0",
        "engine service", "run command python x.py", "runs show a b", "sql", "models import", "run train --dry-run --follow",
        "run command", "run train -- python", "status -- x", "--host -oProxyCommand=x status", "runs move a-b-0001 0",
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_with_a_next_step_and_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llmops-tui: ")
    assert "; " in captured.err
    assert captured.err.count("\n") == 1


def test_what_follows_two_dashes_is_the_program_of_run_command() -> None:
    args = parse(["run", "command", "--set", "priority=3", "--name", "n", "--", "python", "x.py", "--json", "-f", "--", "y"])
    assert args.argv == ["python", "x.py", "--json", "-f", "--", "y"]
    assert (args.kind, args.name, args.json, args.file) == ("command", "n", False, None)


def test_a_negative_priority_is_a_number_and_no_option() -> None:
    assert parse(["runs", "priority", "train-a-0001", "-5"]).priority == -5


def test_abbreviated_options_are_refused_so_that_scripts_survive_new_options() -> None:
    with pytest.raises(UsageError, match="unknown option"):
        parse(["run", "train", "--foll"])


def test_debug_shows_the_traceback_instead_of_one_line() -> None:
    with pytest.raises(UsageError):
        run_cli(["statsu", "--debug"])


def test_every_command_names_a_handler_that_exists() -> None:
    handlers = [parse_handler(name) for name in _handlers()]
    assert len(handlers) > 25
    assert all(callable(handler) for handler in handlers)


def parse_handler(name: str) -> object:
    module, function = name.split(":")
    return getattr(importlib.import_module(f"llmops_tui.commands.{module}"), function)


def _handlers() -> list[str]:
    names = []

    def walk(parser: object) -> None:
        for action in parser._actions:  # type: ignore[attr-defined]
            if type(action).__name__ == "_SubParsersAction":
                for child in action.choices.values():
                    walk(child)
        if handler := parser.get_default("handler"):  # type: ignore[attr-defined]
            names.append(handler)

    walk(build_parser())
    return names


def test_help_has_every_verb_and_its_examples_parse() -> None:
    for command in reference.commands():
        for line in re.findall(r"^  (llmops-tui .*?)(?:  #.*)?$", command.epilog, flags=re.MULTILINE):
            words = _words(line.split("|")[-1].split(" < ")[0].split(" > ")[0])
            assert parse(words[1:]).noun, line


def _words(line: str) -> list[str]:
    import shlex

    return shlex.split(line)


def test_the_checked_in_page_is_what_the_grammar_makes() -> None:
    assert (Path(__file__).parents[2] / "docs" / "cli.md").read_text() == reference.page(), "docs/cli.md is out of date: run `make docs`"


def test_the_man_page_names_every_command_and_no_line_is_taken_for_a_request_by_accident() -> None:
    page = man.roff()
    for command in reference.commands():
        assert command.usage.replace("-", "\\-").replace("…", "...") in page
    requests = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".SS", ".B", ".TP", ".PP", ".nf", ".fi", ".RS", ".RE"}


def test_a_completion_script_is_valid_shell_and_knows_the_nouns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["completions", "bash"]) == 0
    script = capsys.readouterr().out
    assert "datasets" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_host_is_cut_out_before_the_command_goes_through_ssh() -> None:
    assert without_host(["--host", "box", "runs", "--host=b", "list", "--json"]) == ["runs", "list", "--json"]
    assert without_host(["run", "--host", "box", "command", "--", "x", "--host", "y"]) == ["run", "command", "--", "x", "--host", "y"]


def test_a_command_on_another_box_is_quoted_for_its_shell_and_returns_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 4\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run_cli(["--host", "box", "sql", "SELECT 1; x"]) == 4
    *_, mark, box, command = capfd.readouterr().out.splitlines()
    assert (mark, box) == ("--", "box")
    assert command.endswith(" llmops-tui sql 'SELECT 1; x'")


def test_without_ssh_the_error_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_cli(["--host", "box", "status"]) == 1
    assert "ssh" in capsys.readouterr().err
