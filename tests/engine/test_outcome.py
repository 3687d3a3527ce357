"""What a job says at its end is told with the run: by the API, by the command line, and in the facts of its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.screens.facts import fact_rows
from tests.engine.test_commands import Shell

SAYS = """
import json, os, time
kept = {"kept": "gained 0.4 on the held-out loss", "before": {"loss": 2.5, "loss_interval": [2.4, 2.6]}}
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "a") as file:
    file.write(json.dumps({"t": time.time(), "type": "end", "status": "succeeded", "summary": kept, "error": ""}) + "\\n")
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "home")
    shell("engine", "start")
    yield shell
    shell("engine", "stop")


def test_what_a_run_said_at_its_end_is_shown_with_it_and_a_run_that_said_nothing_shows_none(shell: Shell) -> None:
    said, silent = shell.python(SAYS), shell.python("print('done')")
    for run in (said, silent):
        shell.wait(run, "succeeded")
    detail = shell.json("runs", "show", said)
    assert detail["outcome"]["kept"] == "gained 0.4 on the held-out loss"
    lines = shell("runs", "show", said).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[lines.index("outcome") + 2 :]][:2] == [
        "gained 0.4 on the held-out loss", "2.5 (95 % interval 2.4 to 2.6)",
    ]  # fmt: skip
    shown = {cells[0][0]: cells[1][0] for row in fact_rows(detail, None, "EUR") if len(cells := row.cells) > 1}
    assert shown["loss before"] == "2.5 (95 % interval 2.4 to 2.6)"
    assert shell.json("runs", "show", silent)["outcome"] == {}
    assert "outcome" not in shell("runs", "show", silent)
