"""A shared engine that is not root's: all runs are its own user's, and whose they are is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.paths import Home
from tests.running_engine import kill_engine, make_home
from tests.several_users import Users, place_for_all, real_users
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    with real_users("n") as made:
        yield made


@pytest.fixture
def home(users: Users) -> Iterator[Path]:
    """The state directory of Ada's engine, which serves her group."""
    with place_for_all() as place:
        root = make_home(place / "adas").root
        for path in (root, root / "config.toml"):
            os.chown(path, users.ada.uid, users.ada.gid)
        done = users.ada.cli(root, "engine", "start", "--shared", "--group", users.group)
        assert done.returncode == 0, done.stderr
        try:
            yield root
        finally:
            kill_engine(Home(root, explicit=True))


def test_anothers_run_is_the_engines_users_and_its_owner_is_kept(home: Path, users: Users) -> None:
    root = Client(Home(home, explicit=True))
    run = users.bob.submit(home, "/bin/sh", "-c", "id -u; sleep 60")
    wait_for(lambda: root.log(run).data == f"{users.ada.uid}\n".encode(), what="the job runs as the engine's user")
    assert users.bob.ask(home, "runs", "show", run)["owner"] == users.bob.name
    users.bob.ask(home, "runs", "stop", run, "--now")
    wait_for(lambda: root.run(run)["state"] == "cancelled")
    assert [entry["user"] for entry in users.ada.ask(home, "audit", "list", "--run", run)] == [users.bob.name] * 2


def test_the_engines_user_is_admin_and_the_members_see_none_of_her_files(home: Path, users: Users) -> None:
    assert users.ada.ask(home, "engine", "status")["you"]["role"] == "admin"
    assert users.bob.ask(home, "engine", "status")["you"]["role"] == "operator"
    run = users.ada.submit(home, "/bin/true")
    wait_for(lambda: users.ada.ask(home, "runs", "show", run)["state"] == "succeeded")
    assert users.bob.run("/bin/cat", str(home / "runs" / run / "attempt-1" / "launch.json")).returncode != 0
    assert f"{run} belongs to {users.ada.name}" in users.bob.refused(home, "runs", "rm", "-y", run)
    users.eve.refused(home, "status")


def test_a_member_starts_no_engine_in_a_directory_that_is_not_his(home: Path, users: Users) -> None:
    users.ada.ask(home, "engine", "stop")
    refusal = users.bob.refused(home, "runs", "list")
    assert "no engine runs" in refusal
    assert f"{users.ada.name}, whose directory that is, can start it" in refusal
    assert "no engine runs" in users.bob.refused(home, "engine", "start")


def test_a_group_that_its_user_is_not_in_cannot_be_served(users: Users) -> None:
    with place_for_all() as place:
        root = make_home(place / "eves").root
        os.chown(root, users.eve.uid, users.eve.gid)
        refusal = users.eve.refused(root, "engine", "start", "--shared", "--group", users.group)
        assert f"{users.eve.name} is not in the group '{users.group}'" in refusal
