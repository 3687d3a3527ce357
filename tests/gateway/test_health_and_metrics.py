"""What the gateway says of itself: healthy only when a completion came back lately, and figures that any scraper can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmops_tui.engine.serving.gateway import health as health_module
from llmops_tui.engine.serving.gateway import pages
from tests.gateway.exposition_parser import Family, Labels, parse
from tests.gateway.fake_backend import Asked, FakeBackend, Gate, hangs_up, obey, says, stream, waits
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, key, post, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]


def of(family: Family, sample: str, **labels: str) -> float:
    wanted: Labels = tuple(sorted(labels.items()))
    return family.samples[sample, wanted]


# Health


def test_a_gateway_is_healthy_when_a_completion_came_back_and_not_before(backend: FakeBackend, start: Start) -> None:
    backend.otherwise = says(500, b"")
    gateway = start(config({"r1": backend}, {"m": endpoint("r1"), "n": endpoint()}))
    state = gateway.request("GET", "/health?endpoint=n")
    assert (state.status, state.json["status"], state.json["endpoints"]["n"]["ok"]) == (503, "down", False)
    wait_for(lambda: gateway.request("GET", "/health").status == 200, 10, "the watch asks for a token")
    state = gateway.request("GET", "/health")
    assert state.json["status"] == "degraded"
    assert state.json["endpoints"]["m"]["ok"] is True
    assert gateway.request("GET", "/health?endpoint=m").json["status"] == "ok"
    assert gateway.request("GET", "/health?endpoint=nothing").status == 404


def test_names_are_told_to_those_who_may_ask(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, auth="keys", keys=[key("a")]))
    wait_for(lambda: gateway.request("GET", "/health").status == 200)
    assert gateway.request("GET", "/health").json == {"status": "ok"}
    assert gateway.request("GET", "/health", headers={"Authorization": "Bearer wrong"}).json == {"status": "ok"}
    assert gateway.request("GET", "/health", headers={"Authorization": "Bearer a"}).json["endpoints"]["m"]["ok"] is True


def test_without_a_key_an_endpoint_that_is_there_is_answered_as_one_that_is_not(backend: FakeBackend, start: Start) -> None:
    endpoints = {"m": endpoint("r1"), "n": endpoint()}
    gateway = start(config({"r1": backend}, endpoints, auth="keys", keys=[key("a"), key("b", endpoints=["m"])]))
    wait_for(lambda: gateway.request("GET", "/health").status == 200)
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answers = [gateway.request("GET", f"/health?endpoint={name}", headers=headers) for name in ("m", "n", "nothing", "")]
        assert [answered.status for answered in answers] == [401] * 4
        assert len({answered.body for answered in answers}) == 1
    asked = {
        (secret, name): gateway.request("GET", f"/health?endpoint={name}", headers={"Authorization": f"Bearer {secret}"}).status
        for secret in "ab"
        for name in ("m", "n", "nothing")
    }
    assert asked == {("a", "m"): 200, ("a", "n"): 503, ("a", "nothing"): 404, ("b", "m"): 200, ("b", "n"): 404, ("b", "nothing"): 404}
    limited = gateway.request("GET", "/health", headers={"Authorization": "Bearer b"}).json
    assert (limited["status"], list(limited["endpoints"])) == ("ok", ["m"])
    assert list(gateway.request("GET", "/health", headers={"Authorization": "Bearer a"}).json["endpoints"]) == ["m", "n"]


def test_a_server_that_says_it_is_well_and_completes_nothing_is_not_healthy(
    backend: FakeBackend, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeBackend, "_one", never_a_token)
    gateway = start(config({"r1": backend}))
    wait_for(lambda: gateway.status()["replicas"]["r1"]["failures"] >= 2, 15)
    assert gateway.request("GET", "/health").status == 503
    state = wait_for(lambda: state if not (state := gateway.status()["replicas"]["r1"])["healthy"] else None, 15)
    assert "completion" in state["cause"]
    assert gateway.chat().status == 503


async def never_a_token(self: FakeBackend, reader: Any, writer: Any) -> bool:
    """GET /health is answered well; every completion fails."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = b"200 OK" if head.startswith(b"GET /health") else b"500 No"
    writer.write(b"HTTP/1.1 %b\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}" % status)
    await writer.drain()
    return False


def test_health_is_not_true_for_what_was_true_long_ago(
    backend: FakeBackend, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gateway.chat().status == 200
    assert gateway.request("GET", "/health").status == 200
    monkeypatch.setattr(pages, "LATELY_SECONDS", 0.0)
    assert gateway.request("GET", "/health").status == 503


def test_a_stopped_server_is_found_and_what_it_had_under_way_fails_and_it_comes_back_by_a_completion(
    backend: FakeBackend, other: FakeBackend, start: Start
) -> None:
    gateway = start(config({"r1": backend, "r2": other}, {"m": endpoint("r1", "r2")}))
    gates = [Gate(backend), Gate(other)]
    backend.otherwise, other.otherwise = stream(["x"], gates[0].passed), stream(["x"], gates[1].passed)
    with gateway.connect() as first, gateway.connect() as second:
        for connection in (first, second):
            connection.sendall(post(chat_body("long " * 300, stream=True)))
            read_until(connection, b"assistant")
        assert len(backend.asked()) == len(other.asked()) == 1
        backend.frozen = True
        state = wait_for(lambda: state if not (state := gateway.status()["replicas"]["r1"])["healthy"] else None, 10)
        assert "it does not answer" in state["cause"]
        line = gateway.record(status=502)
        assert line["replica"] == "r1"
        gates[1].open()
        other.otherwise = obey
        assert {gateway.chat().headers["x-llmops-replica"] for _ in range(5)} == {"r2"}
    gates[0].open()
    backend.frozen = False
    backend.otherwise = obey
    wait_for(lambda: gateway.status()["replicas"]["r1"]["healthy"], 15)
    assert {gateway.chat().headers["x-llmops-replica"] for _ in range(30)} == {"r1", "r2"}


def test_a_server_whose_health_page_hangs_and_who_completes_is_taken_as_well_once_it_was_seen_to(
    backend: FakeBackend, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "PROBE_SECONDS", 0.1)
    probed = 0

    async def hangs(asked: Asked) -> None:
        nonlocal probed
        probed += 1
        await waits(asked)

    backend.health = hangs
    replica = gateway.process.gateway.core.routes.replicas["r1"]
    wait_for(lambda: replica.failures == 1 and replica.healthy, 10, "it was doubted once, and completed")
    before = probed
    wait_for(lambda: probed >= before + 4, 10, "four more probes")
    assert (replica.healthy, replica.failures) == (True, 1)
    backend.health = says(200, b"{}")
    wait_for(lambda: not gateway.process.health._mute, 5, "its health page is believed again")


def test_a_busy_server_is_not_asked_for_a_token_of_its_own(
    backend: FakeBackend, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "COMPLETION_EVERY", 0.0)
    gate = Gate(backend)
    backend.script.append(stream(["x"], gate.passed))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True)))
        read_until(connection, b"assistant")
        seen = len(backend.seen)
        wait_for(lambda: sum(asked.path == "/health" for asked in backend.seen[seen:]) >= 2, 10)
        assert not [asked for asked in backend.seen[seen:] if asked.body is not None]
        gate.open()


# Metrics


def test_the_metrics_page_is_prometheus_text_with_the_agreed_names(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    endpoints = {"m": {**endpoint("r1"), "mirror": []}, "odd/name:1@x": endpoint("r2")}
    gateway = start(config({"r1": backend, "r2": other}, endpoints, auth="none", keys=[key("a", requests_per_minute=1)]))
    assert gateway.chat().status == 200
    assert gateway.chat(stream=True).status == 200
    backend.script.append(says(500, b"{}"))
    assert gateway.chat().status == 500
    backend.script += [hangs_up] * 2
    assert gateway.chat().status == 502
    assert gateway.chat(model="nothing").status == 404
    assert gateway.chat(model="odd/name:1@x").status == 200
    answered = gateway.request("GET", "/metrics")
    assert answered.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = parse(answered.body.decode())
    assert all(name.startswith("llmops_") for name in families)
    assert {"llmops_request_seconds", "llmops_ttft_seconds", "llmops_tokens_total", "llmops_requests_total"} <= set(families)
    requests = families["llmops_requests_total"]
    assert requests.kind == "counter"
    assert of(requests, "llmops_requests_total", endpoint="m", version="v1", status="200") == 2
    assert of(requests, "llmops_requests_total", endpoint="m", version="v1", status="500") == 1
    assert of(requests, "llmops_requests_total", endpoint="m", version="v1", status="502") == 1
    assert of(requests, "llmops_requests_total", endpoint="", version="", status="404") == 1
    tokens = families["llmops_tokens_total"]
    assert of(tokens, "llmops_tokens_total", endpoint="m", version="v1", kind="prompt") == 14
    assert of(tokens, "llmops_tokens_total", endpoint="m", version="v1", kind="completion") == 6
    assert families["llmops_request_seconds"].kind == "histogram"
    assert of(families["llmops_request_seconds"], "llmops_request_seconds_count", endpoint="m", version="v1") == 4
    assert of(families["llmops_ttft_seconds"], "llmops_ttft_seconds_count", endpoint="m", version="v1") == 1
    assert of(families["llmops_inter_token_seconds"], "llmops_inter_token_seconds_count", endpoint="m", version="v1") == 2
    assert of(families["llmops_replica_healthy"], "llmops_replica_healthy", replica="r1") == 1
    assert of(families["llmops_requests_in_flight"], "llmops_requests_in_flight", endpoint="m", version="v1") == 0
    assert of(families["llmops_config_revision"], "llmops_config_revision") == 1


def test_a_key_of_one_endpoint_sees_the_figures_of_that_one(backend: FakeBackend, other: FakeBackend, start: Start) -> None:
    endpoints = {"m": endpoint("r1"), "secret-n": endpoint("r2", mirror=[{"version": "v1", "fraction": 1}]), "secret-o": endpoint()}
    keys = [key("all"), key("one", endpoints=["m"])]
    gateway = start(config({"r1": backend, "r2": other}, endpoints, auth="keys", keys=keys))
    for model, status in (("m", 200), ("secret-n", 200), ("secret-o", 503), ("nothing", 404)):
        assert gateway.chat(model=model, headers={"Authorization": "Bearer all"}).status == status
    pages_of = {
        secret: gateway.request("GET", "/metrics", headers={"Authorization": f"Bearer {secret}"}).body.decode() for secret in ("all", "one")
    }
    assert ("secret-n" in pages_of["all"], "secret-o" in pages_of["all"], 'replica="r2"' in pages_of["all"]) == (True,) * 3
    assert ("secret" in pages_of["one"], "r2" in pages_of["one"]) == (False, False)
    seen = {secret: parse(page) for secret, page in pages_of.items()}
    assert set(seen["one"]) == set(seen["all"])
    assert list(seen["one"]["llmops_requests_total"].samples.values()) == [1]
    assert of(seen["one"]["llmops_replica_healthy"], "llmops_replica_healthy", replica="r1") == 1


def test_the_metrics_of_a_gateway_without_anything_are_well_formed_too(start: Start) -> None:
    parse(start(config({})).request("GET", "/metrics").body.decode())


def test_counters_never_go_back_through_a_change_of_configuration(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}))
    assert gateway.chat().status == 200
    assert gateway.reload({**config({"r1": backend}, {"m": endpoint("r1", retries=2)}), "revision": 2})[0] == 200
    assert gateway.chat().status == 200
    requests = parse(gateway.request("GET", "/metrics").body.decode())["llmops_requests_total"]
    assert of(requests, "llmops_requests_total", endpoint="m", version="v1", status="200") == 2


@pytest.mark.parametrize(
    "page",
    [
        "llmops_a 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total -1\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        '# HELP a x\n# TYPE a gauge\na{b="c} 1\n',
        "# HELP a x\n# TYPE a gauge\na 1\na 2\n",
        '# HELP a x\n# TYPE a histogram\na_bucket{le="1"} 2\na_sum 1\na_count 2\n',
    ],
)
def test_the_strict_reader_of_these_tests_refuses_what_is_wrong(page: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        parse(page)


def test_latency_of_the_last_minutes_is_told_by_version(backend: FakeBackend, gateway: RunningGateway) -> None:
    for _ in range(5):
        assert gateway.chat(stream=True).status == 200
    window = gateway.status()["latency"]["m"]["v1"]["60"]
    assert (window["requests"], window["errors"], window["good"]) == (5, 0, 5)
    assert 0 < window["ttft_p50"] <= window["ttft_p95"] <= window["ttft_p99"] <= window["total_p99"] * 1.03
    assert window["tokens_per_second"] == pytest.approx(15 / 60)
