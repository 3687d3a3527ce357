"""Other boxes for the tests: engines on this one that are reached through a stand-in of ssh, or through a real sshd on the loopback."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import fake_ssh
from tests.running_engine import make_home
from tests.waiting import wait_for

_SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if os.path.exists("/usr/sbin/sshd") else None)


def box_environ(root: Path) -> dict[str, str]:
    """The environment of a box of its own, with llmops-tui on its PATH and an engine that knows no GPU."""
    home = make_home(root / "state")
    (root / "home").mkdir(exist_ok=True)
    programs = root / "programs"
    programs.mkdir(exist_ok=True)
    write_program(programs / "llmops-tui", f'#!/bin/sh\nexec "{sys.executable}" -m llmops_tui "$@"\n')
    return {
        "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(root / "home"), "LLMOPS_HOME": str(home.root),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }  # fmt: skip


def write_program(path: Path, text: str) -> None:
    """A file that can be run."""
    path.write_text(text)
    path.chmod(0o755)


class FakeSsh:
    """The stand-in as `ssh` in a directory for the PATH; `boxes` may be changed while it is in use."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        directory.mkdir()
        self._file = directory / "boxes.json"
        self._boxes: dict[str, Any] = {}
        shutil.copy(fake_ssh.__file__, directory / "fake_ssh.py")
        write_program(directory / "ssh", f'#!/bin/sh\nexec "{sys.executable}" "{directory}/fake_ssh.py" "$@"\n')
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        self.set()

    def set(self, **boxes: Mapping[str, Any]) -> None:
        """What is said of some boxes from now on; the others stay."""
        self._boxes.update(boxes)
        self._file.write_text(json.dumps(self._boxes))


@contextlib.contextmanager
def loopback_sshd(directory: Path, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real sshd with a configuration, keys and a port of its own; `ssh box` reaches it, with `environ` there. Skips without one."""
    if _SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's sshd and ssh: apt-get install openssh-server")
    directory.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where root's sshd locks its unprivileged half in
    shutil.copy(directory / "user.pub", directory / "authorized_keys")
    host_key = " ".join((directory / "host.pub").read_text().split()[:2])
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    settings = " ".join(f'"{name}={value}"' for name, value in environ.items())
    (directory / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nPidFile {directory}/pid\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv {settings}\n"
    )
    (directory / "ssh_config").write_text(
        f"Host box stranger keyless\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentitiesOnly yes\n"
        f"Host refused\n HostName 127.0.0.1\n Port 1\n"
        f"Host box stranger refused\n IdentityFile {directory}/user\n"
        f"Host keyless\n IdentityFile {directory}/none\n"
        f"Host stranger\n UserKnownHostsFile {directory}/nobody\n"
        f"Host *\n UserKnownHostsFile {directory}/known_hosts\n StrictHostKeyChecking ask\n"
    )
    programs = directory / "programs"
    programs.mkdir()
    write_program(programs / "ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {directory}/ssh_config "$@"\n')
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with open(directory / "sshd.log", "wb") as log:
        server = subprocess.Popen([_SSHD, "-D", "-e", "-f", str(directory / "sshd_config")], stderr=log)
    try:
        wait_for(lambda: _listens(port, server, directory), what="sshd to listen")
        yield
    finally:
        server.terminate()
        server.wait()


def _listens(port: int, server: subprocess.Popen[bytes], directory: Path) -> bool:
    assert server.poll() is None, (directory / "sshd.log").read_text()
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
