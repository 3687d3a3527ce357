"""Roles from the settings, a client that wants to change nothing, and what the settings refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.engine.people import People, Person, describe_you, let_ask, who_asks
from llmops_tui.engine.submitter import Account
from llmops_tui.errors import EngineUnavailableError, PermissionDeniedError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import PeopleSettings, load_settings


def test_a_name_the_box_does_not_know_is_told_and_gives_nobody_a_role() -> None:
    people = People(PeopleSettings(admins=["no-such-user", "@no-such-group"], operators=[4000000000]))
    assert [warning.split("name the ")[1] for warning in people.warnings] == [
        "user 'no-such-user', which this box does not know",
        "group 'no-such-group', which this box does not know",
    ]


def test_root_and_the_engines_user_are_admins_and_a_stranger_is_nobody() -> None:
    people = People(PeopleSettings(default_role="admin", viewers=["root"]))
    assert people.person(0).role == people.person(os.geteuid()).role == "admin"
    assert people.person(4000000000) == Person("4000000000", 4000000000, "none")
    assert people.refusal(0) is None
    assert "serves uid" in str(people.refusal(4000000000))


def test_who_asks_is_the_engine_itself_outside_of_a_request() -> None:
    assert who_asks().uid == os.geteuid()
    people = People(PeopleSettings(), read_only=True)
    assert describe_you(people)["read_only"] is True


async def test_a_viewer_is_told_that_nothing_can_be_changed() -> None:
    let_ask(Person("bob", 1002, "viewer"))
    assert describe_you(People(PeopleSettings())) == {"user": "bob", "uid": 1002, "role": "viewer", "read_only": True}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[people]\ndefault_role = "boss"', "people.default_role"),
        ("[people]\nadmins = [-1]", "people.admins"),
        ("[people]\nadmins = [true]", "people.admins"),
        ('[people]\nviewer = ["bob"]', "people.viewer"),
        ('[gpus]\nlock_directory = "locks"', "gpus.lock_directory"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        load_settings(path)


def test_a_client_that_wants_to_change_nothing_asks_for_no_change_and_starts_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(Home(tmp_path / "home", explicit=True))
    monkeypatch.setenv("LLMOPS_READ_ONLY", "1")
    with pytest.raises(PermissionDeniedError, match="LLMOPS_READ_ONLY is set here: nothing was changed"):
        client.stop_run("train-a-0001")
    for reads in (client.ensure_engine, lambda: client.sql("SELECT 1"), lambda: client.submit({"kind": "command"}, dry_run=True)):
        with pytest.raises(EngineUnavailableError, match="no engine runs"):
            reads()
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("LLMOPS_READ_ONLY", "0")
    with pytest.raises(EngineUnavailableError):
        client.stop_run("train-a-0001")


def test_a_jobs_environment_is_its_users_and_describes_the_box_without_the_engines_secrets() -> None:
    ada = Account("ada", 1001, 1001, (1001,), "/home/ada", "/bin/zsh")
    engines = {
        "PATH": "/usr/bin", "HOME": "/root", "USER": "root", "CUDA_HOME": "/usr/local/cuda", "HF_TOKEN": "x", "HF_HOME": "/srv/hf",
        "AWS_SECRET_ACCESS_KEY": "x", "PYTHONHOME": "/srv/lib", "LD_PRELOAD": "/srv/x.so", "LC_ALL": "C", "SSH_AUTH_SOCK": "/tmp/s",
    }  # fmt: skip
    assert ada.environment(engines) == {
        "PATH": "/usr/bin", "CUDA_HOME": "/usr/local/cuda", "HF_HOME": "/srv/hf", "LC_ALL": "C",
        "HOME": "/home/ada", "USER": "ada", "LOGNAME": "ada", "SHELL": "/bin/zsh",
    }  # fmt: skip
