"""The API of a real engine: answers, and one shape of error for whatever is wrong."""

from __future__ import annotations

import http.client
import json
import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.engine.answering import answer
from llmops_tui.errors import ConflictError, NotFoundError, UsageError
from tests.running_engine import running_engine


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_engine(tmp_path_factory.mktemp("api")) as running:
        yield running


def _ask(client: Client, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """One raw request; status and JSON."""
    connection = http.client.HTTPConnection("engine", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(client.home.socket))
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    status, content = response.status, response.read()
    connection.close()
    return status, json.loads(content)


def test_the_status_tells_of_the_engine_the_box_and_the_queue(client: Client) -> None:
    status = client.status()
    assert status["engine"]["home"] == str(client.home.root)
    assert status["engine"]["warnings"] == []
    assert status["host"]["memory_total_bytes"] > 0
    assert status["gpus"] == status["running"] == status["waiting"] == []


def test_every_answer_is_described_in_the_openapi_document(client: Client) -> None:
    status, document = _ask(client, "GET", "/openapi.json")
    assert status == 200
    assert {"/v1/status", "/v1/runs", "/v1/runs/{run_id}", "/v1/sql", "/v1/engine/stop"} <= set(document["paths"])
    assert set(document["components"]["schemas"]["Status"]["properties"]) == {
        "engine", "host", "gpus", "running", "waiting", "recent", "counts", "currency", "serving",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/runs/../../etc/passwd", 404),
        ("PUT", "/v1/status", 405),
        ("DELETE", "/v1/runs", 405),
        ("GET", "/v1/runs?limit=-1", 422),
        ("GET", "/v1/runs?state=asleep", 422),
        ("GET", "/v1/runs?offset=99999999999999999999999", 422),
        ("GET", "/v1/host/history?seconds=nan", 422),
        ("GET", "/v1/runs/train-x-0001", 404),
        ("GET", "/v1/runs/train-x-0001/log", 404),
        ("GET", "/v1/runs/train-x-0001/series?metric=a", 404),
        ("GET", "/v1/runs/train-x-0001/stream", 404),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong_in_one_line(client: Client, method: str, path: str, expected: int) -> None:
    status, body = _ask(client, method, path)
    assert status == expected
    assert body["error"]["message"]
    assert "\n" not in body["error"]["message"]
    assert body["error"]["exit_code"] in (2, 4)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"spec": 7}', b'{"spek": {}}', b'{"query": ""}'])
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/sql", "/v1/backup", "/v1/models/import"])
def test_a_body_that_is_no_request_is_refused(client: Client, path: str, body: bytes) -> None:
    status, answered = _ask(client, "POST", path, body, **{"content-type": "application/json"})
    assert status == 422
    assert answered["error"]["kind"] == "usage"


def test_a_body_of_nine_megabytes_is_refused_and_a_large_one_within_the_limit_read(client: Client) -> None:
    status, answered = _ask(client, "POST", "/v1/sql", b" " * (9 << 20), **{"content-type": "application/json"})
    assert (status, answered["error"]["kind"]) == (413, "usage")
    padded = json.dumps({"query": "SELECT 1 -- " + "x" * (1 << 20)}).encode()
    status, answered = _ask(client, "POST", "/v1/sql", padded, **{"content-type": "application/json"})
    assert (status, answered["rows"]) == (200, [[1]])


def test_a_wrong_spec_names_its_fields(client: Client) -> None:
    with pytest.raises(UsageError, match="argv") as caught:
        client.submit({"kind": "command", "argv": [], "colour": "red"})
    assert {field["field"] for field in caught.value.fields} == {"argv", "colour"}


def test_a_kinds_form_tells_its_fields_and_an_unknown_kind_is_not_found(client: Client) -> None:
    form = client.spec_form("train")
    rate = next(field for field in form["fields"] if field["key"] == "optim.learning_rate")
    assert (form["kind"], rate["type"], rate["default"], rate["above"], rate["basic"]) == ("train", "number", 2e-4, 0, True)
    with pytest.raises(NotFoundError, match="unknown job kind 'none'"):
        client.spec_form("none")


def test_sql_reads_and_never_writes(client: Client) -> None:
    assert client.sql("SELECT 6 * 7 AS answer")["rows"] == [[42]]
    with pytest.raises(UsageError):
        client.sql("DROP TABLE runs")
    with pytest.raises(UsageError):
        client.sql("SELECT * FROM read_text('/etc/passwd')")


def test_a_backup_is_a_file_that_is_never_overwritten(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "copy.duckdb"
    assert str(target) in client.backup(str(target))["done"]
    assert target.stat().st_size > 0
    with pytest.raises(ConflictError):
        client.backup(str(target))


def test_an_unknown_model_or_dataset_is_not_found(client: Client) -> None:
    for look_up in (client.model, client.dataset):
        with pytest.raises(NotFoundError):
            look_up("no/such/thing@v7")


def test_the_settings_in_force_are_those_of_the_file(client: Client) -> None:
    assert client.settings()["gpus"]["probe"] == "none"


def test_the_history_of_the_box_begins_with_the_engine(client: Client) -> None:
    history = client.host_history(60)
    assert history["t"]
    assert len(history["series"]["host/cpu"]) == len(history["t"])


def test_numbers_that_json_does_not_know_become_null() -> None:
    body = bytes(answer({"latest": {"a": math.nan, "b": [math.inf, 1.5]}}).body)
    assert json.loads(body) == {"latest": {"a": None, "b": [None, 1.5]}}
