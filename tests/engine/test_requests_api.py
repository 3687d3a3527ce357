"""From a client's request to what the API, the events and SQL tell of it: a real engine, a real gateway, a server that plays a provider."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.data.rundir import is_locked
from llmops_tui.errors import NotFoundError, UsageError
from tests.gateway.fake_backend import FakeBackend, says
from tests.running_engine import kill_engine, make_home, running_engine
from tests.spool_lines import T0, append, request, text
from tests.waiting import wait_for


class Served:
    """An endpoint named support, of one version, away."""

    def __init__(self, client: Client, port: int) -> None:
        self.client = client
        self.port = port

    def ask(self, words: str, **fields: Any) -> tuple[int, str]:
        """Status and id of a request's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = {"model": "support", "messages": [{"role": "user", "content": words}], **fields}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answered = connection.getresponse()
        answered.read()
        connection.close()
        return answered.status, answered.headers["x-request-id"]

    def recorded(self, count: int, **chosen: Any) -> list[Any]:
        """The newest requests, once there are that many."""
        return wait_for(lambda: rows if len(rows := self.client.serving.requests(**chosen)["rows"]) >= count else None, 20)  # type: ignore[return-value]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    backend = FakeBackend()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, backend: FakeBackend) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("home")
    home, port = make_home(root), free_port()
    with open(home.config, "a") as file:
        file.write(f'[serving]\nport = {port}\n[serving.providers.remote]\nbase_url = "http://127.0.0.1:{backend.port}/v1"\nmodel = "m"\n')
        file.write("input_per_million = 1.0\noutput_per_million = 10.0\n")
    append(home.gateway / "spool", "requests-000001.jsonl", *(request(number, endpoint="gone") for number in range(10)))
    append(home.gateway / "spool", "texts-000001.jsonl", text(3, "What was", "It was", endpoint="gone"))
    client = Client(home)
    try:
        client.ensure_engine()
        version = {"name": "away", "provider": "remote", "weight": 1}
        client.serving.start({"name": "support", "aliases": ["help"], "versions": [version], "record": {"text_fraction": 1}})
        wait_for(lambda: client.serving.gateway()["state"] == "running" and client.serving.endpoint("support")["state"] == "ready", 30)
        yield Served(client, port)
    finally:
        kill_engine(home)
        with contextlib.suppress(OSError, ValueError):
            os.kill(json.loads((home.gateway / "state.json").read_text())["pid"], signal.SIGKILL)
        wait_for(lambda: not is_locked(home.gateway / "gateway.lock"), 20)


def test_a_request_is_told_with_its_text_its_cost_and_what_was_said_of_it(served: Served) -> None:
    status, identity = served.ask("write to ann@example.org")
    assert status == 200
    served.recorded(1, endpoint="support")
    row = served.client.serving.request(identity)["row"]
    assert (row["endpoint"], row["version"], row["provider"], row["status"], row["finish"]) == ("support", "away", "remote", 200, "stop")
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost"], row["good"]) == (7, 3, pytest.approx((7 + 30) / 1e6), True)
    found = wait_for(lambda: told if (told := served.client.serving.request(identity))["row"]["has_text"] else None, 20)
    assert (found["prompt"], found["response"], found["redacted"]) == ("user: write to [EMAIL]", "hello", 1)
    assert found["messages"] == [{"role": "user", "content": "write to [EMAIL]"}]
    served.client.serving.feedback(identity, "down", comment="ask bob@example.org")
    told = wait_for(lambda: told if (told := served.client.serving.request(identity))["feedback"] else None, 20)
    assert [(one["rating"], one["comment"]) for one in told["feedback"]] == [("down", "ask [EMAIL]")]
    assert served.client.serving.requests(endpoint="support")["rows"][0]["rating"] == "down"
    heard = wait_for(lambda: [event["data"] for event in served.client.events(types=["feedback.given"])["events"]], 20)
    assert heard == [{"request": identity, "endpoint": "support", "version": "away", "rating": "down"}]
    rows = served.client.sql(
        "SELECT r.endpoint, f.rating, t.prompt FROM feedback f JOIN requests r USING (id) JOIN request_texts t USING (id)"
    )["rows"]
    assert rows == [["support", "down", '[{"role":"user","content":"write to [EMAIL]"}]']]
    everything = "".join(path.read_text() for path in served.client.home.root.rglob("*.jsonl"))
    assert "example.org" not in everything, "redacted in one place and not in another: spool or audit log"
    assert "[EMAIL]" in everything


def test_filters_aliases_and_pages(served: Served, backend: FakeBackend) -> None:
    backend.script.append(says(400, b'{"error": {"message": "no"}}'))
    assert served.ask("bad")[0] == 400
    served.ask("good")
    served.recorded(2, endpoint="help")
    serving = served.client.serving
    assert [row["status"] for row in serving.requests(endpoint="support", status="error")["rows"]] == [400]
    assert serving.requests(endpoint="gone", status="2xx", count=True, limit=4)["total"] == 10
    first = serving.requests(endpoint="gone", limit=4)
    second = serving.requests(endpoint="gone", limit=100, before=first["next"])
    assert [row["id"] for row in [*first["rows"], *second["rows"]]] == [f"req_{number:08d}" for number in reversed(range(10))]
    assert second["next"] is None
    assert serving.requests(key="nobody")["rows"] == []
    assert len(serving.requests(endpoint="gone", key="k1", slower_than_ms=499, since=T0 + 8)["rows"]) == 2


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"status": "bad"}, "status: 'bad' is neither a number"), ({"status": "9xx"}, "status"), ({"status": "777"}, "status"),
        ({"limit": 0}, "limit"), ({"limit": 10**6}, "limit"), ({"slower_than_ms": -1.0}, "slower_than_ms"), ({"before": 1e12}, "before"),
        ({"since": float("nan")}, "since"), ({"endpoint": "x" * 300}, "endpoint"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_names_its_field(served: Served, chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        served.client.serving.requests(**chosen)


def test_what_is_not_there_is_not_found(served: Served) -> None:
    with pytest.raises(NotFoundError, match="no request 'req_none' is recorded"):
        served.client.serving.request("req_none")
    for ask in (served.client.serving.latency, served.client.serving.live):
        with pytest.raises(NotFoundError, match="no endpoint 'nowhere'"):
            ask("nowhere")
    with pytest.raises(UsageError, match="since: must be before until"):
        served.client.serving.latency("support", since=T0 + 1, until=T0)


def test_latency_past_and_present(served: Served) -> None:
    served.ask("now", stream=True)
    served.recorded(1, endpoint="support")
    past = served.client.serving.latency("gone", since=T0, until=T0 + 10, points=2)
    assert (past["seconds"], [point["requests"] for point in past["versions"]["v1"]]) == (5, [5, 5])
    assert past["versions"]["v1"][0]["ttft_p99"] == pytest.approx(100)
    assert served.client.serving.latency("gone")["versions"] == {}
    lately = served.client.serving.latency("help")
    assert (lately["endpoint"], list(lately["versions"])) == ("support", ["away"])
    live = wait_for(lambda: told if (told := served.client.serving.live("help"))["versions"]["away"]["windows"] else None, 20)
    assert live["versions"]["away"]["windows"]["60"]["requests"] >= 1
    assert live["versions"]["away"]["load"]["running"] is None
    assert "no server of one's own" in live["energy_basis"]


def test_what_was_recorded_while_no_engine_ran_is_there_when_one_does(served: Served) -> None:
    kill_engine(served.client.home)
    asked = [served.ask(f"alone {number}")[1] for number in range(5)]
    served.client.ensure_engine()
    newest = wait_for(lambda: rows if (rows := served.client.serving.requests(limit=5)["rows"])[0]["id"] == asked[-1] else None, 20)
    assert [row["id"] for row in newest] == asked[::-1]


def test_a_spool_the_disk_refused_is_a_warning(tmp_path: Path) -> None:
    with running_engine(tmp_path) as client:
        assert client.status()["engine"]["warnings"] == []
        spool = client.home.gateway / "spool"
        append(spool, "requests-000001.jsonl", request(1))
        wait_for(lambda: client.serving.requests()["rows"], 20)
        (spool / "requests-000002.jsonl").mkdir()
        told = wait_for(lambda: client.status()["engine"]["warnings"], 20)
        assert told == ["requests-000002.jsonl cannot be read: Is a directory"]
        (spool / "requests-000002.jsonl").rmdir()
        wait_for(lambda: not client.status()["engine"]["warnings"], 20)
