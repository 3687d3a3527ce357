"""`runs export --to` and `runs import` against a real engine, as a user's shell meets it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.engine.test_commands import REPORT, Shell
from tests.foreign_files import TENSORBOARD, WANDB, trainer_state
from tests.running_engine import running_engine


def test_a_run_leaves_for_other_tools_whole_or_not_at_all(tmp_path: Path) -> None:
    with running_engine(tmp_path / "home"):
        shell = Shell(tmp_path / "home")
        run = shell("run", "command", "--set", "resources.gpus=0", "--", sys.executable, "-c", REPORT).strip()
        shell("runs", "watch", run)
        out = tmp_path / "new" / "out"
        for tool, name in (("tensorboard", "events.out.*"), ("mlflow", "*/*/metrics/train/loss"), ("csv", "wide.csv")):
            shell("runs", "export", run, "--to", tool, str(out / tool))
            assert len(list((out / tool).glob(name))) == 1
        assert "there already" in shell.error("runs", "export", run, "--to", "csv", str(out / "csv"), code=1)
        assert "no run" in shell.error("runs", "export", "command-none-0009", "--to", "csv", str(out / "none"), code=4)
        assert "--to" in shell.error("runs", "export", run, "--to", "csv", code=2)
        assert "empty" in shell.error("runs", "export", run, "--to", "csv", "", code=2)
        assert "no export" in shell.error("runs", "export", run, "--to", "excel", str(out / "x"), code=2)
        assert "whole run" in shell.error("runs", "export", run, "--to", "csv", str(out / "x"), "-o", "x", code=2)
        assert sorted(path.name for path in out.iterdir()) == ["csv", "mlflow", "tensorboard"]
        with open(tmp_path / "x.tar.gz", "wb") as file:
            subprocess.run(shell.command("runs", "export", run, "--to", "csv", "-"), stdout=file, env=shell.environment, check=True)
        with tarfile.open(tmp_path / "x.tar.gz") as archive:
            assert {"./long.csv", "./wide.csv", "./run.json"} <= set(archive.getnames())
        assert not list((tmp_path / "home" / "cache").glob("export-*"))


def test_an_old_run_comes_in_by_its_logs_and_leaves_again_the_same(tmp_path: Path) -> None:
    old = tmp_path / "Old run"
    (old / "runs").mkdir(parents=True)
    (old / "runs" / "events.out.tfevents.1000.box.1.0").write_bytes(TENSORBOARD)
    (old / "trainer_state.json").write_bytes(trainer_state(5))
    with running_engine(tmp_path / "home") as client:
        shell = Shell(tmp_path / "home")
        run = shell("runs", "import", str(old)).strip()
        assert run == "command-old-run-0001"
        detail = client.run(run)
        assert (detail["state"], detail["tags"], detail["note"]) == ("succeeded", ["imported"], f"imported from {old}")
        (loss,) = client.series(run, ["train/loss"], 100)
        assert [(bucket[0], bucket[3], bucket[7]) for bucket in loss["buckets"]] == [
            (10 * n, pytest.approx(4 / n), 1000.0 + n) for n in range(1, 5)
        ]
        assert "no such file" in shell.error("runs", "import", str(tmp_path / "none"), code=2)
        (tmp_path / "empty").mkdir()
        assert "no TensorBoard event file" in shell.error("runs", "import", str(tmp_path / "empty"), code=1)
        for name in "ab":
            (tmp_path / "two" / name).mkdir(parents=True)
            (tmp_path / "two" / name / "run-x.wandb").write_bytes(WANDB)
        assert "the logs of 2 runs" in shell.error("runs", "import", str(tmp_path / "two"), code=1)
