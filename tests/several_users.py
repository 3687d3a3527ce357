"""Real users of this box, made for the tests and taken away again, and programs run as them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import llmops_tui

_ROOT_OF_REPOSITORY = Path(llmops_tui.__file__).resolve().parent.parent
_IMPORTS = "import duckdb, pydantic, uvicorn, psutil, llmops_tui"
_NOBODY = 65534


@dataclass(frozen=True)
class User:
    """One user of the box, and how a program is run as that user."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    python: str
    environment: Mapping[str, str] = field(hash=False)

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in the user's home."""
        return subprocess.run(
            argv, env={**self.environment, **environment}, cwd=self.environment["HOME"], user=self.uid, group=self.gid,
            extra_groups=self.groups, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def cli(self, home: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `llmops-tui --home HOME …`."""
        return self.run(self.python, "-P", "-m", "llmops_tui", "--home", str(home), *argv, **environment)

    def ask(self, home: Path, *argv: str) -> Any:
        """What the command line answers with --json; it must succeed."""
        done = self.cli(home, *argv, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def submit(self, home: Path, *argv: str, name: str = "x", settings: Mapping[str, object] | None = None) -> str:
        """Queue a program; the run's id."""
        options = [word for key, value in (settings or {}).items() for word in ("--set", f"{key}={value}")]
        done = self.cli(home, "run", "command", "--name", name, *options, "--", *argv)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, home: Path, *argv: str, **environment: str) -> str:
        """The one line it is refused with."""
        done = self.cli(home, *argv, **environment)
        assert done.returncode != 0, f"was not refused: {done.stdout}"
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr


@dataclass(frozen=True)
class Users:
    """Ada and Bob are in `group`, Eve is not."""

    ada: User
    bob: User
    eve: User
    group: str


@contextlib.contextmanager
def real_users(mark: str) -> Iterator[Users]:
    """Three users and a group whose names carry `mark`; skips with the reason where they cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can make users and become them")
    if shutil.which("useradd") is None or shutil.which("groupadd") is None:
        pytest.skip("useradd is not installed (Debian: apt install passwd)")
    python, path = _python_for_all()
    group = f"llt{mark}"
    names = {who: f"llt{mark}-{who}" for who in ("ada", "bob", "eve")}
    homes = Path(tempfile.mkdtemp(prefix="llmops-users-"))
    homes.chmod(0o755)
    try:
        _tool("groupadd", group)
        for who, name in names.items():
            _tool("useradd", "-m", "-d", str(homes / who), "-s", "/bin/sh", *(() if who == "eve" else ("-G", group)), name)
        made = {who: _user(name, python, path) for who, name in names.items()}
        yield Users(made["ada"], made["bob"], made["eve"], group)
    finally:
        _end_processes_of(names.values())
        for name in names.values():
            subprocess.run(["userdel", "-f", name], capture_output=True, check=False)
        subprocess.run(["groupdel", group], capture_output=True, check=False)
        shutil.rmtree(homes, ignore_errors=True)


@contextlib.contextmanager
def place_for_all() -> Iterator[Path]:
    """A directory that everybody may walk through; pytest's own are closed."""
    place = Path(tempfile.mkdtemp(prefix="llmops-people-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _user(name: str, python: str, path: str) -> User:
    import pwd

    entry = pwd.getpwnam(name)
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": entry.pw_dir, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8", "PYTHONPATH": path,
    }  # fmt: skip
    return User(name, entry.pw_uid, entry.pw_gid, groups, python, environment)


def _python_for_all() -> tuple[str, str]:
    """An interpreter of this version that other users may run, and where it finds the program and what that needs."""
    path = os.pathsep.join([str(_ROOT_OF_REPOSITORY), sysconfig.get_path("platlib"), sysconfig.get_path("purelib")])
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [python, "-P", "-c", _IMPORTS], env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}, cwd="/", user=_NOBODY, group=_NOBODY,
                extra_groups=[], capture_output=True, check=False,
            )  # fmt: skip
            if tried.returncode == 0:
                return python, path
    pytest.skip(f"no {version} with the project's packages that other users may run: {sys.executable} and the checkout are closed to them")


def _end_processes_of(names: Iterable[str]) -> None:
    """Nothing of these users may be left when they are taken away: the next user of the box gets their number."""
    import pwd

    uids = set()
    for name in names:
        with contextlib.suppress(KeyError):
            uids.add(pwd.getpwnam(name).pw_uid)
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid in uids:
                os.kill(int(pid), signal.SIGKILL)


def _tool(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(argv)}: {done.stderr.strip()}")
