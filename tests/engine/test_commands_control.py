"""`runs pause|resume|evaluate|sample|set|reproduce` against a real engine, as a user's shell meets them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llmops_tui.specs.control import read_settings
from tests.catalog_files import ROWS, write_model, write_rows
from tests.engine.test_commands import FOREVER, Shell
from tests.running_engine import kill_engine, make_home
from tests.waiting import wait_for


def test_a_program_is_held_resumed_refused_what_it_cannot_do_and_reproduced_with_the_audit_telling_who(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in no git tree: nothing differs
    home = make_home(tmp_path / "home")
    shell = Shell(home.root)
    try:
        run = shell("run", "command", "--name", "talk", "--", sys.executable, "-c", FOREVER).strip()
        wait_for(lambda: shell("runs", "logs", run) == "here\n", 30)
        assert "keeps its memory" in shell("runs", "pause", run)
        shown = json.loads(shell("runs", "show", run, "--json"))
        assert (shown["state"], shown["journal"][-1]["data"]) == ("running", {"command": "pause", "arguments": {"mode": "hold"}})
        assert "use --hold" in shell.error("runs", "pause", run, "--free", code=1)
        assert shell("runs", "resume", run).strip() == f"{run} running"
        assert "nothing to resume" in shell.error("runs", "resume", run, code=1)
        assert shell("runs", "set", run, "evaluate_every=none").strip() == f"{run} running"
        assert "KEY=VALUE" in shell.error("runs", "set", run, "beta=1", code=2)
        assert "0 to 1000" in shell.error("runs", "set", run, "learning_rate_scale=-1", code=2)

        wait_for(lambda: json.loads(shell("runs", "show", run, "--json"))["capsule"] is not None, 20)
        told = json.loads(shell("runs", "reproduce", run, "--dry-run", "--json"))
        assert (told["of"], told["run"]) == (run, None)
        assert told["differences"] == []
        again = shell("runs", "reproduce", run).strip()
        assert again == "command-talk-0002"
        assert json.loads((home.runs / again / "spec.json").read_text())["prepared"]["reproduces"] == {
            "run": run, "differences": told["differences"],
        }  # fmt: skip
        # One that learns from rows that are not what they were: its capsule is all that this takes.
        model, rows = write_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl", ROWS)
        learnt = shell("run", "train", "--set", f"model={model}", "--set", f"dataset.path={rows}").strip()
        record = json.loads((home.runs / learnt / "spec.json").read_text())
        attempt = home.runs / learnt / "attempt-1"
        attempt.mkdir()
        (attempt / "capsule.json").write_text(json.dumps({"prepared": record["prepared"]}))
        write_rows(rows, ROWS[:30])
        assert "data changed" in shell.error("runs", "reproduce", learnt, code=1)
        anyway = shell("runs", "reproduce", learnt, "--anyway").strip()
        assert json.loads((home.runs / anyway / "spec.json").read_text())["prepared"]["reproduces"]["differences"][0]["what"] == "data"
        rows.unlink()
        assert "no file at" in shell.error("runs", "reproduce", learnt, "--anyway", code=4)
        shell("runs", "stop", anyway, learnt, again, run, "--now")
        wait_for(lambda: (home.runs / run / "attempt-1" / "exit.json").exists(), 30)

        entries = json.loads(shell("audit", "list", "--json"))
        actions = {entry["action"]: entry["detail"] for entry in entries if entry["target"] == run and entry["outcome"] == "ok"}
        assert set(actions) == {"submit", "pause", "resume", "set", "reproduce", "stop"}
        assert actions["set"] == {"evaluate_every": None}
    finally:
        kill_engine(home)


@pytest.mark.parametrize(
    "words", [["learning_rate_scale"], ["=1"], ["x=1"], ["checkpoint_every=often"], ["evaluate_every=true"], ["learning_rate_scale=[1]"]]
)
def test_a_setting_that_cannot_be_read_is_named_before_anything_is_asked(words: list[str]) -> None:
    with pytest.raises(Exception, match=words[0].partition("=")[0] or "="):
        read_settings(words)


def test_settings_are_read_as_numbers_and_none() -> None:
    assert read_settings(["learning_rate_scale=0.5", "checkpoint_every=none", "evaluate_every=20"]) == {
        "learning_rate_scale": 0.5, "checkpoint_every": None, "evaluate_every": 20,
    }  # fmt: skip
