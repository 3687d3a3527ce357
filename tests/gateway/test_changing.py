"""A change of configuration: from here on for new requests, without one that fails; a bad one changes nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.serving.gateway.config import parse_config
from llmops_tui.engine.serving.gateway.config_reading import ConfigError
from tests.gateway.fake_backend import FakeBackend, Gate, stream
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, key, post, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]


def broken(field: str, value: Any) -> dict[str, Any]:
    """A good configuration but for one field, given by its path."""
    whole: dict[str, Any] = {
        "revision": 9,
        "listen": {"host": "127.0.0.1", "port": 0},
        "auth": "none",
        "limits": {"body_bytes": 1000},
        "keys": [key("a")],
        "replicas": {"r1": {"host": "127.0.0.1", "port": 1, "state": "ready", "adapters": {}}},
        "providers": {"p": {"api": "openai", "base_url": "https://host/v1", "model": "x"}},
        "endpoints": {"m": endpoint("r1", aliases=["a"], slo={"ttft_ms": 1}, mirror=[])},
        "redactors": [{"name": "n", "pattern": "x", "replacement": "y"}],
    }
    at: Any = whole
    *path, last = field.split("/")
    for step in path:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[int(last) if isinstance(at, list) else last] = value
    return whole


BAD: list[tuple[str, Any, str]] = [
    ("revision", "nine", "revision: must be a whole number"),
    ("revision", -1, "revision: must be a whole number"),
    ("listen", [], "listen: must be an object"),
    ("listen/port", 70_000, "listen.port: must be a whole number from 0 to 65535"),
    ("auth", "maybe", "auth: must be one of none, keys"),
    ("limits/body_bytes", 0, "limits.body_bytes"),
    ("limits/body_bytes", True, "limits.body_bytes"),
    ("limits/stall_seconds", "long", "limits.stall_seconds"),
    ("keys", {}, "keys: must be a list"),
    ("keys/0/sha256", "abc", "keys[0].sha256: must be 64 hexadecimal digits"),
    ("keys/0/id", None, "keys[0].id: must be a text, it is missing"),
    ("keys/0/endpoints", "m", "keys[0].endpoints: must be a list of texts"),
    ("keys/0/tokens_per_day", 0.5, "keys[0].tokens_per_day"),
    ("keys/0", "secret", "keys[0]: must be an object"),
    ("replicas", [], "replicas: must be an object"),
    ("replicas/r1/port", "80", "replicas.r1.port"),
    ("replicas/r1/state", "asleep", "replicas.r1.state: must be one of"),
    ("replicas/r1/adapters", {"a": 1}, "replicas.r1.adapters: must be an object of texts"),
    ("replicas/bad name\r\n", {}, "a name has letters"),
    ("providers/p/api", "cohere", "providers.p.api: must be one of openai, anthropic, gemini"),
    ("providers/p/base_url", "ftp://host", "providers.p.base_url"),
    ("providers/p/base_url", "https://user:key@host/v1", "providers.p.base_url"),
    ("providers/p/base_url", "https://host/v1?key=abc", "providers.p.base_url"),
    ("providers/p/base_url", "https://host/v1\r\nX-Evil: 1", "providers.p.base_url"),
    ("providers/p/base_url", "https://host:99999/", "providers.p.base_url"),
    ("providers/p/base_url", "https://[::1", "providers.p.base_url"),
    ("providers/p/base_url", "https:///v1", "providers.p.base_url"),
    ("providers/p/input_per_million", -1, "providers.p.input_per_million"),
    ("providers/r1", {"base_url": "https://h", "model": "x"}, "providers.r1: a replica has this name"),
    ("endpoints/m/versions", {}, "endpoints.m.versions: must be a list"),
    ("endpoints/m/versions/0/weight", -1, "endpoints.m.versions[0].weight"),
    ("endpoints/m/versions/0/name", "a\nb", "a name has letters"),
    ("endpoints/m/versions/0/replicas", ["r9"], "no replica is called 'r9'"),
    ("endpoints/m/versions/0/provider", "q", "no provider is called 'q'"),
    ("endpoints/m/mirror", [{"version": "v9"}], "no version is called 'v9'"),
    ("endpoints/m/fallbacks", ["m"], "no other endpoint is called 'm'"),
    ("endpoints/m/fallbacks", ["q"], "no other endpoint is called 'q'"),
    ("endpoints/m/sticky", "always", "endpoints.m.sticky: must be one of"),
    ("endpoints/m/balance", "fair", "endpoints.m.balance: must be one of"),
    ("endpoints/m/retries", 99, "endpoints.m.retries"),
    ("endpoints/m/text_fraction", 1.5, "endpoints.m.text_fraction"),
    ("endpoints/m/redact", "yes", "endpoints.m.redact: must be true or false"),
    ("endpoints/bad name", endpoint("r1"), "a name has letters"),
    ("redactors/0/pattern", "(", "redactors[0].pattern: not a pattern"),
    ("redactors/0/replacement", r"\9", "redactors[0].pattern: not a pattern"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "says"), BAD, ids=lambda value: str(value)[:30])
def test_a_configuration_that_cannot_be_used_is_refused_by_the_field(field: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(json.dumps(broken(field, value)).encode())
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_configuration_around_the_broken_fields_is_good() -> None:
    assert parse_config(json.dumps(broken("revision", 10)).encode()).revision == 10


@pytest.mark.parametrize(
    "bad", ["", "{", "[]", '{"listen": 5}', "\0", '{"endpoints": {"m": {"versions": [{"name": "v1", "replicas": ["no"]}]}}}']
)
def test_a_bad_configuration_changes_nothing_and_is_said(gateway: RunningGateway, bad: str) -> None:
    status, answer = gateway.reload(bad)
    assert (status, answer["error"]["code"]) == (409, "config_refused")
    assert gateway.chat().status == 200
    state = gateway.status()
    assert (state["revision"], "refused" in state["config_error"]) == (1, True)


def test_a_change_on_disk_is_found_without_being_told(backend: FakeBackend, gateway: RunningGateway) -> None:
    gateway.write({**config({"r1": backend}, {"n": endpoint("r1")}), "revision": 2})
    wait_for(lambda: gateway.status()["revision"] == 2, 5)
    assert (gateway.chat(model="n").status, gateway.chat().status) == (200, 404)


def test_a_gateway_that_starts_with_a_bad_configuration_goes_on_with_the_last_good_one(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}))
    gateway.close()
    (gateway.directory / "config.json").write_text('{"endpoints": ')
    second = RunningGateway(gateway.directory, '{"endpoints": ')
    try:
        assert second.chat().status == 200
        assert "config.json" in second.status()["config_error"]
    finally:
        second.close()


def test_a_stream_under_way_ends_as_it_began_though_its_endpoint_is_taken_away(
    backend: FakeBackend, other: FakeBackend, start: Start
) -> None:
    gateway = start(config({"r1": backend}))
    gate = Gate(backend)
    backend.script.append(stream(["one", "two"], gate.passed))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True)))
        read_until(connection, b"assistant")
        assert gateway.reload({**config({"r2": other}, {"n": endpoint("r2")}), "revision": 2})[0] == 200
        assert gateway.chat().status == 404
        assert gateway.chat(model="n").status == 200
        gate.open()
        assert b"two" in read_until(connection, b"0\r\n\r\n")
    line = gateway.record(stream=True)
    assert (line["endpoint"], line["status"], line["replica"]) == ("m", 200, "r1")


def test_weights_and_replicas_change_under_load_without_a_failed_request(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    def rules(revision: int) -> dict[str, Any]:
        names = ["r1", "r2"] if revision % 3 else ["r2"]
        versions = [{"name": f"v{name[1:]}", "weight": 1 + revision % 2, "replicas": [name]} for name in names]
        all_replicas = config({"r1": backend, "r2": other}, {"m": {"versions": versions}})
        all_replicas["replicas"] = {name: all_replicas["replicas"][name] for name in names}
        return {**all_replicas, "revision": revision}

    gateway = start(rules(1))
    statuses: list[int] = []
    stop = threading.Event()

    def asks(streamed: bool) -> None:
        while not stop.is_set():
            answered = gateway.chat(stream=streamed)
            statuses.append(answered.status if not streamed or answered.events[-1] == "[DONE]" else 0)

    askers = [threading.Thread(target=asks, args=(number % 2 == 0,)) for number in range(4)]
    for asker in askers:
        asker.start()
    for revision in range(2, 60):
        assert gateway.reload(rules(revision))[0] == 200
    stop.set()
    for asker in askers:
        asker.join(20)
    assert set(statuses) == {200}
    assert len(statuses) > 50
    assert len(gateway.records()) == len(statuses)


def test_a_rollback_takes_effect_for_the_next_request(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    def to(name: str, revision: int) -> dict[str, Any]:
        versions = [{"name": each, "weight": float(each == name), "replicas": [f"r{each[1]}"]} for each in ("v1", "v2")]
        return {**config({"r1": backend, "r2": other}, {"m": {"versions": versions}}), "revision": revision}

    gateway = start(to("v2", 1))
    for revision in range(2, 8):
        name = "v1" if revision % 2 else "v2"
        gateway.reload(to(name, revision))
        assert gateway.chat().headers["x-llmops-version"] == name


def test_another_port_is_listened_on_and_those_who_came_by_the_old_one_stay(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}))
    gate = Gate(backend)
    backend.script.append(stream(["one"], gate.passed))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True)))
        read_until(connection, b"assistant")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        assert gateway.reload({**config({"r1": backend}), "listen": {"host": "127.0.0.1", "port": port}, "revision": 2})[0] == 200
        wait_for(lambda: gateway.process.port == port)
        assert json.loads((gateway.directory / "state.json").read_text())["port"] == port
        gate.open()
        assert b"[DONE]" in read_until(connection, b"0\r\n\r\n")
    gateway.port = port
    assert gateway.chat().status == 200


def test_a_port_in_use_is_said_and_the_old_one_stays(backend: FakeBackend, gateway: RunningGateway) -> None:
    taken = {"host": "127.0.0.1", "port": backend.port}
    assert gateway.reload({**config({"r1": backend}), "listen": taken, "revision": 2})[0] == 200
    wait_for(lambda: f"port {backend.port}" in gateway.status()["config_error"])
    assert gateway.chat().status == 200


def test_a_drained_replica_gets_nothing_new_and_is_told_of_when_it_is_empty(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend, "r2": other}))
    gate = Gate(backend)
    backend.otherwise = stream(["x"], gate.passed)
    with gateway.connect() as connection:
        while not backend.asked():
            connection.sendall(post(chat_body(stream=True)))
            read_until(connection, b"assistant" if backend.asked() else b"\r\n\r\n")
        status, answer = gateway.control("POST", "/control/drain", {"replica": "r1", "seconds": 0})
        assert (status, answer["in_flight"]) == (200, 1)
        asked = len(backend.asked())
        assert {gateway.chat().headers["x-llmops-replica"] for _ in range(10)} == {"r2"}
        assert len(backend.asked()) == asked
        gate.open()
        assert gateway.control("POST", "/control/drain", {"replica": "r1", "seconds": 10})[1]["in_flight"] == 0
    backend.otherwise = other.otherwise
    assert gateway.control("POST", "/control/drain", {"replica": "r1", "undo": True})[0] == 200
    assert "r1" in {gateway.chat().headers["x-llmops-replica"] for _ in range(30)}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 404),
        ({"replica": "r9"}, 404),
        ({"replica": 5}, 404),
        ({"replica": "r1", "seconds": -1}, 400),
        ({"replica": "r1", "seconds": "x"}, 400),
    ],
)
def test_a_wish_on_the_control_socket_that_cannot_be_is_refused(gateway: RunningGateway, body: dict[str, Any], status: int) -> None:
    assert gateway.control("POST", "/control/drain", body)[0] == status
    assert gateway.control("GET", "/control/nothing")[0] == 404


def test_only_its_user_may_open_the_control_socket(gateway: RunningGateway) -> None:
    socket_path: Path = gateway.directory / "control.sock"
    assert socket_path.stat().st_mode & 0o077 == 0
    for path in (gateway.directory / "spool").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (gateway.directory / "config.good.json").stat().st_mode & 0o077 == 0
