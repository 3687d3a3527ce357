"""`runs export --to` against a real engine, as a user's shell meets it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from tests.engine.test_commands import REPORT, Shell
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
