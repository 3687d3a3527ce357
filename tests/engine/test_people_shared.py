"""One engine of root's for the members of a group: who may come, as whom runs run, who may touch what."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.engine.on_behalf import OnBehalf
from llmops_tui.errors import ConflictError, PermissionDeniedError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import Settings
from tests.running_engine import kill_engine, make_home
from tests.several_users import Users, place_for_all, real_users
from tests.waiting import wait_for

_SECRET = "LLMOPS_TEST_HF_TOKEN"
_UNTIL_STOPPED = ("/bin/sh", "-c", "sleep 60")


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    with real_users("s") as made:
        yield made


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with place_for_all() as made:
        yield made


def shared_engine(root: Path, users: Users, more: str = "") -> Client:
    """An engine for the group; `more` are further settings."""
    home = make_home(root)
    with home.config.open("a") as file:
        file.write(f'[people]\ngroup = "{users.group}"\n{more}')
    client = Client(home)
    client.ensure_engine()
    return client


@pytest.fixture(scope="module")
def root(place: Path, users: Users) -> Iterator[Client]:
    """Root's client of the engine."""
    os.environ[_SECRET] = "hf_of_root"
    try:
        # A webhook that is never called: its address is root's secret, and what is done as a user must do without it.
        more = f'admins = ["{users.ada.name}x"]\n[notify]\non = []\nwebhook = "http://127.0.0.1:9/hook-of-root"\n'
        client = shared_engine(place / "shared", users, more)
    finally:
        del os.environ[_SECRET]
    try:
        yield client
    finally:
        for run in client.status()["running"]:
            client.stop_run(run["id"], "now")
        wait_for(lambda: not client.status()["running"], what="the jobs end")
        kill_engine(client.home)


@pytest.fixture
def home(root: Client) -> Path:
    return root.home.root


def log_of(root: Client, run: str) -> str:
    wait_for(lambda: root.run(run)["state"] not in ("queued", "starting", "running"), what=f"{run} ends")
    return root.log(run).data.decode()


def test_the_socket_is_the_groups_and_nothing_else_of_the_directory_is(root: Client, users: Users) -> None:
    gid = grp.getgrnam(users.group).gr_gid
    seen = {path: path.stat() for path in (root.home.root, root.home.shared_socket.parent, root.home.shared_socket)}
    assert [(stat.S_IMODE(status.st_mode), status.st_gid) for status in seen.values()] == [(0o710, gid), (0o2750, gid), (0o660, gid)]
    assert stat.S_IMODE(root.home.database.stat().st_mode) == 0o600
    assert users.bob.run("/bin/cat", str(root.home.root / "audit.jsonl")).returncode != 0
    assert users.bob.run("/bin/ls", str(root.home.runs)).returncode != 0


def test_what_an_engine_left_before_it_was_shared_is_not_the_groups_to_read(place: Path, users: Users) -> None:
    umask = os.umask(0o022)
    try:
        home = make_home(place / "once-private")
        client = Client(home)
        client.ensure_engine()
        run = client.submit({"kind": "command", "argv": ["/bin/true"], "env": {"A_TOKEN": "hf_of_root"}}, cwd="/")["id"]
        wait_for(lambda: client.run(run)["state"] == "succeeded")
        kill_engine(home)
        shared = shared_engine(home.root, users)
    finally:
        os.umask(umask)
    try:
        inside = [path for path in home.root.rglob("*") if path.is_file()]
        assert {"config.toml", "llmops.duckdb.wal", "spec.json", "launch.json"} <= {path.name for path in inside}
        script = 'for path; do cat "$path" > /dev/null 2>&1 && echo "$path"; done; true'
        readable = users.bob.run("/bin/sh", "-c", script, "sh", *map(str, inside)).stdout.split()
        assert readable == [str(home.engine_json)]
        assert users.bob.ask(home.root, "runs", "show", run)["spec"]["env"] == {"A_TOKEN": "***"}
    finally:
        kill_engine(shared.home)


def test_a_member_finds_the_engine_and_hears_who_he_is(home: Path, users: Users) -> None:
    info = users.bob.ask(home, "engine", "status")
    assert (info["shared"], info["group"]) == (True, users.group)
    assert info["you"] == {"user": users.bob.name, "uid": users.bob.uid, "role": "operator", "read_only": False}


def test_doctor_finds_no_fault_with_a_state_directory_that_is_not_the_members_to_write(home: Path, users: Users) -> None:
    said = users.bob.cli(home, "doctor").stdout
    assert f"{home} is root's, whose engine alone works in it" in said
    assert "failed   database" not in said


def test_who_is_not_in_the_group_is_refused_by_the_socket_and_by_the_engine(root: Client, home: Path, users: Users) -> None:
    assert "not in a group that it serves" in users.eve.refused(home, "status")
    for path in (root.home.root, root.home.shared_socket.parent):
        path.chmod(path.stat().st_mode | 0o005)
    root.home.shared_socket.chmod(0o666)
    try:
        refusal = users.eve.refused(home, "status")
    finally:
        root.home.shared_socket.chmod(0o660)
        for path in (root.home.root, root.home.shared_socket.parent):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o007)
    assert f"serves the group '{users.group}', and {users.eve.name} (uid {users.eve.uid}) is not in it" in refusal


def test_a_run_is_its_submitters_with_his_groups_his_home_and_none_of_roots_secrets(root: Client, home: Path, users: Users) -> None:
    script = "id -u; id -G; pwd; env; touch $LLMOPS_RUN_DIR/artifacts/made; cat /proc/self/status"
    run = users.ada.submit(home, "/bin/sh", "-c", script)
    said = log_of(root, run)
    lines = said.splitlines()
    assert lines[0] == str(users.ada.uid)
    assert {int(group) for group in lines[1].split()} == set(users.ada.groups)
    assert lines[2] == users.ada.environment["HOME"]
    assert f"HOME={users.ada.environment['HOME']}" in lines
    assert f"USER={users.ada.name}" in lines
    assert "hf_of_root" not in said
    assert "CapEff:\t0000000000000000" in lines
    made = root.home.runs / run / "artifacts" / "made"
    assert made.stat().st_uid == users.ada.uid
    assert root.run(run)["owner"] == users.ada.name


def test_what_a_job_tells_is_stored_and_what_decides_about_it_is_not_its_to_write(root: Client, home: Path, users: Users) -> None:
    script = """
    echo '{"t":1,"type":"metric","step":1,"values":{"train/loss":2.5}}' >> $LLMOPS_RUN_DIR/events.jsonl
    for name in spec.json journal.jsonl control.jsonl shim.lock attempt-1/launch.json; do
        (echo x >> $LLMOPS_RUN_DIR/$name) 2> /dev/null && echo "wrote $name"
    done
    mv $LLMOPS_RUN_DIR/events.jsonl $LLMOPS_RUN_DIR/away 2> /dev/null && echo "moved its events"
    ln -s /etc/shadow $LLMOPS_RUN_DIR/stdout.log 2> /dev/null && echo "made a link"
    kill -9 $PPID 2> /dev/null && echo "killed its shim"
    echo done
    """
    run = users.ada.submit(home, "/bin/sh", "-c", script)
    assert log_of(root, run) == "done\n"
    assert root.run(run)["state"] == "succeeded"
    assert root.series(run, ["train/loss"])[0]["total_points"] == 1


def test_anothers_run_is_seen_and_not_touched(root: Client, home: Path, users: Users) -> None:
    run = users.ada.submit(home, *_UNTIL_STOPPED, settings={"env.MY_TOKEN": "tell-nobody", "env.PLAIN": "shown"})
    wait_for(lambda: root.run(run)["state"] == "running")
    assert users.bob.ask(home, "runs", "show", run)["owner"] == users.ada.name
    assert users.bob.ask(home, "runs", "show", run)["spec"]["env"] == {"MY_TOKEN": "***", "PLAIN": "shown"}
    assert users.ada.ask(home, "runs", "show", run)["spec"]["env"]["MY_TOKEN"] == "tell-nobody"
    assert "tell-nobody" not in json.dumps(users.bob.ask(home, "sql", f"SELECT spec FROM runs WHERE id = '{run}'"))
    assert "tell-nobody" not in json.dumps(users.bob.ask(home, "runs", "list", "--column", "cfg.env.MY_TOKEN"))
    assert users.bob.ask(home, "runs", "list", "--filter", "cfg.env.MY_TOKEN:tell")["runs"] == []
    for words in (
        ("stop", run),
        ("note", run, "mine"),
        ("tag", run, "+mine"),
        ("priority", run, "5"),
        ("checkpoint", run),
        ("rm", "-y", run),
        ("retry", run),
    ):
        refusal = users.bob.refused(home, "runs", *words)
        assert f"{run} belongs to {users.ada.name}" in refusal
        assert f"runs ask {run}" in refusal
    assert root.run(run)["state"] == "running"
    users.bob.ask(home, "runs", "ask", run, "may I\nhave it?")
    asked = [event for event in root.events(newest=True)["events"] if event["type"] == "note.asked" and event["run"] == run]
    assert [event["data"] for event in asked] == [{"to": users.ada.name, "from": users.bob.name, "message": "may I have it?"}]
    users.ada.ask(home, "runs", "stop", run, "--now")
    wait_for(lambda: root.run(run)["state"] == "cancelled")


def test_a_spec_is_its_submitters_to_read_and_not_his_groups(root: Client, home: Path, users: Users) -> None:
    run = users.ada.submit(home, "/bin/sh", "-c", "cat $LLMOPS_RUN_DIR/spec.json", settings={"env.MY_TOKEN": "tell-nobody"})
    assert "tell-nobody" in log_of(root, run)
    of_her_group = replace(users.bob, gid=users.ada.gid)  # on some boxes all have one primary group
    for name in ("spec.json", "stdout.log", "events.jsonl"):
        assert of_her_group.run("/bin/cat", str(root.home.runs / run / name)).returncode != 0


def test_roots_own_run_is_roots_and_has_the_umask_the_engine_was_started_with(root: Client) -> None:
    umask = os.umask(0)
    os.umask(umask)
    run = root.submit({"kind": "command", "argv": ["/bin/sh", "-c", "id -u; umask"]}, cwd="/")["id"]
    assert log_of(root, run).split() == ["0", f"{umask:04o}"]


def test_root_may_end_anybodys_run_and_it_says_who_did(root: Client, home: Path, users: Users) -> None:
    run = users.bob.submit(home, *_UNTIL_STOPPED)
    wait_for(lambda: root.run(run)["state"] == "running")
    root.stop_run(run, "now")
    wait_for(lambda: root.run(run)["state"] == "cancelled")
    assert any("root asked it to stop" in entry["reason"] for entry in root.run(run)["journal"])


def test_the_audit_log_names_who_did_what_and_what_was_refused(root: Client, home: Path, users: Users) -> None:
    run = users.ada.submit(home, "/bin/true")
    wait_for(lambda: root.run(run)["state"] == "succeeded")
    users.bob.refused(home, "runs", "rm", "-y", run)
    users.ada.ask(home, "runs", "rm", "-y", run)
    noted = users.bob.ask(home, "audit", "list", "--run", run)
    assert [(entry["user"], entry["uid"], entry["action"], entry["outcome"]) for entry in noted] == [
        (users.ada.name, users.ada.uid, "submit", "ok"),
        (users.bob.name, users.bob.uid, "remove", "refused"),
        (users.ada.name, users.ada.uid, "remove", "ok"),
    ]
    assert [entry["action"] for entry in users.bob.ask(home, "audit", "list", "--user", users.bob.name, "--limit", "1")] == ["remove"]
    assert users.bob.ask(home, "audit", "verify")["good"]


def test_the_engine_is_not_an_operators_to_stop_nor_its_database_to_copy(root: Client, home: Path, users: Users) -> None:
    assert "`engine stop` is for an admin" in users.ada.refused(home, "engine", "stop")
    assert "`backup` is for an admin" in users.ada.refused(home, "engine", "backup", "/tmp/copy-of-shared.duckdb")
    assert root.answers()


def test_a_copy_of_the_database_is_written_with_the_rights_of_who_asked_for_it(root: Client, place: Path, users: Users) -> None:
    ours = place / "copy"
    ours.write_text("rows")
    behalf = OnBehalf(root.home, Settings())
    target = Path(users.ada.environment["HOME"]) / "copy.duckdb"
    assert behalf.put_file(users.ada.uid, ours, target) == 4
    assert (target.read_text(), target.stat().st_uid, stat.S_IMODE(target.stat().st_mode)) == ("rows", users.ada.uid, 0o600)
    with pytest.raises(ConflictError, match="exists"):
        behalf.put_file(users.ada.uid, ours, target)
    with pytest.raises(PermissionDeniedError):
        behalf.put_file(users.ada.uid, ours, place / "shared" / "copy.duckdb")
    (target.parent / "link").symlink_to(place / "not-there")
    with pytest.raises(ConflictError, match="exists"):
        behalf.put_file(users.ada.uid, ours, target.parent / "link")


def test_a_directory_and_a_program_are_looked_at_with_the_submitters_rights(root: Client, place: Path, users: Users) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700, exist_ok=True)
    (closed / "program").write_text("#!/bin/sh\nid -u\n")
    (closed / "program").chmod(0o755)
    for words in (("--set", f"cwd={closed}", "--", "/bin/true"), ("--", str(closed / "program"))):
        refusal = users.ada.refused(root.home.root, "run", "command", *words)
        assert "may not be entered" in refusal or f"{users.ada.name} may not read" in refusal
    run = users.ada.submit(root.home.root, "/bin/pwd", settings={"cwd": "~/"})
    assert log_of(root, run).strip() == users.ada.environment["HOME"]


def test_rows_are_imported_by_who_can_read_them_and_a_copy_is_for_the_group(root: Client, home: Path, users: Users) -> None:
    rows = Path(users.ada.environment["HOME"]) / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]}) + "\n" for n in range(5)
        )
    )
    os.chown(rows, users.ada.uid, users.ada.gid)
    rows.chmod(0o600)
    rows.parent.chmod(0o711)
    assert "Permission denied" in users.bob.refused(home, "datasets", "import", str(rows), "--name", "adas")
    assert not any(dataset["name"] == "adas" for dataset in root.datasets())
    assert users.bob.cli(home, "datasets", "show", str(rows)).returncode != 0
    assert "is not available here" in users.bob.refused(home, "sql", f"SELECT * FROM read_text('{rows}')")
    assert users.ada.ask(home, "datasets", "import", str(rows), "--name", "adas")["path"] == str(rows)
    copied = users.ada.ask(home, "datasets", "import", str(rows), "--name", "copied", "--copy")
    assert Path(copied["path"]).is_relative_to(root.home.datasets)
    assert users.bob.run("/bin/cat", copied["path"]).stdout == rows.read_text()
    assert users.bob.ask(home, "datasets", "show", "copied")["rows"] == 5


def test_what_hangs_in_a_users_file_keeps_nobody_else_waiting_and_goes_with_the_engine(root: Client, home: Path, users: Users) -> None:
    endless = Path(users.ada.environment["HOME"]) / "endless.jsonl"
    assert users.ada.run("/usr/bin/mkfifo", str(endless)).returncode == 0
    argv = [users.ada.python, "-P", "-m", "llmops_tui", "--home", str(home), "datasets", "import", str(endless)]
    stuck = [
        subprocess.Popen(
            argv, env=users.ada.environment, cwd="/", user=users.ada.uid, group=users.ada.gid, extra_groups=users.ada.groups,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(6)
    ]  # fmt: skip
    try:
        wait_for(lambda: len(helpers_of(users.ada.uid)) == 2, what="two are under way")
        assert users.bob.ask(home, "datasets", "list") == root.datasets()
        assert len(helpers_of(users.ada.uid)) == 2
        kill_engine(root.home)
        wait_for(lambda: not helpers_of(users.ada.uid), what="they end with the engine")
    finally:
        for process in stuck:
            process.kill()
            process.wait()
        root.ensure_engine()


_HOLDS_STREAMS = """
import socket, sys
held = []
for number in range(160):
    one = socket.socket(socket.AF_UNIX)
    one.connect(sys.argv[1])
    one.sendall(b"GET /v1/events HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
    try:
        held.append((one.recv(64).split(b"\\r")[0].decode(), one))
    except OSError:
        held.append(("", one))
print(sorted({answer for answer, _ in held}), sum(answer.endswith("200 OK") for answer, _ in held), flush=True)
sys.stdin.read()
"""


def test_one_users_connections_leave_room_for_the_others(root: Client, home: Path, users: Users) -> None:
    with subprocess.Popen(
        [users.ada.python, "-P", "-c", _HOLDS_STREAMS, str(root.home.shared_socket)], env=users.ada.environment, user=users.ada.uid,
        group=users.ada.gid, extra_groups=users.ada.groups, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as ada:  # fmt: skip
        assert ada.stdout
        assert ada.stdout.readline() == "['HTTP/1.1 200 OK', 'HTTP/1.1 429 Too Many Requests'] 100\n"
        assert "the most for one user" in users.ada.refused(home, "status")
        assert users.bob.ask(home, "engine", "status")["you"]["user"] == users.bob.name
        assert root.answers()
        ada.communicate()
    wait_for(lambda: users.ada.cli(home, "status").returncode == 0, what="her connections are counted as gone")


def helpers_of(uid: int) -> list[int]:
    """The processes in which the engine works as this user."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == uid and b"llmops_tui.engine.as_user" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def test_a_killed_engine_comes_back_shared_and_goes_on_with_its_users_runs(root: Client, home: Path, users: Users) -> None:
    run = users.ada.submit(home, *_UNTIL_STOPPED)
    pid = wait_for(lambda: [entry for entry in root.run(run)["journal"] if entry["state"] == "running"])[0]["data"]["pid"]
    kill_engine(root.home)
    refusal = users.bob.refused(home, "status")
    assert "no engine runs" in refusal
    assert "root, whose directory that is, can start it" in refusal
    assert root.ensure_engine()["group"] == users.group
    assert Path(f"/proc/{pid}").stat().st_uid == users.ada.uid
    assert f"{run} belongs to" in users.bob.refused(home, "runs", "stop", run)
    users.ada.ask(home, "runs", "stop", run, "--now")
    wait_for(lambda: root.run(run)["state"] == "cancelled")


def test_a_job_whose_shim_was_killed_is_still_ended_and_only_its_own_users_processes_with_it(
    root: Client, home: Path, users: Users
) -> None:
    run = users.ada.submit(home, *_UNTIL_STOPPED)
    wait_for(lambda: root.run(run)["state"] == "running")
    mark = {"LLMOPS_RUN_DIR": str(root.home.runs / run)}
    bobs = users.bob.run("/bin/sh", "-c", "sleep 50 > /dev/null 2>&1 & echo $!", **mark)
    stranger = int(bobs.stdout)
    try:
        claim = json.loads((root.home.runs / run / "attempt-1" / "claim").read_text())
        os.kill(claim["shim_pid"], signal.SIGKILL)
        wait_for(lambda: "its shim was killed" in root.run(run)["reason"])
        users.ada.ask(home, "runs", "stop", run, "--now")
        wait_for(lambda: root.run(run)["state"] == "cancelled")
        assert Path(f"/proc/{stranger}").exists(), "a process that only names the run is not the run's"
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_roles_are_given_by_name_and_by_group_and_a_name_is_meant_first(place: Path, users: Users) -> None:
    client = shared_engine(place / "roles", users, f'admins = ["@{users.group}"]\nviewers = ["{users.bob.name}", 4000000000]\n')
    home = client.home.root
    try:
        assert users.ada.ask(home, "engine", "status")["you"]["role"] == "admin"
        assert users.bob.ask(home, "engine", "status")["you"] == {
            "user": users.bob.name, "uid": users.bob.uid, "role": "viewer", "read_only": True,
        }  # fmt: skip
        assert f"{users.bob.name} is a viewer here, and `submit` is for an operator" in users.bob.refused(
            home, "run", "command", "--", "/bin/true"
        )
        assert users.bob.cli(home, "run", "command", "--dry-run", "--", "/bin/true").returncode == 0
        assert users.bob.ask(home, "sql", "SELECT 1 AS one")["rows"] == [[1]]
        assert "is for an operator" in users.bob.refused(home, "gpus", "reserve", "0", "--for", "1h")
        users.ada.ask(home, "engine", "stop")
    finally:
        kill_engine(client.home)


def test_a_read_only_engine_refuses_everybody_and_a_read_only_client_itself(place: Path, users: Users) -> None:
    client = shared_engine(place / "still", users, "read_only = true\n")
    home = client.home.root
    try:
        assert "this engine is read-only: nothing was changed" in users.ada.refused(home, "run", "command", "--", "/bin/true")
        assert users.ada.ask(home, "engine", "status")["you"]["read_only"] is True
        refusal = users.ada.refused(home, "run", "command", "--", "/bin/true", LLMOPS_READ_ONLY="1")
        assert "LLMOPS_READ_ONLY is set here" in refusal
        assert client.runs()["total"] == 0
        assert [entry["outcome"] for entry in client.audit()] == ["refused"]
        client.stop_engine()
    finally:
        kill_engine(client.home)


def test_an_unshared_place_is_refused_before_anything_is_opened(place: Path, users: Users) -> None:
    closed = place / "private"
    closed.mkdir(mode=0o700)
    home = Home(closed / "home", explicit=True)
    make_home(home.root)
    with pytest.raises(Exception, match=f"{closed} is closed to the group '{users.group}' \\(mode 700\\)"):
        Client(home).start_engine(["--shared", "--group", users.group])
    with pytest.raises(Exception, match="has no group 'no-such-group'"):
        Client(home).start_engine(["--shared", "--group", "no-such-group"])
    with pytest.raises(Exception, match="a shared engine needs a group"):
        Client(home).start_engine(["--shared"])
