"""Which version and replica a request goes to, what happens when that one fails, and who waits for one that is not there yet."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from llmops_tui.engine.serving.gateway import balance
from llmops_tui.engine.serving.gateway.breaker import FAILURES_TO_OPEN, MOST_SECONDS, Breaker
from llmops_tui.engine.serving.gateway.config import ReplicaRule
from llmops_tui.engine.serving.gateway.replica import Replica
from tests.gateway.fake_backend import FakeBackend, Gate, hangs_up, says, stream, whole
from tests.gateway.running import Answered, RunningGateway, chat_body, config, endpoint, key, post, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]
BUSY = says(503, b'{"error":{"message":"busy"}}')


def versions(**weights: float) -> list[dict[str, Any]]:
    """v1 on r1, v2 on r2, …, with these weights."""
    return [{"name": name, "model": f"m@{name}", "weight": weight, "replicas": [f"r{name[1:]}"]} for name, weight in weights.items()]


def two(backend: FakeBackend, other: FakeBackend, weights: dict[str, float] | None = None, **fields: Any) -> dict[str, Any]:
    """The endpoint m with v1 on r1 and v2 on r2."""
    return config({"r1": backend, "r2": other}, {"m": {"versions": versions(**(weights or {"v1": 1, "v2": 1})), **fields}})


def served_by(answered: Answered) -> str:
    assert answered.status == 200, answered.body
    return answered.headers["x-llmops-version"]


# Weights, names, stickiness


def test_requests_spread_over_versions_by_their_weights(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, {"v1": 95, "v2": 5}))
    points = iter(number / 200 for number in range(200))
    gateway.process.gateway.core.random = lambda: next(points)
    assert Counter(served_by(gateway.chat()) for _ in range(200)) == {"v1": 190, "v2": 10}


def test_a_version_without_weight_is_reached_by_its_name_only(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, {"v1": 1, "v2": 0}))
    assert {served_by(gateway.chat()) for _ in range(20)} == {"v1"}
    assert served_by(gateway.chat(model="m@v2")) == "v2"
    assert served_by(gateway.chat(model="m:v2")) == "v2"
    assert gateway.record(version="v2")["endpoint"] == "m"


@pytest.mark.parametrize("sticky", ["session", "key"])
def test_a_session_or_a_key_stays_with_one_version(backend: FakeBackend, other: FakeBackend, start: Start, sticky: str) -> None:
    secrets = [f"s{number}" for number in range(12)]
    gateway = start({**two(backend, other, sticky=sticky), "keys": [key(secret) for secret in secrets]})

    def ask(secret: str) -> str:
        headers = {"x-session-id": secret} if sticky == "session" else {"authorization": f"Bearer {secret}"}
        return served_by(gateway.chat(headers=headers))

    first = {secret: ask(secret) for secret in secrets}
    assert set(first.values()) == {"v1", "v2"}
    for _ in range(3):
        assert {secret: ask(secret) for secret in secrets} == first
    assert gateway.reload({**two(backend, other, sticky=sticky), "keys": [key(secret) for secret in secrets], "revision": 2})[0] == 200
    assert {secret: ask(secret) for secret in secrets} == first


def test_the_user_of_a_body_is_its_session_where_no_header_says_one(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, sticky="session"))
    by_header = served_by(gateway.chat(headers={"x-session-id": "ann"}))
    assert {served_by(gateway.chat(user="ann")) for _ in range(8)} == {by_header}
    assert gateway.record(session="ann")["version"] == by_header


def test_a_session_moves_when_its_version_is_gone_and_comes_back_with_it(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, sticky="session", retries=0))
    name = next(name for name in "abcdefghij" if served_by(gateway.chat(user=name)) == "v2")
    down = two(backend, other, sticky="session", retries=0)
    down["replicas"]["r2"]["state"] = "down"
    assert gateway.reload({**down, "revision": 2})[0] == 200
    assert served_by(gateway.chat(user=name)) == "v1"
    assert gateway.reload({**two(backend, other, sticky="session", retries=0), "revision": 3})[0] == 200
    assert served_by(gateway.chat(user=name)) == "v2"


# Replicas


class Load:
    def __init__(self, name: str, tokens: int) -> None:
        self.id = name
        self.outstanding_tokens = tokens


def test_of_two_drawn_replicas_the_less_loaded_is_taken_and_never_one_twice() -> None:
    replicas = [Load("a", 30), Load("b", 10), Load("c", 20)]
    drawn = Counter(balance.least_tokens(replicas, a / 30, b / 20).id for a in range(30) for b in range(20))
    assert set(drawn) == {"b", "c"}, "the most loaded one never wins"
    assert drawn["b"] == 2 * drawn["c"]


def test_a_busy_replica_gets_no_more_while_another_is_free(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend, "r2": other}))
    gates = [Gate(backend), Gate(other)]
    backend.otherwise, other.otherwise = stream(["x"], gates[0].passed), stream(["x"], gates[1].passed)
    with gateway.connect() as first, gateway.connect() as second:
        for connection in (first, second):
            connection.sendall(post(chat_body("long " * 500, stream=True)))
            read_until(connection, b"assistant")
        assert len(backend.asked()) == len(other.asked()) == 1
        for gate in gates:
            gate.open()
        for connection in (first, second):
            read_until(connection, b"0\r\n\r\n")
    states = gateway.status()["replicas"].values()
    assert [(state["outstanding"], state["outstanding_tokens"]) for state in states] == [(0, 0)] * 2


def test_a_prefix_goes_where_it_went_before(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", "r2", balance="prefix")}))
    prompts = [f"{number} " + "the same system prompt " * 60 for number in range(8)]
    where = {prompt: {gateway.chat(prompt + str(turn)).headers["x-llmops-replica"] for turn in range(4)} for prompt in prompts}
    assert all(len(replicas) == 1 for replicas in where.values())
    assert set.union(*where.values()) == {"r1", "r2"}


def test_a_prefix_leaves_a_replica_that_is_far_busier_than_the_others() -> None:
    chosen = balance.prefix([Load("a", 0), Load("b", 0)], b"x", 0, 0).id
    loads = [Load(name, 100_000 if name == chosen else 100) for name in "ab"]
    assert balance.prefix(loads, b"x", 0.1, 0.9).id != chosen


def test_affinity_moves_only_what_was_on_the_replica_that_left() -> None:
    names = [Load(name, 0) for name in "abcde"]
    marks = [str(number).encode() for number in range(500)]
    before = {mark: balance.by_affinity(names, mark).id for mark in marks}
    after = {mark: balance.by_affinity([load for load in names if load.id != "c"], mark).id for mark in marks}
    assert {mark for mark in marks if before[mark] != after[mark]} == {mark for mark in marks if before[mark] == "c"}
    assert min(Counter(before.values()).values()) > 60


def test_round_robin_takes_turns(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", "r2", balance="round_robin")}))
    turns = [gateway.chat().headers["x-llmops-replica"] for _ in range(6)]
    assert turns in (["r1", "r2"] * 3, ["r2", "r1"] * 3)


def test_an_adapter_is_asked_for_where_it_is_loaded(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    rules = config({"r1": backend, "r2": other})
    rules["replicas"]["r2"]["adapters"] = {"polite": "lora-polite"}
    rules["endpoints"] = {"m": {"versions": [{"name": "polite", "replicas": ["r1", "r2"], "adapter": "polite"}]}}
    gateway = start(rules)
    assert {gateway.chat().headers["x-llmops-replica"] for _ in range(8)} == {"r2"}
    assert other.asked()[0].body["model"] == "lora-polite"


# Failures


def test_a_busy_replicas_request_is_taken_by_another_and_recorded_once(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    for act in (BUSY, says(429, b"{}"), hangs_up, says(502, b"")):
        gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", "r2", balance="round_robin", retries=1)}))
        backend.script.append(act)
        assert [gateway.chat().status for _ in range(2)] == [200, 200]
        assert not backend.script, "turns are taken, so that one of the two got there first"
        assert sorted(line["attempts"] for line in gateway.records()) == [1, 2]
        gateway.close()


def test_retries_have_an_end_and_the_last_error_is_told(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", "r2", retries=5)}))
    backend.otherwise = other.otherwise = BUSY
    answered = gateway.chat()
    assert (answered.status, answered.error["message"]) == (503, "busy")
    assert gateway.record(status=503)["attempts"] == 2
    assert len(backend.asked()) == len(other.asked()) == 1


def test_without_retries_nothing_is_tried_again(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", "r2", retries=0)}))
    backend.otherwise = other.otherwise = BUSY
    assert gateway.chat().status == 503
    assert len(backend.asked()) + len(other.asked()) == 1


def test_a_failure_that_would_come_again_is_not_tried_again(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", "r2", retries=3)}))
    for status in (400, 404, 422, 500):
        backend.otherwise = other.otherwise = says(status, b'{"error":{"message":"no"}}')
        assert gateway.chat().status == status
    assert len(backend.asked()) + len(other.asked()) == 4


def test_fallbacks_are_asked_in_their_order(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    endpoints = {"m": endpoint(fallbacks=["first", "second"]), "first": endpoint("r1", fallbacks=["m"]), "second": endpoint("r2")}
    gateway = start(config({"r1": backend, "r2": other}, endpoints))
    answered = gateway.chat()
    assert answered.headers["x-llmops-replica"] == "r1"
    line = gateway.record(id=answered.headers["x-request-id"])
    assert (line["endpoint"], line["fallback_from"], line["version"]) == ("first", "m", "v1")
    backend.otherwise = BUSY
    line = gateway.record(id=gateway.chat().headers["x-request-id"])
    assert (line["endpoint"], line["fallback_from"], line["replica"], line["attempts"]) == ("second", "m", "r2", 2)
    other.otherwise = BUSY
    answered = gateway.chat()
    assert (answered.status, answered.error["message"]) == (503, "busy")
    line = gateway.record(status=503)
    assert (line["endpoint"], line["fallback_from"], line["version"], line["replica"], line["attempts"]) == ("second", "m", "v1", "r2", 2)
    assert gateway.status()["in_flight"] == 0


def test_a_fallback_that_nobody_serves_is_not_recorded_as_what_failed_before_it(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": endpoint("r1", fallbacks=["n"]), "n": endpoint()}))
    backend.otherwise = BUSY
    assert gateway.chat().status == 503
    line = gateway.record(status=503)
    assert (line["endpoint"], line["fallback_from"], line["version"], line["replica"], line["error"]) == ("n", "m", "", "", "busy")


def test_a_replica_that_fails_again_and_again_is_left_alone_and_tried_once_later(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": endpoint("r1", retries=0)}))
    wait_for(lambda: gateway.request("GET", "/health").status == 200, 10, "the watch's own token would close the circuit")
    backend.otherwise = BUSY
    assert [gateway.chat().status for _ in range(FAILURES_TO_OPEN)] == [503] * FAILURES_TO_OPEN
    assert gateway.status()["replicas"]["r1"]["breaker"] == "open"
    refused = gateway.chat()
    assert (refused.status, refused.error["code"]) == (503, "no_replica")
    assert int(refused.headers["retry-after"]) >= 1
    assert len(backend.asked()) == FAILURES_TO_OPEN
    backend.otherwise = says(200, json.dumps(whole()).encode())
    wait_for(lambda: gateway.chat().status == 200, 5, "the trial closes the circuit")
    assert gateway.status()["replicas"]["r1"]["breaker"] == "closed"


def test_a_circuit_lets_one_through_when_half_open_and_waits_longer_each_time() -> None:
    circuit, now = Breaker(), 0.0
    for _ in range(FAILURES_TO_OPEN):
        assert circuit.allows(now)
        circuit.failed(now)
    waits = []
    for _ in range(8):
        assert not circuit.allows(now)
        wait = next(step / 10 for step in range(1, 1000) if circuit.allows(now + step / 10))
        waits.append(wait)
        now += wait
        circuit.taken()
        assert not circuit.allows(now + 100), "one at a time"
        circuit.failed(now)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1.0, MOST_SECONDS)
    assert circuit.allows(now + MOST_SECONDS)
    circuit.taken()
    circuit.abandoned()
    assert circuit.allows(now + MOST_SECONDS), "a trial without a verdict blocks nobody"
    circuit.succeeded()
    assert circuit.state == "closed"


def test_a_success_between_failures_keeps_the_circuit_closed(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": endpoint("r1", retries=0)}))
    for _ in range(3):
        backend.script += [BUSY] * (FAILURES_TO_OPEN - 1)
        assert [gateway.chat().status for _ in range(FAILURES_TO_OPEN)] == [503] * (FAILURES_TO_OPEN - 1) + [200]
    assert gateway.status()["replicas"]["r1"]["breaker"] == "closed"


# On demand


def test_a_request_waits_for_a_replica_that_is_started_for_it(backend: FakeBackend, start: Start) -> None:
    asleep = config({}, {"m": endpoint(on_demand=True)})
    gateway = start(asleep)
    answers: list[Answered] = []
    asking = threading.Thread(target=lambda: answers.append(gateway.chat()))
    asking.start()
    waiting = wait_for(lambda: state if (state := gateway.status()["endpoints"]["m"])["waiting"] else None)
    assert waiting["wanted_since"] is not None
    assert gateway.request("GET", "/health").json["endpoints"]["m"]["asleep"] is True
    assert gateway.reload({**config({"r1": backend}, {"m": endpoint("r1", on_demand=True)}), "revision": 2})[0] == 200
    asking.join(10)
    assert [answered.status for answered in answers] == [200]
    after = gateway.status()["endpoints"]["m"]
    assert (after["waiting"], after["wanted_since"]) == (0, None)
    assert gateway.record(status=200)["queue_ms"] > 0


def test_a_request_waits_as_long_as_it_may_and_then_asks_the_fallback(backend: FakeBackend, start: Start) -> None:
    patient = endpoint(on_demand=True, on_demand_seconds=0.2)
    gateway = start(config({"r1": backend}, {"m": patient, "n": {**patient, "fallbacks": ["o"]}, "o": endpoint("r1")}))
    answered = gateway.chat()
    assert (answered.status, answered.error["code"]) == (503, "no_replica")
    assert gateway.record(status=503)["queue_ms"] >= 200
    assert gateway.chat(model="n").status == 200
    assert gateway.status()["endpoints"]["m"]["wanted_since"] is None


def test_a_client_that_stops_waiting_wants_nothing_any_more(start: Start) -> None:
    gateway = start(config({}, {"m": endpoint(on_demand=True)}))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body()))
        wait_for(lambda: gateway.status()["endpoints"]["m"]["waiting"] == 1)
    assert gateway.record(client_gone=True)["status"] == 499
    state = gateway.status()
    assert (state["endpoints"]["m"]["waiting"], state["endpoints"]["m"]["wanted_since"], state["in_flight"]) == (0, None, 0)


def test_a_waiting_request_goes_on_when_a_circuit_closes(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": endpoint("r1", on_demand=True, on_demand_seconds=20, retries=0)}))
    backend.script += [BUSY] * FAILURES_TO_OPEN
    assert [gateway.chat().status for _ in range(FAILURES_TO_OPEN)] == [503] * FAILURES_TO_OPEN
    answered = gateway.chat()
    assert answered.status == 200
    assert gateway.record(id=answered.headers["x-request-id"])["total_ms"] < 5000


def test_requests_whose_endpoint_is_taken_away_while_they_wait_are_answered_at_once(backend: FakeBackend, start: Start) -> None:
    patient = endpoint(on_demand=True, on_demand_seconds=600)
    gateway = start(config({}, {"m": patient, "with": {**patient, "fallbacks": ["o"]}, "o": endpoint(), "stays": patient}))
    answers: dict[str, list[Answered]] = {"m": [], "with": [], "stays": []}
    asking = [threading.Thread(target=lambda name=name: answers[name].append(gateway.chat(model=name))) for name in ("m", "m", *answers)]
    for asker in asking:
        asker.start()
    counts = {"m": 3, "with": 1, "stays": 1}
    wait_for(lambda: all(gateway.status()["endpoints"][name]["waiting"] == count for name, count in counts.items()))
    left = {"o": endpoint("r1"), "stays": patient}
    assert gateway.reload({**config({"r1": backend}, left), "revision": 2})[0] == 200
    for asker in asking[:-1]:
        asker.join(10)  # the configuration gives them ten minutes
    assert [(answered.status, answered.error["code"]) for answered in answers["m"]] == [(404, "model_not_found")] * 3
    assert "m was stopped while the request waited" in gateway.record(status=404, endpoint="m")["error"]
    assert [answered.status for answered in answers["with"]] == [200]
    assert (answers["stays"], gateway.status()["endpoints"]["stays"]["waiting"]) == ([], 1)
    awake = {"o": endpoint("r1"), "stays": {**patient, **endpoint("r1")}}
    assert gateway.reload({**config({"r1": backend}, awake), "revision": 3})[0] == 200
    asking[-1].join(10)
    assert [answered.status for answered in answers["stays"]] == [200]
    assert gateway.status()["in_flight"] == 0


class OnSix(FakeBackend):
    """Listens on ::1."""

    def start(self) -> None:
        self._server = self.call(asyncio.start_server(self._serve, "::1", self.port))
        self.port = self._server.sockets[0].getsockname()[1]


def has_six() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "said"), [("::1", b"Host: [::1]:81\r\n"), ("127.0.0.1", b"Host: 127.0.0.1:81\r\n"), ("a.b", b"Host: a.b:81\r\n")]
)
def test_a_server_is_named_by_its_address_and_an_ipv6_one_in_brackets(host: str, said: bytes) -> None:
    loop = asyncio.new_event_loop()
    assert Replica(loop, ReplicaRule("r1", host, 81, "", 1, 0, "ready", {})).request_head.startswith(said)
    loop.close()


@pytest.mark.skipif(not has_six(), reason="this box has no IPv6")
def test_a_server_on_ipv6_is_asked_with_its_address_in_brackets(start: Start) -> None:
    backend = OnSix()
    rules = config({"r1": backend})
    rules["replicas"]["r1"]["host"] = "::1"
    gateway = start(rules)
    assert gateway.chat().status == 200
    assert backend.asked()[0].headers["host"] == f"[::1]:{backend.port}"
    wait_for(lambda: gateway.request("GET", "/health").status == 200)
    backend.close()


# Shadow traffic


def test_a_mirrored_request_goes_there_too_and_its_answer_to_nobody(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, {"v1": 1, "v2": 0}, mirror=[{"version": "v2", "fraction": 1}]))
    other.script.append(says(200, json.dumps(whole("of the shadow")).encode()))
    answered = gateway.chat("hello")
    assert answered.json["choices"][0]["message"]["content"] == "hello"
    shadow = gateway.record(mirror=True)
    assert (shadow["version"], shadow["replica"], shadow["status"], shadow["key"]) == ("v2", "r2", 200, "")
    assert shadow["prompt_hash"] == gateway.record(mirror=False)["prompt_hash"]
    assert other.asked()[0].body["messages"] == backend.asked()[0].body["messages"]
    status = gateway.status()
    seen = status["endpoints"]["m"]["versions"]
    assert (seen["v1"]["requests"], seen["v2"]["requests"], seen["v2"]["mirrored"]) == (1, 0, {"requests": 1, "errors": 0})
    assert status["latency_mirrored"]["m"]["v2"]["60"]["total_p50"] > 0
    assert "v2" not in status["latency"]["m"]
    metrics = gateway.request("GET", "/metrics").body.decode()
    assert 'llmops_mirrored_requests_total{endpoint="m",version="v2",status="200"} 1' in metrics
    assert 'llmops_requests_total{endpoint="m",version="v2"' not in metrics


def test_a_share_is_mirrored(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, {"v1": 1, "v2": 0}, mirror=[{"version": "v2", "fraction": 0.25}]))
    points = iter([0.1, 0.9, 0.3, 0.2, 0.5, 0.24, 0.26, 0.7])
    gateway.process.gateway.core.random = lambda: next(points)
    for _ in range(8):
        assert gateway.chat().status == 200
    wait_for(lambda: len(gateway.records()) == 11)
    assert len(other.asked()) == 3


def test_a_shadow_that_fails_or_hangs_harms_nobody(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, {"v1": 1, "v2": 0}, mirror=[{"version": "v2", "fraction": 1}], retries=3))
    other.otherwise = BUSY
    assert gateway.chat(stream=True).events[-1] == "[DONE]"
    shadow = gateway.record(mirror=True)
    assert (shadow["status"], shadow["attempts"]) == (503, 1)
    other.otherwise = stream(["x"], Gate(other).passed)
    for _ in range(3):
        assert gateway.chat(stream=True).events[-1] == "[DONE]"
    assert len(backend.asked()) == 4


def test_a_version_that_answers_is_not_its_own_shadow(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": {**endpoint("r1"), "mirror": [{"version": "v1", "fraction": 1}]}}))
    for _ in range(3):
        assert gateway.chat().status == 200
    assert [line["mirror"] for line in gateway.records()] == [False] * 3


def test_shadows_do_not_pile_up(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    gateway = start(two(backend, other, {"v1": 1, "v2": 0}, mirror=[{"version": "v2", "fraction": 1}]))
    other.otherwise = stream(["x"], Gate(other).passed)
    for _ in range(80):
        assert gateway.chat(stream=True).status == 200
    assert gateway.status()["endpoints"]["m"]["versions"]["v2"]["in_flight"] == 64
