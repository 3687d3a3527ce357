"""The console on another box's engine, through a stand-in of ssh and through a real sshd: work there, a cut line, what can be wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_tui.app import LlmopsApp
from llmops_tui.cli import run_cli
from llmops_tui.client import Client
from llmops_tui.errors import ConflictError, EngineUnavailableError, LlmopsError, UsageError
from llmops_tui.paths import Home
from llmops_tui.reach import reach
from llmops_tui.screens.hosts import HostColumn, HostsScreen
from llmops_tui.ssh_command import remote_command
from llmops_tui.ssh_place import SshPlace
from llmops_tui.ssh_words import LinkError, QuestionError, RemoteError
from tests.other_boxes import FakeSsh, box_environ, loopback_sshd, write_program
from tests.running_engine import kill_engine, running_engine
from tests.tui.driving import screen_text, until, words
from tests.tui.test_many_boxes import columns_of, type_command
from tests.waiting import wait_for


class OtherBox:
    """The box that `ssh box` reaches; `client` asks its engine directly."""

    def __init__(self, environ: dict[str, str], fake: FakeSsh | None) -> None:
        self.environ = environ
        self.fake = fake
        self.home = Home(Path(environ["LLMOPS_HOME"]), explicit=True)
        self.client = Client(self.home)


@pytest.fixture(params=["stand-in", "sshd"])
def box(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherBox]:
    """A box of its own home and state directory, without an engine yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "here"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    root = tmp_path / "there"
    root.mkdir()
    environ = box_environ(root)
    made = OtherBox(environ, None)
    try:
        if request.param == "stand-in":
            made.fake = FakeSsh(tmp_path / "ssh", monkeypatch)
            made.fake.set(box={"environ": environ})
            yield made
        else:
            with loopback_sshd(tmp_path / "ssh", environ, monkeypatch):
                yield made
    finally:
        if made.client.answers():
            stop_all(made.client)
        kill_engine(made.home)


def stop_all(client: Client) -> None:
    """No run is left."""
    for run in client.status()["running"]:
        client.stop_run(run["id"])
    wait_for(lambda: not client.status()["running"], what="every run to end")


@contextlib.contextmanager
def terminal(*arguments: str) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """llmops-tui on a terminal of its own: wait to see a text there (after the one before), and press keys. It must end with the block."""
    pid, line = pty.fork()
    if pid == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "llmops_tui", *arguments],
            {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "COLUMNS": "120", "LINES": "30"},
        )
    shown = ""

    def look() -> str:
        nonlocal shown
        if select.select([line], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):  # its end is the end of what there is to see
                shown += os.read(line, 65536).decode(errors="replace")
        return shown

    def see(text: str) -> None:
        nonlocal shown
        wait_for(lambda: text in look(), 30, f"{text!r} on the terminal")
        shown = shown.partition(text)[2]

    def press(keys: str) -> None:
        for key in keys:
            os.write(line, key.encode())

    def over() -> bool:
        look()
        return os.waitpid(pid, os.WNOHANG)[0] == pid

    try:
        yield see, press
        wait_for(over, what="the console to end")
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(line)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeSsh, dict[str, str]]]:
    """The stand-in alone, for what can be wrong, and the environment of a box."""
    (tmp_path / "there").mkdir()
    environ = box_environ(tmp_path / "there")
    yield FakeSsh(tmp_path / "ssh", monkeypatch), environ
    kill_engine(Home(Path(environ["LLMOPS_HOME"])))


def sleeper(client: Client, name: str) -> str:
    """A run that goes on until it is stopped."""
    run_id = client.submit({"kind": "command", "argv": ["sleep", "600"], "name": name}, cwd="/")["id"]
    wait_for(lambda: client.run(run_id)["state"] == "running", what="the run to start")
    return run_id


async def test_work_on_another_box_over_a_line_that_is_cut(box: OtherBox) -> None:
    there = reach("box")
    try:
        await asyncio.to_thread(there.connect, False)  # starts the engine there
        run_id = await asyncio.to_thread(sleeper, box.client, "far")
        app = LlmopsApp(there.client, status_seconds=0.1, box=there)
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: run_id in words(pilot, "#runs"))
            assert "ssh box" in words(pilot, "#header")
            place = there.client.place  # type: ignore[attr-defined]  # the real client, which has one
            before = place.pid
            os.kill(before, signal.SIGKILL)
            await until(pilot, lambda: "RECONNECTING" in words(pilot, "#header") and "connection to box ended" in words(pilot, "#foot"))
            await until(pilot, lambda: "LIVE" in words(pilot, "#header"))
            assert place.pid != before
            assert app.state.selected == run_id
            await pilot.press("x", "n")
            await until(pilot, lambda: box.client.run(run_id)["state"] == "cancelled")
            await until(pilot, lambda: "cancelled" in words(pilot, "#runs"))
    finally:
        there.close()
    assert place.pid is None


async def test_host_in_the_console_goes_there_and_back_to_two_real_engines(box: OtherBox, tmp_path: Path) -> None:
    with running_engine(tmp_path / "own") as own:
        mine = await asyncio.to_thread(sleeper, own, "near")
        app = LlmopsApp(own, status_seconds=0.1)
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: mine in words(pilot, "#runs"))
            await type_command(pilot, "host box")
            await until(pilot, lambda: app.state.remote and app.state.live, seconds=30)
            assert not box.client.status()["running"]
            theirs = await asyncio.to_thread(sleeper, box.client, "far")
            await until(pilot, lambda: theirs in words(pilot, "#runs"))
            assert [run["id"] for run in app.state.runs()] == [theirs]
            assert app.client.status()["engine"]["home"] == str(box.home.root)
            await type_command(pilot, "hosts here box")
            columns = await columns_of(pilot, 2)
            await until(pilot, lambda: all(column.state.live and "1 running" in column.plain for column in columns))
            assert app.client.status()["running"][0]["id"] == theirs
            await type_command(pilot, "host")
            await until(pilot, lambda: not app.state.remote and mine in screen_text(pilot))
        stop_all(own)


async def test_an_engine_that_was_stopped_there_is_told_and_started_with_r(box: OtherBox) -> None:
    there = reach("box")
    try:
        await asyncio.to_thread(there.connect, False)
        app = LlmopsApp(there.client, status_seconds=0.1, box=there)
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: app.state.live)
            kill_engine(box.home)
            await until(pilot, lambda: "no engine runs for" in words(pilot, "#foot"), seconds=30)
            assert "RECONNECTING" in words(pilot, "#header")
            await pilot.press("r")
            await until(pilot, lambda: "LIVE" in words(pilot, "#header"), seconds=30)
    finally:
        there.close()


def test_the_sockets_of_a_connection_are_this_users_alone_and_leave_with_it(box: OtherBox) -> None:
    place = SshPlace("box")
    try:
        place.connect(start=True)
        socket = place.socket_path()
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert socket.stat().st_mode & 0o077 == 0
        assert place.directory() == box.environ["HOME"]
        assert Client(place).engine()["home"] == str(box.home.root)
        with pytest.raises(UsageError, match="on another box"):
            Client(place).home  # noqa: B018
        pid = place.pid
    finally:
        place.close()
    assert not socket.parent.exists()
    assert pid is not None
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="ssh to be gone")
    with pytest.raises(EngineUnavailableError):
        place.socket_path()


def test_a_console_that_is_killed_takes_its_ssh_with_it(box: OtherBox) -> None:
    before = set(Path(tempfile.gettempdir()).glob("llmops-tui-ssh-*"))
    program = "from llmops_tui.ssh_place import SshPlace as P; p = P('box'); p.connect(start=True); print(p.pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as console:
        assert console.stdout is not None
        pid = int(console.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        console.kill()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text(), what="ssh to be gone")
    (left,) = set(Path(tempfile.gettempdir()).glob("llmops-tui-ssh-*")) - before
    os.utime(left, (0, 0))
    place = SshPlace("box")
    try:
        place.connect()
        assert not left.exists(), "the next connection tidies up"
        os.utime(place.socket_path().parent, (0, 0))
        again = SshPlace("box")
        again.connect()
        again.close()
        assert place.socket_path().exists(), "what is in use stays"
    finally:
        place.close()


def test_a_state_directory_there_can_be_named(box: OtherBox, tmp_path: Path) -> None:
    other = box_environ(tmp_path)["LLMOPS_HOME"]
    place = SshPlace("box", other)
    try:
        place.connect(start=True)
        assert Client(place).engine()["home"] == other
    finally:
        place.close()
        kill_engine(Home(Path(other)))


def test_a_command_with_host_still_runs_there(box: OtherBox, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["--host", "box", "engine", "start", "--json"]) == 0
    assert str(box.home.root) in capfd.readouterr().out
    assert run_cli(["--host", "box", "runs", "show", "no-such-0001"]) != 0
    assert "no-such-0001" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("nowhere", LinkError, "no box nowhere is known here"),
        ("refused", LinkError, "refused refuses the connection"),
        ("keyless", QuestionError, "keyless accepted no key"),
        ("stranger", QuestionError, "the host key of stranger is not known here yet"),
    ],
)
def test_a_box_that_cannot_be_entered_is_told_in_plain_words(box: OtherBox, name: str, kind: type[Exception], told: str) -> None:
    if box.fake is not None:
        box.fake.set(
            refused={"fails": "ssh: connect to host refused port 22: Connection refused"},
            keyless={"fails": "me@keyless: Permission denied (publickey,password)."},
            stranger={
                "fails": "No ED25519 host key is known for stranger and you have requested strict checking.\nHost key verification failed."
            },
        )
    place = SshPlace(name)
    try:
        with pytest.raises(kind, match=told):
            place.connect()
        with pytest.raises(kind, match=told):
            place.socket_path()
        assert place.pid is None
    finally:
        place.close()


def test_a_box_without_llmops_tui_is_told_with_the_way_out(box: OtherBox) -> None:
    os.unlink(Path(box.environ["PATH"].split(":")[0]) / "llmops-tui")
    place = SshPlace("box")
    try:
        with pytest.raises(RemoteError, match="there is no llmops-tui on box") as refusal:
            place.connect(start=True)
        assert "install it there" in refusal.value.next_step
    finally:
        place.close()


def test_a_program_where_pip_puts_it_for_one_user_is_found(box: OtherBox) -> None:
    program = Path(box.environ["PATH"].split(":")[0]) / "llmops-tui"
    local = Path(box.environ["HOME"]) / ".local/bin"
    local.mkdir(parents=True)
    program.rename(local / "llmops-tui")
    place = SshPlace("box")
    try:
        place.connect(start=True)
        assert Client(place).answers()
    finally:
        place.close()


def test_an_older_llmops_tui_there_is_told(fake: tuple[FakeSsh, dict[str, str]]) -> None:
    ssh, environ = fake
    ssh.set(box={"environ": environ})
    write_program(Path(environ["PATH"].split(":")[0]) / "llmops-tui", '#!/bin/sh\necho \'{"pid": 7, "version": "0.0.9"}\'\n')
    place = SshPlace("box")
    try:
        with pytest.raises(ConflictError, match=r"llmops-tui 0\.0\.9 on box does not say where its engine listens"):
            place.connect(start=True)
    finally:
        place.close()


def test_an_sshd_that_forwards_no_sockets_is_told(fake: tuple[FakeSsh, dict[str, str]]) -> None:
    ssh, environ = fake
    ssh.set(box={"environ": environ, "prohibited": True})
    box = reach("box")
    try:
        with pytest.raises(LlmopsError, match="forwards no sockets"):
            box.connect(False)
    finally:
        box.close()


def test_a_question_is_not_asked_where_ssh_may_not_ask(fake: tuple[FakeSsh, dict[str, str]]) -> None:
    ssh, environ = fake
    ssh.set(box={"environ": environ, "asks": True})
    place = SshPlace("box")
    try:
        with pytest.raises(QuestionError, match="accepted no key or password"):
            place.connect(start=True)
        with pytest.raises(QuestionError, match="`:host box` lets ssh ask you"):
            place.socket_path()
    finally:
        place.close()


def test_ssh_asks_on_the_plain_terminal_before_the_console_opens(fake: tuple[FakeSsh, dict[str, str]]) -> None:
    ssh, environ = fake
    ssh.set(box={"environ": environ, "asks": True})
    with terminal("--host", "box") as (see, press):
        see("connecting to box")
        see("password: ")
        press("secret\n")
        see("LIVE")
        press("q")
        see("nothing runs; `llmops-tui --host box` brings you back")
    with terminal("--host", "box") as (see, press):
        see("password: ")
        press("wrong\n")
        see("llmops-tui: box accepted no key or password of yours; try `ssh box`")


def test_ssh_asks_in_the_console_s_terminal_and_ctrl_c_comes_back(fake: tuple[FakeSsh, dict[str, str]], tmp_path: Path) -> None:
    ssh, environ = fake
    ssh.set(box={"environ": environ, "asks": True})
    with running_engine(tmp_path / "own"), terminal("--home", str(tmp_path / "own")) as (see, press):
        see("LIVE")
        press(":host box\r")
        see("password: ")
        press("\x03")
        see("left box alone")
        press(":host box\r")
        see("password: ")
        press("secret\n")
        see("now on box")
        press("q")
        see("`llmops-tui --host box` brings you back")


@pytest.mark.parametrize("name", ["", "-oProxyCommand=touch /tmp/x", "a b", "box\n", "box\x1b[31m"])
def test_what_is_no_name_of_a_box_is_refused_before_ssh_sees_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="is no host"):
        SshPlace(name)
    assert run_cli([f"--host={name}", "status"]) == 2
    assert "is no host" in capsys.readouterr().err


def test_read_only_here_is_read_only_there(fake: tuple[FakeSsh, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    ssh, environ = fake
    ssh.set(box={"environ": environ})
    monkeypatch.setenv("LLMOPS_READ_ONLY", "1")
    assert remote_command(["status"]).startswith("env LLMOPS_READ_ONLY=1 sh -c ")
    place = SshPlace("box")
    try:
        with pytest.raises(RemoteError, match="no engine runs for"):
            place.connect(start=True)  # who wants to change nothing starts nothing
    finally:
        place.close()


async def test_boxes_side_by_side_go_on_without_the_one_that_cannot_be_reached(
    fake: tuple[FakeSsh, dict[str, str]], tmp_path: Path
) -> None:
    ssh, environ = fake
    ssh.set(box={"environ": environ})
    with running_engine(tmp_path / "own") as own:
        Client(Home(Path(environ["LLMOPS_HOME"]), explicit=True)).ensure_engine()
        app = LlmopsApp(own, status_seconds=0.1)
        async with app.run_test(size=(160, 45)) as pilot:
            app.show_hosts(["here", "box", "nowhere"])
            here, box, nowhere = await columns_of(pilot, 3)
            await until(pilot, lambda: here.state.live and box.state.live, seconds=30)
            await until(pilot, lambda: "no box nowhere is known here" in " ".join(nowhere.plain.split()))
            ssh.set(nowhere={"environ": environ})
            await pilot.press("R")
            await until(pilot, lambda: nowhere.state.live, seconds=30)
            assert isinstance(app.screen, HostsScreen)
            assert all(column.state.live for column in app.screen.query(HostColumn))
