"""The systemd unit is one that systemd reads as meant, and installing it says what to do next."""

from __future__ import annotations

import fcntl
import getpass
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_tui.engine.service import UNIT, install, unit_text
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.paths import Home


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LLMOPS_CONFIG", raising=False)
    return tmp_path / "config"


def value_of(text: str, key: str) -> str:
    return next(line.removeprefix(f"{key}=") for line in text.splitlines() if line.startswith(f"{key}="))


def test_stopping_the_unit_ends_the_engine_and_not_its_jobs() -> None:
    text = unit_text(Home(Path("/srv/state"), explicit=True), "/opt/venv/bin/python")
    assert value_of(text, "ExecStart") == "/opt/venv/bin/python -m llmops_tui.engine.daemon --home /srv/state"
    assert value_of(text, "KillMode") == "process"
    assert value_of(text, "OOMPolicy") == "continue"
    assert value_of(text, "Restart") == "on-failure"


def test_spaces_percent_signs_quotes_and_dollars_in_paths_survive() -> None:
    text = unit_text(Home(Path('/data/my "runs" 100%/$x'), explicit=True), "/opt/my venv/50%/bin/python")
    command = value_of(text, "ExecStart")
    assert command.startswith('"/opt/my venv/50%%/bin/python" -m llmops_tui.engine.daemon --home ')
    assert command.endswith(r'"/data/my \"runs\" 100%%/$$x"')


def test_a_configuration_named_by_the_environment_goes_into_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_CONFIG", "/etc/my llm/config.toml")
    assert value_of(unit_text(Home(Path("/srv/state"))), "Environment") == '"LLMOPS_CONFIG=/etc/my llm/config.toml"'


def test_the_user_s_own_configuration_is_read_where_no_directory_was_chosen(own_configuration: Path) -> None:
    command = value_of(unit_text(Home(Path("/srv/state"))), "ExecStart")
    assert command.endswith(f"--home /srv/state --config {own_configuration}/llmops-tui/config.toml")


def test_a_path_that_no_unit_file_can_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="line break"):
        unit_text(Home(Path("/srv/a\nExecStartPre=/bin/true")))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed; it checks the unit's syntax")
@pytest.mark.parametrize("directory", ["plain", 'with "quotes" and 100% spaces', "a$dollar;semicolon"])
def test_systemd_accepts_the_unit(tmp_path: Path, directory: str) -> None:
    path = tmp_path / UNIT
    path.write_text(unit_text(Home(tmp_path / directory)))
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True)
    assert UNIT not in checked.stderr
    assert checked.returncode == 0, checked.stderr


def marks(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "booted").mkdir(exist_ok=True)
    (tmp_path / "linger").mkdir(exist_ok=True)
    return {"booted": tmp_path / "booted", "linger": tmp_path / "linger"}


def test_installing_writes_the_unit_and_names_the_commands(tmp_path: Path, own_configuration: Path) -> None:
    home = Home(tmp_path / "state")
    messages = install(home, **marks(tmp_path))
    path = own_configuration / "systemd" / "user" / UNIT
    assert path.read_text() == unit_text(home, sys.executable)
    assert messages[0] == f"wrote {path}"
    assert any("systemctl --user enable --now llmops-tui.service" in message for message in messages)
    assert install(home, **marks(tmp_path))[0] == f"{path} is up to date"
    assert install(Home(tmp_path / "other"), **marks(tmp_path))[0] == f"replaced {path}"


def test_installing_beside_a_running_engine_says_to_stop_it_first(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    home.root.mkdir()
    with open(home.engine_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "  llmops-tui engine stop" in install(home, **marks(tmp_path))
    assert "  llmops-tui engine stop" not in install(home, **marks(tmp_path))


def test_installing_says_whether_linger_keeps_the_jobs_after_logout(tmp_path: Path) -> None:
    user = getpass.getuser()
    off = "\n".join(install(Home(tmp_path / "state"), **marks(tmp_path)))
    assert f"linger is off for {user}" in off
    assert f"loginctl enable-linger {user}" in off
    (tmp_path / "linger" / user).touch()
    on = "\n".join(install(Home(tmp_path / "state"), **marks(tmp_path)))
    assert f"linger is on for {user}" in on
    assert "enable-linger" not in on


def test_a_box_without_systemd_is_told_so_and_nothing_is_written(tmp_path: Path, own_configuration: Path) -> None:
    with pytest.raises(LlmopsError, match="systemd does not run this box") as refused:
        install(Home(tmp_path / "state"), booted=tmp_path / "absent")
    assert refused.value.exit_code == 1
    assert "engine start" in refused.value.next_step
    assert not own_configuration.exists()
