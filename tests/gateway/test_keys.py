"""Who may ask, and how much: keys, their endpoints, and limits that hold through a change and a restart."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.serving.gateway import core as core_module
from llmops_tui.engine.serving.gateway.config import KeyRule
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.keys import Keyring, Unkeyed
from tests.gateway.fake_backend import FakeBackend, Gate, says, stream
from tests.gateway.running import Answered, RunningGateway, chat_body, config, endpoint, key, post, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]


def with_keys(backend: FakeBackend, *keys: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return config({"r1": backend}, auth="keys", keys=list(keys), **fields)


def ask(gateway: RunningGateway, secret: str, **fields: Any) -> Answered:
    return gateway.chat(headers={"Authorization": f"Bearer {secret}"}, **fields)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic c2VjcmV0", "secret", "Bearer secretx", "Bearer secre", "Bearer SECRET",
     "Bearer secret secret", "Bearer \xff\xfe"],
)  # fmt: skip
def test_without_its_key_nobody_gets_in_and_the_try_is_recorded(backend: FakeBackend, start: Start, header: str | None) -> None:
    gateway = start(with_keys(backend, key("secret")))
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/feedback")):
        answered = gateway.request(method, path, chat_body(), headers)
        assert (answered.status, answered.error["type"]) == (401, "authentication_error")
        assert answered.error["code"] == ("invalid_api_key" if header else "missing_api_key")
        assert answered.headers["www-authenticate"] == "Bearer"
        assert gateway.record(path=path)["status"] == 401
    assert not backend.asked()
    assert gateway.request("GET", "/health").status in (200, 503)


def test_a_key_gets_in_and_stands_nowhere_but_in_its_digest(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("very-secret-key")))
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert gateway.chat(headers={"authorization": f"{scheme} very-secret-key"}).status == 200
    assert gateway.chat(headers={"authorization": "Bearer almost-secret-key"}).status == 401
    assert "authorization" not in backend.asked()[0].headers
    assert gateway.record(status=200)["key"] == "key-very-secret-key"
    kept = "".join(path.read_text() for path in gateway.directory.rglob("*") if path.is_file())
    shown = kept.replace("key-very-secret-key", "") + json.dumps(gateway.status()).replace("key-very-secret-key", "")
    assert "very-secret-key" not in shown
    assert "almost-secret-key" not in shown


def test_a_key_reaches_its_endpoints_only(backend: FakeBackend, start: Start) -> None:
    endpoints = {"m": endpoint("r1"), "n": endpoint("r1", aliases=["also-n"])}
    gateway = start(with_keys(backend, key("s", endpoints=["m"]), endpoints=endpoints))
    assert ask(gateway, "s", model="m").status == 200
    for name in ("n", "also-n", "n@v1"):
        refused = ask(gateway, "s", model=name)
        assert (refused.status, refused.error["type"], refused.error["code"]) == (403, "permission_error", "endpoint_not_allowed")
        assert gateway.record(status=403)["endpoint"] == "n"


def test_without_keys_a_known_key_is_still_counted(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, keys=[key("s", requests_per_minute=1)]))
    assert gateway.chat().status == 200
    assert ask(gateway, "unknown").status == 200
    assert ask(gateway, "s").status == 200
    assert ask(gateway, "s").status == 429


def limited(answered: Answered, code: str) -> float:
    """The seconds after which to try again."""
    assert (answered.status, answered.error["type"], answered.error["code"]) == (429, "rate_limit_error", code)
    return float(answered.headers["retry-after"])


def test_requests_a_minute_are_bounded_and_the_client_is_told_when_to_come_back(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a", requests_per_minute=3), key("b")))
    assert [ask(gateway, "a").status for _ in range(3)] == [200] * 3
    assert 1 <= limited(ask(gateway, "a"), "rate_limit_exceeded") <= 20
    assert ask(gateway, "b").status == 200
    assert gateway.record(status=429)["key"] == "key-a"
    assert len(backend.asked()) == 4


def test_tokens_a_minute_are_bounded_by_what_was_used(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a", tokens_per_minute=15)))
    assert [ask(gateway, "a").status for _ in range(2)] == [200] * 2  # ten tokens each: the second overdraws
    assert 1 <= limited(ask(gateway, "a"), "rate_limit_exceeded") <= 60


def test_requests_at_once_are_bounded(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a", concurrent=1)))
    gate = Gate(backend)
    backend.script.append(stream(["x"], gate.passed))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body(stream=True), extra="Authorization: Bearer a\r\n"))
        read_until(connection, b"assistant")
        assert limited(ask(gateway, "a"), "concurrency_exceeded") == 1
        gate.open()
        read_until(connection, b"0\r\n\r\n")
    assert ask(gateway, "a").status == 200


def test_a_request_that_fails_gives_its_place_back(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a", concurrent=1)))
    for status in (500, 400, 503, 200):
        backend.script.append(says(status, b'{"choices": []}'))
        assert ask(gateway, "a").status == status
    assert ask(gateway, "a", model="nothing").status == 404
    assert ask(gateway, "a").status == 200


def test_tokens_a_day_end_until_midnight_and_hold_through_a_restart_and_a_kill(backend: FakeBackend, start: Start) -> None:
    rules = with_keys(backend, key("a", tokens_per_day=25))
    first = start(rules)
    assert [ask(first, "a").status for _ in range(2)] == [200] * 2
    first.kill()
    second = first.again()
    assert second.status()["keys"]["today_tokens"] == {"key-a": 20}
    assert ask(second, "a").status == 200
    assert 1 <= limited(ask(second, "a"), "insufficient_quota") <= 86_400
    second.close()
    third = second.again()
    assert limited(ask(third, "a"), "insufficient_quota") >= 1
    assert third.status()["keys"]["today_tokens"] == {"key-a": 30}
    third.close()


def test_a_day_budget_survives_the_keys_absence_and_a_note_that_is_broken(backend: FakeBackend, start: Start) -> None:
    rules = with_keys(backend, key("a", tokens_per_day=5), key("b"))
    gateway = start(rules)
    assert ask(gateway, "a").status == 200
    assert gateway.reload({**with_keys(backend, key("b")), "revision": 2})[0] == 200
    assert ask(gateway, "a").status == 401
    assert gateway.reload({**rules, "revision": 3})[0] == 200
    assert limited(ask(gateway, "a"), "insufficient_quota")
    gateway.kill()
    (gateway.directory / "budgets.json").write_text('{"day": ')
    again = gateway.again()
    assert limited(ask(again, "a"), "insufficient_quota")
    again.close()


def test_yesterdays_records_are_not_counted_today(backend: FakeBackend, start: Start, tmp_path: Path) -> None:
    gateway = start(with_keys(backend, key("a", tokens_per_day=5)))
    assert ask(gateway, "a").status == 200
    gateway.kill()
    (gateway.directory / "budgets.json").unlink(missing_ok=True)
    for path in (gateway.directory / "spool").glob("requests-*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**line, "t": line["t"] - 86_400}) + "\n" for line in lines) + "half a li")
        os.utime(path, (time.time(), time.time()))
    again = gateway.again()
    assert ask(again, "a").status == 200
    again.close()


def test_who_leaves_before_the_end_pays_for_what_was_done(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a", tokens_per_day=1000)))
    gate = Gate(backend)
    backend.script.append(stream(["one", "two"], lambda number: gate.passed() if number else gate_open()))
    with gateway.connect() as connection:
        connection.sendall(post(chat_body("x" * 400, stream=True), extra="Authorization: Bearer a\r\n"))
        read_until(connection, b"one")
    line = gateway.record(client_gone=True)
    assert (line["status"], line["estimated"], line["completion_tokens"]) == (499, True, 1)
    assert 100 <= line["prompt_tokens"] <= 120
    assert gateway.status()["keys"]["today_tokens"] == {"key-a": line["prompt_tokens"] + 1}


async def gate_open() -> None:
    """Goes on at once."""


def test_a_changed_limit_takes_effect_for_the_next_request_and_what_was_used_stays_used(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a", requests_per_minute=2)))
    assert [ask(gateway, "a").status for _ in range(3)] == [200, 200, 429]
    assert gateway.reload({**with_keys(backend, key("a")), "revision": 2})[0] == 200
    assert ask(gateway, "a").status == 200
    assert gateway.reload({**with_keys(backend), "revision": 3})[0] == 200
    assert ask(gateway, "a").status == 401


def rule(**fields: Any) -> KeyRule:
    limits = {"requests_per_minute": 0.0, "tokens_per_minute": 0.0, "tokens_per_day": 0, "concurrent": 0, **fields}
    return KeyRule(id="a", sha256="0" * 64, endpoints=None, **limits)


def test_a_bucket_fills_evenly_and_never_beyond_its_minute() -> None:
    ring = Keyring()
    ring.take([rule(requests_per_minute=60)], now=0.0)
    found = ring._by_digest["0" * 64]
    for _ in range(60):
        found.admit("m", 0.0)
    with pytest.raises(GatewayError) as refused:
        found.admit("m", 0.5)
    assert refused.value.retry_after == 1
    found.admit("m", 1.0)
    with pytest.raises(GatewayError):
        found.admit("m", 1.5)
    for _ in range(60):
        found.admit("m", 10_000.0)
    with pytest.raises(GatewayError):
        found.admit("m", 10_000.0)


def test_less_than_one_request_a_minute_is_one_now_and_then() -> None:
    ring = Keyring()
    ring.take([rule(requests_per_minute=0.5)], now=0.0)
    found = ring._by_digest["0" * 64]
    found.admit("m", 0.0)
    with pytest.raises(GatewayError) as refused:
        found.admit("m", 60.0)
    assert refused.value.retry_after == pytest.approx(60)
    found.admit("m", 120.0)


def test_a_session_of_megabytes_does_not_stand_in_every_record(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}))
    assert gateway.chat(user="u" * 100_000).status == 200
    assert gateway.record(status=200)["session"] == "u" * 256


def test_a_refused_request_is_not_counted() -> None:
    ring = Keyring()
    ring.take([rule(concurrent=1, requests_per_minute=2)], now=0.0)
    found = ring._by_digest["0" * 64]
    found.admit("m", 0.0)
    for _ in range(5):
        with pytest.raises(GatewayError):
            found.admit("m", 0.0)
    found.ended(0)
    found.admit("m", 0.0)
    assert found.in_flight == 1


def test_a_day_ends_at_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [86_400.0 * 20_000 + 86_399]
    monkeypatch.setattr("llmops_tui.engine.serving.gateway.keys.time.time", lambda: now[0])
    ring = Keyring()
    ring.take([rule(tokens_per_day=10)], now=0.0)
    found = ring._by_digest["0" * 64]
    found.admit("m", 0.0)
    found.ended(12)
    with pytest.raises(GatewayError) as refused:
        found.admit("m", 0.0)
    assert refused.value.retry_after == pytest.approx(1, abs=0.01)
    now[0] += 2
    ring.turn_day()
    found.admit("m", 0.0)
    assert ring.used_today() == {}


def test_a_clock_that_is_set_back_over_midnight_makes_no_budget_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = 86_400.0 * 20_000
    now = [midnight - 10]
    monkeypatch.setattr("llmops_tui.engine.serving.gateway.keys.time.time", lambda: now[0])
    ring = Keyring()
    ring.take([rule(tokens_per_day=10)], now=0.0)
    found = ring._by_digest["0" * 64]
    for clock in (midnight + 1, midnight - 30, midnight - 1, midnight + 1, midnight - 86_400, midnight + 80_000):
        now[0] = clock
        ring.turn_day()
        if clock == midnight + 1 and not found.today_tokens:
            found.admit("m", 0.0)
            found.ended(12)
        with pytest.raises(GatewayError) as refused:
            found.admit("m", 0.0)
        assert refused.value.code == "insufficient_quota"
        assert ring.used_today() == {"a": 12}
    now[0] = midnight + 86_400
    ring.turn_day()
    found.admit("m", 0.0)


def test_a_clock_that_was_years_ahead_does_not_keep_budgets_used_for_years(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [86_400.0 * 30_000]
    monkeypatch.setattr("llmops_tui.engine.serving.gateway.keys.time.time", lambda: now[0])
    ring = Keyring()
    ring.take([rule(tokens_per_day=10)], now=0.0)
    found = ring._by_digest["0" * 64]
    found.admit("m", 0.0)
    found.ended(12)
    now[0] = 86_400.0 * 20_000
    ring.turn_day()
    assert (ring.day, ring.used_today()) == (20_000, {"a": 12})
    now[0] += 86_400
    ring.turn_day()
    assert (ring.day, ring.used_today()) == (20_001, {})


def test_a_clock_that_is_set_back_over_midnight_makes_no_budget_whole_through_a_restart(
    backend: FakeBackend, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [int(time.time()) // 86_400 + 1]
    monkeypatch.setattr("llmops_tui.engine.serving.gateway.keys._today", lambda: days[0])
    gateway = start(with_keys(backend, key("a", tokens_per_day=5)))
    assert ask(gateway, "a").status == 200
    gateway.close()
    assert json.loads((gateway.directory / "budgets.json").read_bytes())["day"] == days[0]
    days[0] -= 1
    again = gateway.again()
    assert again.status()["keys"]["today_tokens"] == {"key-a": 10}
    assert limited(ask(again, "a"), "insufficient_quota")
    days[0] += 1
    again.call(turned(again))
    assert limited(ask(again, "a"), "insufficient_quota"), "it is the day on which they were used"
    days[0] += 1
    again.call(turned(again))
    assert ask(again, "a").status == 200
    again.close()


async def turned(gateway: RunningGateway) -> None:
    gateway.process.gateway.core.keys.turn_day()


def test_a_gateway_that_lives_through_midnight_saves_the_right_day(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a")))
    assert ask(gateway, "a").status == 200
    gateway.close()
    note = wait_for(lambda: json.loads((gateway.directory / "budgets.json").read_bytes()))
    assert note["day"] == int(time.time()) // 86_400
    assert note["used"] == {"key-a": 10}
    gateway.again().close()


def remark(gateway: RunningGateway, secret: str, about: str) -> Answered:
    return gateway.request("POST", "/v1/feedback", {"id": about, "rating": "up"}, {"Authorization": f"Bearer {secret}"})


def test_the_ids_of_others_cannot_be_worked_out_from_ones_own(gateway: RunningGateway) -> None:
    ids = [gateway.process.gateway.core.new_id() for _ in range(2000)]  # more than are drawn at once
    assert len(set(ids)) == 2000
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", each) for each in ids)
    for at in range(4, 28):
        assert len({each[at] for each in ids}) == 16, "each digit is drawn anew for each id"


def test_the_limit_of_requests_holds_for_feedback_too(backend: FakeBackend, start: Start) -> None:
    gateway = start(with_keys(backend, key("a", requests_per_minute=3), key("b")))
    about = ask(gateway, "a").headers["x-request-id"]
    assert [remark(gateway, "a", about).status for _ in range(2)] == [200, 200]
    assert 1 <= limited(remark(gateway, "a", about), "rate_limit_exceeded") <= 20
    assert limited(ask(gateway, "a"), "rate_limit_exceeded")
    assert remark(gateway, "b", about).status == 200
    assert len([line for line in gateway.records() if line["type"] == "feedback"]) == 3


def test_feedback_without_a_key_is_limited_by_the_address_that_it_comes_from(backend: FakeBackend, gateway: RunningGateway) -> None:
    gateway.process.gateway.core.unkeyed = Unkeyed(per_minute=2)
    about = gateway.chat().headers["x-request-id"]
    answers = [gateway.request("POST", "/v1/feedback", {"id": about, "rating": "up"}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].error["code"] == "rate_limit_exceeded"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert len([line for line in gateway.records() if line["type"] == "feedback"]) == 2
    assert gateway.chat().status == 200, "what costs a server's work is not counted here"


def test_addresses_without_keys_are_counted_each_and_the_oldest_forgotten() -> None:
    unkeyed = Unkeyed(per_minute=1, most=2)
    for address in ("a", "b"):
        unkeyed.count_request(address, 0.0)
    for address in ("a", "b", "a"):
        with pytest.raises(GatewayError) as refused:
            unkeyed.count_request(address, 1.0)
        assert refused.value.status == 429
    unkeyed.count_request("c", 1.0)  # b asked longest ago
    unkeyed.count_request("b", 1.0)
    unkeyed.count_request("c", 61.0)


def test_a_key_of_one_endpoint_gives_feedback_on_that_one_only(backend: FakeBackend, start: Start) -> None:
    endpoints = {"m": endpoint("r1", fallbacks=["n"]), "n": endpoint("r1")}
    gateway = start(with_keys(backend, key("one", endpoints=["m"]), key("all"), endpoints=endpoints))
    its_own, others = ask(gateway, "one"), ask(gateway, "all", model="n")
    assert remark(gateway, "one", its_own.headers["x-request-id"]).status == 200
    for about in (others.headers["x-request-id"], "req_" + "0" * 24):
        refused = remark(gateway, "one", about)
        assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "endpoint_not_allowed", "id")
        assert remark(gateway, "all", about).status == 200
    assert [line["key"] for line in gateway.records() if line["type"] == "feedback"] == ["key-one", "key-all", "key-all"]


def test_what_a_fallback_answered_is_still_of_the_endpoint_that_was_asked(backend: FakeBackend, start: Start) -> None:
    endpoints = {"m": endpoint(fallbacks=["n"]), "n": endpoint("r1")}
    gateway = start(with_keys(backend, key("one", endpoints=["m"]), endpoints=endpoints))
    answered = ask(gateway, "one")
    assert gateway.record(status=200)["endpoint"] == "n"
    assert remark(gateway, "one", answered.headers["x-request-id"]).status == 200


def test_of_requests_without_end_only_the_newest_are_remembered(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "_MOST_REMEMBERED", 4)
    core = gateway.process.gateway.core
    for number in range(11):
        core.remember(f"req_{number}", "m")
    assert [number for number in range(11) if core.endpoint_asked(f"req_{number}")] == list(range(4, 11))
