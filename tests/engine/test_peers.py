"""Another user's connection is refused twice: by the directory, and by the engine itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running_engine import running_engine

_NOBODY = 65534
_ASK = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
try:
    s.connect(sys.argv[1])
except PermissionError:
    print("the directory refused"); sys.exit()
s.sendall(b"GET /v1/status HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
answer = b""
while part := s.recv(65536):
    answer += part
sys.stdout.buffer.write(answer)
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def _ask_as_nobody(path: Path) -> str:
    return subprocess.run(
        [sys.executable, "-I", "-c", _ASK, str(path)], capture_output=True, text=True, timeout=30, check=True, cwd="/"
    ).stdout


def _open_up(path: Path) -> None:
    """Let everybody reach the socket, as a careless administrator could."""
    path.chmod(0o666)
    for directory in path.parents:
        if directory == Path("/"):
            break
        directory.chmod(directory.stat().st_mode | 0o755)


def test_another_user_cannot_reach_the_socket_and_is_refused_where_he_can(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        assert _ask_as_nobody(client.home.socket) == "the directory refused\n"
        _open_up(client.home.socket)
        head, _, body = _ask_as_nobody(client.home.socket).partition("\n\n")
        assert head.startswith("HTTP/1.1 403 ")
        error = json.loads(body)["error"]
        assert error["kind"] == "permission_denied"
        assert f"uid {_NOBODY}" in error["message"]
        assert client.answers()
        assert "refused a connection of uid 65534" in client.home.engine_log.read_text()


def test_a_client_refuses_to_talk_to_another_users_engine(tmp_path: Path) -> None:
    # The engine of uid 12345 listens; a client of uid 65534 must not speak to it. Root may, so the client drops its rights too.
    server = """
import os, socket, sys, time
os.setuid(12345)
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); os.chmod(sys.argv[1], 0o666)
print("listening", flush=True); sys.stdin.read()
"""
    client = """
import os, sys
from pathlib import Path
from llmops_tui.client import Client
from llmops_tui.errors import PermissionDeniedError
from llmops_tui.paths import Home
os.setuid(65534)
try:
    Client(Home(Path(sys.argv[1]), explicit=True)).status()
except PermissionDeniedError as error:
    print(error)
"""
    home = tmp_path / "h"
    (home / "run").mkdir(parents=True)
    for directory in [home / "run", *(home / "run").parents]:
        if directory != Path("/") and directory.stat().st_uid == 0 and directory != Path("/tmp"):
            directory.chmod(0o777)
    path = home / "run" / "engine.sock"
    if len(str(path)) > 107:
        pytest.skip("this test directory's path is too long for a socket in it")
    with subprocess.Popen([sys.executable, "-c", server, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == "listening\n"
        said = subprocess.run([sys.executable, "-c", client, str(home)], capture_output=True, text=True, timeout=30, check=True).stdout
        listener.kill()
    assert "belongs to another user (uid 12345)" in said
