"""What `doctor` finds, each check against a box made for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.commands import doctor_checks as checks
from llmops_tui.paths import Home


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, False),
        ({"logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, False),
        ({"logind.conf": "[Login]\nKillUserProcesses = yes\n"}, True),
        ({"logind.conf": "KillUserProcesses=yes\n", "logind.conf.d/10.conf": "KillUserProcesses=no\n"}, False),
        ({"logind.conf.d/10.conf": "KillUserProcesses=no\n", "logind.conf.d/20.conf": "KillUserProcesses=1\n"}, True),
    ],
)
def test_the_last_assignment_of_logind_wins(tmp_path: Path, files: dict[str, str], kills: bool) -> None:
    (tmp_path / "logind.conf.d").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert checks.kills_user_processes(str(tmp_path)) is kills


def test_jobs_that_logout_would_end_are_a_failure_with_its_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logind.conf").write_text("KillUserProcesses=yes\n")
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    (check,) = checks.logout(str(tmp_path / "linger"), str(tmp_path), str(tmp_path))
    assert check.state == "failed"
    assert "loginctl enable-linger" in check.fix


def test_without_systemd_nothing_ends_the_jobs(tmp_path: Path) -> None:
    (check,) = checks.logout(str(tmp_path), str(tmp_path / "none"), str(tmp_path))
    assert check.state == "ok"


def test_a_state_directory_on_a_network_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_file_system", lambda path: "nfs4")
    states = {check.name: check.state for check in checks.state_directory(Client(Home(tmp_path)))}
    assert states["state directory"] == "warning"


def test_a_state_directory_that_is_a_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = list(checks.state_directory(Client(Home(tmp_path / "file" / "home"))))
    assert [check.state for check in found] == ["failed"]


def test_a_full_disk_is_a_failure_with_its_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    disk = [check for check in checks.state_directory(Client(Home(tmp_path))) if check.name == "disk"]
    assert [check.state for check in disk] == ["failed"]
    assert "runs rm" in disk[0].fix


def test_a_file_in_the_place_of_the_socket_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    home = Home(tmp_path, explicit=True)
    home.socket.parent.mkdir(parents=True)
    home.socket.write_text("")
    assert checks.engine(Client(home)).state == "failed"


def test_no_engine_is_no_failure_and_is_not_started(tmp_path: Path) -> None:
    assert checks.engine(Client(Home(tmp_path, explicit=True))).state == "ok"
    assert not (tmp_path / "engine.lock").exists()


def test_the_variables_that_reach_hubs_and_gpus_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/somewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = list(checks.environment())
    assert "HF_HOME=/somewhere" in found[0].found
    assert found[1].state == "warning"


def test_a_missing_training_package_is_a_warning_and_a_missing_core_one_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_version", lambda package: None if package in ("torch", "duckdb") else "1")
    states = {check.name: check.state for check in checks.packages()}
    assert states == {"packages": "failed", "training packages": "warning"}


def test_a_damaged_database_is_a_failure_with_its_repair(tmp_path: Path) -> None:
    client = Client(Home(tmp_path))
    assert list(checks.database(client)) == []
    client.home.database.write_bytes(b"not a database at all")
    (check,) = checks.database(client)
    assert check.state == "failed"
    assert "doctor --rebuild" in check.fix
    client.home.database.write_bytes(b"12345678DUCK and so on")
    assert [check.state for check in checks.database(client)] == ["ok"]


def test_a_directory_in_the_databases_place_is_a_failure_with_its_repair(tmp_path: Path) -> None:
    client = Client(Home(tmp_path))
    client.home.database.mkdir()
    (check,) = checks.database(client)
    assert (check.state, check.fix.split(";")[0]) == ("failed", "move it away")
