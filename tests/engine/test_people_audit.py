"""The door of a whole engine: what is changed through the API is noted, whatever came of it."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.errors import InsufficientResourcesError, NotFoundError
from tests.running_engine import kill_engine, running_engine
from tests.waiting import wait_for

_ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_engine(tmp_path) as made:
        yield made


def send(client: Client, method: str, path: str, body: bytes = b"{}") -> int:
    """One raw request; the answer's status."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(client.home.socket))
    connection.request(method, path, body, {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def noted(client: Client) -> list[tuple[str, str, str]]:
    return [(entry["action"], entry["target"], entry["outcome"]) for entry in client.audit()]


def submit(client: Client, *argv: str) -> str:
    return client.submit({"kind": "command", "argv": list(argv)}, cwd="/")["id"]


def test_every_change_is_noted_with_what_came_of_it_and_reading_is_not(client: Client) -> None:
    run = submit(client, "/bin/true")
    wait_for(lambda: client.run(run)["state"] == "succeeded")
    client.submit({"kind": "command", "argv": ["/bin/true"]}, cwd="/", dry_run=True)
    client.sql("SELECT 1")
    with pytest.raises(NotFoundError):
        client.stop_run("command-no-0009")
    assert send(client, "POST", "/v1/runs", b"not json") == 422
    assert send(client, "PUT", "/v1/of/tomorrow") == 404
    assert send(client, "POST", f"/v1/runs/{run}/retry/") == 404
    client.annotate(run, note="kept")
    client.remove(run)
    assert noted(client) == [
        ("submit", run, "ok"),
        ("stop", "command-no-0009", "failed"),
        ("submit", "", "failed"),
        ("put of/tomorrow", "", "failed"),
        ("retry", run, "failed"),
        ("annotate", run, "ok"),
        ("remove", run, "ok"),
    ]
    entry = client.audit()[1]
    assert (entry["user"], entry["uid"], entry["role"], entry["reason"]) == (_ME, os.geteuid(), "admin", "no run 'command-no-0009'")
    assert client.verify_audit()["good"]


def test_stopping_the_engine_is_noted_to_its_end_and_the_log_goes_on_after_a_kill(client: Client) -> None:
    client.stop_engine()
    client.ensure_engine()
    assert noted(client) == [("engine stop", "", "ok")]
    run = submit(client, "/bin/true")
    kill_engine(client.home)
    client.ensure_engine()
    assert noted(client)[1:] == [("submit", run, "ok")]
    assert client.verify_audit()["lines"] == 4


def test_a_hand_in_the_log_is_found_by_the_running_engine(client: Client) -> None:
    submit(client, "/bin/true")
    path = client.home.root / "audit.jsonl"
    path.write_text(path.read_text().replace('"action":"submit"', '"action":"remove"'))
    verdict = client.verify_audit()
    assert (verdict["good"], verdict["line"]) == (False, 2)


def test_a_log_that_cannot_be_written_lets_nothing_be_changed_but_ends_what_runs(client: Client) -> None:
    run = submit(client, "/bin/sleep", "60")
    wait_for(lambda: client.run(run)["state"] == "running")
    path = client.home.root / "audit.jsonl"
    path.rename(path.with_name("away"))
    path.mkdir()
    with pytest.raises(InsufficientResourcesError, match="nothing was changed: the audit log cannot be written"):
        submit(client, "/bin/true")
    assert client.runs()["total"] == 1
    client.stop_run(run, "now")
    wait_for(lambda: client.run(run)["state"] == "cancelled")
    path.rmdir()
    path.with_name("away").rename(path)
    submit(client, "/bin/true")
    assert [action for action, _, _ in noted(client)] == ["submit", "stop", "submit"]
    assert json.loads(path.read_text().splitlines()[2])["late"] is True
    assert client.verify_audit()["good"]
