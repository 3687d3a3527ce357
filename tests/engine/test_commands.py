"""Every command against a real engine, as a user's shell meets it: stdout, stderr, exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.catalog_files import write_adapter, write_model
from tests.waiting import wait_for

REPORT = """
import json, os, time
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "a") as file:
    for step in range(5):
        values = {"train/loss": 2.0 - step / 10, "odd/value": float("nan") if step == 2 else step}
        print(json.dumps({"t": time.time(), "type": "metric", "step": step, "values": values}).replace("NaN", '"NaN"'), file=file)
print("first line")
print("last line")
"""
FOREVER = "import time\nprint('here', flush=True)\nwhile True: time.sleep(0.1)"


class Shell:
    """Runs `llmops-tui --home HOME …` without a terminal."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "LLMOPS_HOME": str(home)}
        self.environment.pop("XDG_RUNTIME_DIR", None)

    def __call__(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """Run to the end, insist on the exit code, return stdout."""
        done = self.full(*words, stdin=stdin)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout

    def full(self, *words: str, stdin: str = "", seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, env=self.environment, timeout=seconds, check=False
        )  # fmt: skip

    def error(self, *words: str, code: int, stdin: str = "") -> str:
        """Run what has to fail; its one line."""
        done = self.full(*words, stdin=stdin)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert done.stdout == ""
        assert done.stderr.startswith("llmops-tui: "), done.stderr
        assert done.stderr.count("\n") == 1
        return done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "llmops_tui", *words]

    def python(self, code: str, *options: str) -> str:
        """Submit a Python program, return the run's id."""
        return self("run", "command", *options, "--", sys.executable, "-c", code).strip()

    def state(self, run: str) -> str:
        return str(self.json("runs", "show", run)["state"])

    def wait(self, run: str, *states: str) -> None:
        wait_for(lambda: self.state(run) in states, 30, f"{run} in {states}")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("home"))
    shell("engine", "start")
    try:
        yield shell
    finally:
        for run in shell.json("runs", "list", "--state", "running", "--state", "queued", "--state", "blocked")["runs"]:
            shell("runs", "stop", run["id"], "--now")
        wait_for(lambda: not shell.json("status")["running"], 30)
        shell("engine", "stop")


@pytest.fixture(scope="module")
def ended(shell: Shell) -> str:
    """A run that has told metrics and succeeded."""
    run = shell.python(REPORT, "--name", "report")
    shell.wait(run, "succeeded")
    return run


def test_status_is_one_frame_for_people_and_one_object_for_programs(shell: Shell) -> None:
    assert "slots free" in shell("status")
    assert set(shell.json("status")) == {"engine", "host", "gpus", "running", "waiting", "recent", "counts", "currency", "serving"}


def test_what_a_kind_takes_is_listed_without_starting_anything(shell: Shell) -> None:
    rows = shell("run", "train", "--fields").splitlines()
    assert next(row for row in rows if row.startswith("model ")).split("  ")[-1].strip().startswith("A model or adapter: a directory")
    assert "a number above 0, at most 1" in next(row for row in rows if row.startswith("optim.learning_rate "))
    assert {field["key"] for field in shell.json("run", "command", "--fields")["fields"]} >= {"argv", "cwd", "env"}


def test_no_command_and_no_terminal_prints_the_frame(shell: Shell) -> None:
    assert "slots free" in shell()


def test_status_json_costs_less_than_three_tenths_of_a_cpu_second(shell: Shell) -> None:
    shell("status", "--json")  # byte code is compiled by now
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        shell("status", "--json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3 <= 0.3


def test_status_json_imports_none_of_the_heavy_packages(shell: Shell) -> None:
    code = (
        "import sys\nfrom llmops_tui.cli import run_cli\nassert run_cli(['status', '--json']) == 0\n"
        "heavy = {'pydantic', 'textual', 'rich', 'yaml', 'numpy', 'duckdb', 'torch', 'asyncio', 'fastapi'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=shell.environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_gpus_and_engine_status_answer(shell: Shell) -> None:
    assert isinstance(shell.json("gpus"), list)
    assert shell("gpus")
    assert shell.json("engine", "status")["home"] == str(shell.home)
    assert "pid" in shell("engine", "start")


def test_run_prints_the_id_alone_and_the_run_is_listed_and_shown(shell: Shell, ended: str) -> None:
    assert ended.startswith("command-report-")
    assert ended in shell("runs", "list", "--kind", "command")
    page = shell.json("runs", "list", "--state", "succeeded", "--limit", "1")
    assert page["total"] >= len(page["runs"]) == 1
    assert shell.json("runs", "show", ended)["spec"]["argv"][0] == sys.executable
    assert "journal" in shell("runs", "show", ended)


def test_logs_are_the_bytes_the_run_wrote_and_tail_counts_lines(shell: Shell, ended: str) -> None:
    assert shell("runs", "logs", ended) == "first line\nlast line\n"
    assert shell("runs", "logs", ended, "--tail", "1") == "last line\n"
    assert shell("runs", "logs", ended, "--tail", "99") == "first line\nlast line\n"
    assert shell("runs", "logs", ended, "--tail", "0") == ""
    assert shell("runs", "logs", ended, "--json") == '{"line":"first line"}\n{"line":"last line"}\n'


def test_metrics_shows_last_values_and_curves(shell: Shell, ended: str) -> None:
    assert shell.json("runs", "metrics", ended)["train/loss"] == 1.6
    curve = shell.json("runs", "metrics", ended, "train/loss", "--points", "10")[0]
    assert curve["total_points"] == 5
    assert "train/loss" in shell("runs", "metrics", ended, "train/loss")
    assert "no metric" in shell.error("runs", "metrics", ended, "train/los", code=4)


def test_export_has_every_point_and_keeps_nan(shell: Shell, ended: str, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(shell("runs", "export", ended))))
    assert len(rows) == 10
    assert [row["value"] for row in rows if row["metric"] == "odd/value"][2] == "nan"
    points = [json.loads(line) for line in shell("runs", "export", ended, "--format", "json", "--metric", "odd/value").splitlines()]
    assert [point["value"] for point in points] == [0, 1, "NaN", 3, 4]
    target = tmp_path / "points.csv"
    assert shell("runs", "export", ended, "-o", str(target)) == ""
    assert target.read_text().count("\n") == 11
    assert os.listdir(tmp_path) == ["points.csv"]
    shell.error("runs", "export", ended, "-o", str(tmp_path / "none" / "x.csv"), code=1)


def test_watch_ends_with_the_runs_exit_code_and_follow_does_too(shell: Shell, ended: str) -> None:
    assert f"{ended} succeeded" in shell("runs", "watch", ended)
    failing = shell.full("run", "command", "--follow", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert failing.returncode == 1
    assert "failed" in failing.stdout
    stream = shell("run", "command", "--follow", "--json", "--", sys.executable, "-V").splitlines()
    submitted, *_, last = (json.loads(line) for line in stream)
    assert submitted == {"type": "submitted", "run": last["run"]}
    assert last["state"] == "succeeded"


def test_watch_as_json_is_every_event_and_the_final_state(shell: Shell, ended: str) -> None:
    lines = [json.loads(line) for line in shell("runs", "watch", ended, "--json").splitlines()]
    assert [line["step"] for line in lines if line["type"] == "metric"] == [0, 1, 2, 3, 4]
    assert lines[-1]["state"] == "succeeded"


def test_a_waiting_run_is_prioritised_moved_and_stopped(shell: Shell) -> None:
    blocker = shell.python(FOREVER, "--name", "blocker", "--set", "resources.cpu_slots=1")
    slots = shell.json("status")["host"]["cpu_slots"]
    wanted = f"resources.cpu_slots={slots}"
    first, second = (shell.python("", "--name", name, "--set", wanted) for name in ("first", "second"))
    shell.wait(blocker, "running")
    assert second in shell("runs", "priority", second, "7")
    assert shell.json("runs", "show", second)["priority"] == 7
    shell("runs", "priority", second, "0")
    shell("runs", "move", second, "1")
    order = [run["id"] for run in sorted(shell.json("status")["waiting"], key=lambda run: run["queue_position"])]
    assert order.index(second) < order.index(first)
    shell("runs", "stop", first, second)
    assert shell.state(first) == shell.state(second) == "cancelled"
    assert shell.full("runs", "rm", blocker, "--yes").returncode == 1
    shell("runs", "stop", blocker)
    shell.wait(blocker, "cancelled")
    assert shell.full("runs", "watch", blocker).returncode == 130


def test_a_run_is_retried_and_removed(shell: Shell) -> None:
    run = shell.python("raise SystemExit(3)", "--name", "flaky")
    shell.wait(run, "failed")
    shell("runs", "retry", run)
    wait_for(lambda: shell.json("runs", "show", run)["attempt"] == 2 and shell.state(run) == "failed", 30)
    assert "--yes" in shell.error("runs", "rm", run, code=2)
    assert shell.json("runs", "rm", run, "--yes")
    shell.error("runs", "show", run, code=4)


def test_ctrl_c_leaves_the_run_alone_and_returns_130(shell: Shell) -> None:
    run = shell.python(FOREVER, "--name", "kept")
    shell.wait(run, "running")
    watcher = subprocess.Popen(
        shell.command("runs", "watch", run), env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    assert watcher.stderr is not None
    watcher.stderr.readline()  # it has begun
    watcher.send_signal(signal.SIGINT)
    _, error = watcher.communicate(timeout=20)
    assert watcher.returncode == 130
    assert "goes on" in error
    assert "Traceback" not in error
    assert shell.state(run) == "running"
    shell("runs", "stop", run)


def test_a_reader_that_closes_the_pipe_is_no_error(shell: Shell, ended: str) -> None:
    script = f"set -o pipefail; {sys.executable} -m llmops_tui sql 'SELECT * FROM range(100000)' --limit 100000 | head -1"
    done = subprocess.run(["bash", "-c", script], env=shell.environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wish_is_checked_and_not_started(shell: Shell, tmp_path: Path) -> None:
    before = shell.json("runs", "list")["total"]
    assert "nothing was started" in shell("run", "command", "--dry-run", "--", sys.executable, "-V")
    spec = tmp_path / "spec.yaml"
    spec.write_text("argv: [no-such-program-anywhere]\nnme: x\n")
    assert "nme: unknown key" in shell.error("run", "command", "-f", str(spec), code=2)
    assert "line 2" in shell.error("run", "command", "-f", "-", stdin="a: 1\nb: [", code=2)
    for setting, code in (("after_ok=[nope-x-0001]", 4), ("resources.gpus=99", 5)):
        shell.error("run", "command", "--dry-run", "--set", setting, "--", sys.executable, "-V", code=code)
    assert shell.json("runs", "list")["total"] == before


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["runs", "show", "train-none-0001"], 4, "train-none-0001"),
        (["runs", "logs", "train-none-0001"], 4, "train-none-0001"),
        (["runs", "watch", "train-none-0001"], 4, "train-none-0001"),
        (["runs", "watch", "train-none-0001", "--json"], 4, "train-none-0001"),
        (["runs", "export", "train-none-0001"], 4, "train-none-0001"),
        (["runs", "show", "../../etc/passwd"], 4, "passwd"),
        (["models", "show", "none"], 4, "none"),
        (["models", "lineage", "none"], 4, "none"),
        (["datasets", "show", "none"], 4, "none"),
        (["models", "import", "/none"], 4, "/none"),
        (["datasets", "import", "/none.jsonl"], 4, "/none.jsonl"),
        (["sql", "DROP TABLE runs"], 2, "SELECT"),
        (["sql", "SELECT * FROM nothing"], 2, "nothing"),
        (["sql", " "], 2, "empty"),
        (["run", "train", "--set", "model=/none", "--set", "dataset.path=/none.jsonl"], 4, "/none"),
        (["run", "train", "--set", "modle=x"], 2, "modle"),
        (["run", "train"], 2, "required"),
        (["run", "command", "--set", "priority=high", "--", "true"], 2, "priority"),
        (["run", "command", "--name", "A B", "--", "true"], 2, "name"),
        (["runs", "priority", "train-none-0001", "1000"], 2, "should be less than or equal to 100; see `llmops-tui runs priority --help`"),
    ],
)
def test_input_that_cannot_be_served_is_one_line_with_its_exit_code(shell: Shell, words: list[str], code: int, says: str) -> None:
    assert says in shell.error(*words, code=code)


def test_datasets_are_imported_listed_and_shown_and_a_broken_row_is_named(shell: Shell, tmp_path: Path) -> None:
    rows = tmp_path / "My Rows.jsonl"
    rows.write_text('{"question": "q", "answer": "a"}\n' * 3)
    assert shell.json("datasets", "import", str(rows), "--licence", "CC0")["rows"] == 3
    assert "my-rows@v1" in shell("datasets", "list")
    assert "CC0" in shell("datasets", "show", "my-rows")
    rows.write_text('{"question": "q", "answer": "a"}\n{"question": 1\n')
    assert "row 2" in shell.error("datasets", "import", str(rows), "--name", "broken", code=2)
    rows.write_text('{"question": 1\n{"question": "q", "answer": "a"}\n[]\n')
    assert f"{rows}: row 1: " in shell.error("datasets", "import", str(rows), "--name", "broken", code=2)


def test_a_model_directory_without_weights_is_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    assert "weights" in shell.error("models", "import", str(tmp_path), "--name", "empty", code=2)
    assert isinstance(shell.json("models", "list"), list)


def test_a_models_lineage_is_a_tree_of_lines_or_one_object(shell: Shell, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    assert shell("models", "import", str(write_adapter(tmp_path / "tuned", str(base))), "--name", "tuned")
    assert shell("models", "lineage", "tuned").splitlines()[0] == "tuned@v1  adapter, import"
    assert f"    base: {base}  full, found" in shell("models", "lineage", str(tmp_path / "tuned"))
    assert [parent["path"] for parent in shell.json("models", "lineage", "tuned@v1")["parents"]] == [str(base)]


def test_sql_is_a_table_or_one_object_and_takes_stdin(shell: Shell, ended: str) -> None:
    query = f"SELECT metric, count(*) AS n FROM metrics_long WHERE run = '{ended}' GROUP BY metric ORDER BY metric"
    assert "train/loss" in shell("sql", query)
    assert shell.json("sql", query)["rows"] == [["odd/value", 5], ["train/loss", 5]]
    assert shell("sql", "-", stdin="SELECT 42 AS answer").split() == ["answer", "42"]


def test_doctor_sees_the_engine(shell: Shell) -> None:
    checks = {check["name"]: check for check in json.loads(shell.full("doctor", "--json").stdout)}
    assert checks["engine"]["found"].startswith("runs")
    assert "stop it first" in shell.error("doctor", "--rebuild", code=1)


def test_export_to_a_pipe_or_device_writes_into_it_and_leaves_it_there(shell: Shell, ended: str, tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    shell("runs", "export", ended, "-o", str(link))
    assert shell("runs", "export", ended, "-o", "-") == shell("runs", "export", ended), "a dash is stdout, not a file of that name"
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()
    shell.error("runs", "export", ended, "-o", str(tmp_path), code=1)
    assert tmp_path.is_dir()
