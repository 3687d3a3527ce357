"""`runs list --filter …`, tag, note, baseline, compare and diff, as a user's shell meets them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest

from tests.engine.test_commands import REPORT, Shell
from tests.running_engine import kill_engine, make_home
from tests.waiting import wait_for

ONE, TWO = "command-one-0001", "command-two-0002"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = make_home(tmp_path_factory.mktemp("comparing"))
    shell = Shell(home.root)
    try:
        shell.python(REPORT, "--name", "one", "--set", "env.LR=1e-3", "--set", "env.API_TOKEN=secret")
        shell.python(REPORT, "--name", "two", "--set", "env.LR=2e-3")
        wait_for(lambda: shell.json("runs", "list", "--filter", "state:succeeded metric.train/loss:1.6")["total"] == 2, what="both runs")
        yield shell
    finally:
        kill_engine(home)


def test_runs_are_listed_by_a_filter_with_columns_in_an_order(shell: Shell) -> None:
    lines = shell("runs", "list", "--sort", "cfg.LR", "--column", "cfg.LR", "--column", "metric.train/loss").splitlines()
    assert lines[0].split()[:4] == ["RUN", "STATE", "cfg.LR", "metric.train/loss"]
    assert [line.split()[:4] for line in lines[1:]] == [[ONE, "succeeded", "0.001", "1.6"], [TWO, "succeeded", "0.002", "1.6"]]
    assert [run["id"] for run in shell.json("runs", "list", "--sort", "cfg.LR", "--reverse")["runs"]] == [TWO, ONE]
    assert [run["id"] for run in shell.json("runs", "list", "--reverse")["runs"]] == [ONE, TWO]
    assert [run["id"] for run in shell.json("runs", "list", "--filter=-name:one")["runs"]] == [TWO]
    assert shell("runs", "list", "--filter", "cfg.LR>1") == ""


def test_the_wrong_character_of_a_filter_is_pointed_at(shell: Shell) -> None:
    done = shell.full("runs", "list", "--filter", "名 state:runing")
    assert (done.returncode, done.stdout) == (2, "")
    text, caret, error = done.stderr.splitlines()
    assert (text, caret) == ("  名 state:runing", " " * 11 + "^")  # the first character is two columns wide
    assert error == "llmops-tui: filter: there is no state 'runing' (character 9); did you mean running?"
    assert "no sort 'loss'" in shell.error("runs", "list", "--sort", "loss", code=2)


def test_tags_are_added_and_taken_away(shell: Shell) -> None:
    assert shell("runs", "tag", ONE, "+good", "cheap", "-nothing") == f"{ONE}: good, cheap\n"
    assert shell("runs", "tag", ONE, "-cheap", "+good", "+two words") == f"{ONE}: good, two words\n"
    assert shell("runs", "tag", ONE) == "good\ntwo words\n"
    assert shell.json("runs", "tag", ONE) == ["good", "two words"]
    assert "no tag after the sign" in shell.error("runs", "tag", ONE, "+", code=2)
    assert "no run" in shell.error("runs", "tag", "train-x-0009", "+a", code=4)


def test_a_note_is_written_read_and_removed(shell: Shell) -> None:
    assert shell("runs", "note", TWO, "-", stdin="two\nlines\n") == f"{TWO}: noted\n"
    assert shell("runs", "note", TWO) == "two\nlines\n"
    assert "note       two lines" in shell("runs", "show", TWO)
    assert shell("runs", "note", TWO, "") == f"{TWO}: no note\n"
    assert shell("runs", "note", TWO) == ""


def test_baselines_are_pinned_each_for_itself(shell: Shell) -> None:
    done = shell.full("runs", "baseline", ONE, "train-x-0009", TWO)
    assert (done.returncode, done.stdout) == (4, f"{ONE}: a baseline\n{TWO}: a baseline\n")
    assert shell.json("runs", "list", "--filter", "baseline:yes")["total"] == 2
    assert shell.json("runs", "baseline", "--off", TWO)[0]["baseline"] is False


def test_runs_are_compared_in_every_format(shell: Shell) -> None:
    table = shell("runs", "diff", ONE, TWO)
    assert [line.split() for line in table.splitlines() if line.startswith("env.LR")] == [["env.LR", "0.001", "0.002"]]
    assert "resources.gpus" not in table
    assert "resources.gpus" in shell("runs", "compare", ONE, TWO, "--all")
    assert "secret" not in table
    document = shell("runs", "diff", ONE, TWO, "--format", "markdown")
    assert document.startswith(f"## {ONE} and {TWO}\n")
    assert "| `train/loss` | 1.6 | 1.6 |" in document
    rows = list(csv.DictReader(io.StringIO(shell("runs", "compare", TWO, ONE, "--format", "csv"))))
    assert {row["key"]: (row[ONE], row[TWO]) for row in rows if row["section"] == "metrics"}["train/loss max"] == ("2.0", "2.0")
    assert shell.json("runs", "compare", ONE, TWO) == shell.json("runs", "diff", ONE, TWO, "--format", "json")
    assert "2 to 16" in shell.error("runs", "compare", ONE, code=2)
    assert "no run" in shell.error("runs", "compare", ONE, "train-x-0009", code=4)
