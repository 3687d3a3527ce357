"""What a request would change, and who may."""

from __future__ import annotations

import json

import pytest

from llmops_tui.engine.people import Person, Role
from llmops_tui.engine.permissions import Deed, deed_of, objection

ADA = ("ada", 1001)


def person(role: Role, uid: int = 1002) -> Person:
    return Person("bob", uid, role)


def deed(method: str, path: str, **body: object) -> Deed:
    found = deed_of(method, path, json.dumps(body).encode())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/runs/x/stop", b""),
        ("HEAD", "/v1/status", b""),
        ("POST", "/v1/sql", b'{"query":"SELECT 1"}'),
        ("POST", "/v1/runs", b'{"spec":{},"dry_run":true}'),
        ("POST", "/v1/endpoints/check", b'{"spec":{}}'),
        ("POST", "/v1/endpoints/support/chat", b'{"messages":[]}'),
    ],
)
def test_what_only_reads_changes_nothing(method: str, path: str, body: bytes) -> None:
    assert deed_of(method, path, body) is None


@pytest.mark.parametrize(
    ("method", "path", "action", "needs", "target"),
    [
        ("POST", "/v1/runs", "submit", "operator", ""),
        ("POST", "/v1/runs/train-a-0001/stop", "stop", "operator", "train-a-0001"),
        ("POST", "/v1/runs/train-a-0001/annotate", "annotate", "operator", "train-a-0001"),
        ("DELETE", "/v1/runs/train-a-0001", "remove", "operator", "train-a-0001"),
        ("PATCH", "/v1/runs/train-a-0001", "patch", "operator", "train-a-0001"),
        ("POST", "/v1/engine/stop", "engine stop", "admin", ""),
        ("POST", "/v1/backup", "backup", "admin", ""),
        ("POST", "/v1/datasets/import", "import dataset", "operator", ""),
        ("DELETE", "/v1/reservations/r-1", "release", "operator", "r-1"),
        ("POST", "/v1/endpoints/support/route", "route endpoint", "operator", "support"),
        ("DELETE", "/v1/endpoints/support", "stop endpoint", "operator", "support"),
        ("DELETE", "/v1/endpoints/support/versions/v4", "remove version", "operator", "support"),
        ("DELETE", "/v1/keys/web", "revoke key", "operator", "web"),
        ("POST", "/v1/feedback", "feedback", "viewer", ""),
        ("PUT", "/v1/something/new", "put something/new", "admin", ""),
        ("POST", "/", "post ", "admin", ""),
    ],
)
def test_every_change_has_a_name_a_target_and_a_least_role(method: str, path: str, action: str, needs: str, target: str) -> None:
    found = deed(method, path)
    assert (found.action, found.needs, found.target) == (action, needs, target)


def test_what_is_asked_of_a_running_run_is_named_as_it_is_asked_and_needs_the_same_as_a_stop() -> None:
    pause = deed("POST", "/v1/runs/train-a-0001/control", command="pause", mode="free")
    assert (pause.action, pause.needs, pause.run, pause.detail) == ("pause", "operator", "train-a-0001", {"mode": "free"})
    assert objection(person("operator"), pause, ("bob", 4), read_only=False) is not None
    assert deed("POST", "/v1/runs/train-a-0001/reproduce").run == "train-a-0001"


def test_a_dry_run_is_one_only_where_it_says_true() -> None:
    for told in (1, "true", [True], None):
        assert deed("POST", "/v1/runs", dry_run=told).action == "submit"
    for body in (b"\xff", b"[1]", b'"dry_run"', b"[" * 100_000):
        assert deed_of("POST", "/v1/runs", body) is not None


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("operator", True), ("admin", True)])
def test_an_operator_submits_and_a_viewer_does_not(role: Role, may: bool) -> None:
    assert (objection(person(role), deed("POST", "/v1/runs"), None, read_only=False) is None) is may


@pytest.mark.parametrize(
    ("role", "own", "may"), [("operator", True, True), ("operator", False, False), ("admin", False, True), ("viewer", True, False)]
)
def test_anothers_run_is_for_admins(role: Role, own: bool, may: bool) -> None:
    stop = deed("POST", "/v1/runs/train-a-0001/stop", mode="now")
    owner = ("bob", 1002) if own else ADA
    assert (objection(person(role), stop, owner, read_only=False) is None) is may


def test_who_is_refused_hears_whose_it_is_and_how_to_ask() -> None:
    refused = objection(person("operator"), deed("POST", "/v1/runs/train-a-0001/stop"), ADA, read_only=False)
    assert refused is not None
    assert refused.http_status == 403
    assert str(refused) == 'train-a-0001 belongs to ada, and bob is no admin here; ask ada: `llmops-tui runs ask train-a-0001 "…"`'


def test_anybody_who_may_act_may_ask_anybody() -> None:
    ask = deed("POST", "/v1/runs/train-a-0001/ask", message="?")
    assert objection(person("operator"), ask, ADA, read_only=False) is None
    assert objection(person("viewer"), ask, ADA, read_only=False) is not None


def test_read_only_refuses_admins_too_and_lets_them_end_the_engine() -> None:
    assert objection(person("admin"), deed("POST", "/v1/runs"), None, read_only=True) is not None
    assert objection(person("admin"), deed("POST", "/v1/engine/stop"), None, read_only=True) is None
    assert objection(person("operator"), deed("POST", "/v1/engine/stop"), None, read_only=True) is not None


def test_the_log_keeps_what_a_submission_is_and_never_its_environment() -> None:
    found = deed("POST", "/v1/runs", spec={"kind": "train", "name": "a", "env": {"HF_TOKEN": "x"}}, cwd="/home")
    assert found.detail == {"kind": "train", "name": "a"}
    assert len(str(deed("POST", "/v1/runs/a/ask", message="x" * 5000).detail["message"])) < 400


def test_an_alarm_is_acknowledged_by_who_may_act_on_its_run() -> None:
    deed = deed_of("POST", "/v1/alarms/train-a.b-0001.1.spike.7/ack", b"{}")
    assert deed is not None
    assert (deed.action, deed.needs, deed.run, deed.target) == ("ack alarm", "operator", "train-a.b-0001", "train-a.b-0001.1.spike.7")
