"""What is kept of what people said: redacted in every place, and good or not by the promise of then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.fake_backend import FakeBackend, says
from tests.gateway.running import RunningGateway, config, endpoint
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]
ADDRESS = "ann@example.org"
REDACTORS = [{"name": "email", "pattern": r"[a-z]+@example\.org", "replacement": "[EMAIL]"}]


def everything_kept(gateway: RunningGateway, lines: int) -> str:
    """All bytes of all spools, once that many lines are there."""
    spool: Path = gateway.directory / "spool"
    return wait_for(
        lambda: text if (text := "".join(path.read_text() for path in sorted(spool.glob("*.jsonl")))).count("\n") >= lines else "", 5
    )


@pytest.mark.parametrize("redact", [True, False])
def test_text_answers_errors_and_remarks_are_redacted_alike(backend: FakeBackend, start: Start, redact: bool) -> None:
    keeping = {"m": endpoint("r1", text_fraction=1, redact=redact)}
    gateway = start(config({"r1": backend}, keeping, redactors=REDACTORS))
    answered = gateway.chat(f"write to {ADDRESS}")
    backend.script.append(says(400, json.dumps({"error": {"message": f"cannot read: write to {ADDRESS}"}}).encode()))
    assert gateway.chat(f"write to {ADDRESS}").status == 400
    about = {"id": answered.headers["x-request-id"], "rating": "down", "comment": f"{ADDRESS} is old", "correction": f"ask {ADDRESS}"}
    assert gateway.request("POST", "/v1/feedback", about).status == 200
    kept = everything_kept(gateway, 4)
    assert (ADDRESS not in kept, kept.count("[EMAIL]")) == ((True, 4) if redact else (False, 0))


def test_a_fallback_that_keeps_text_raw_does_not_open_the_text_of_the_one_that_was_asked(backend: FakeBackend, start: Start) -> None:
    endpoints = {"m": endpoint(text_fraction=1, redact=True, fallbacks=["o"]), "o": endpoint("r1", redact=False)}
    gateway = start(config({"r1": backend}, endpoints, redactors=REDACTORS))
    assert gateway.chat(f"write to {ADDRESS}").status == 200
    kept = everything_kept(gateway, 2)
    assert ADDRESS not in kept
    assert "[EMAIL]" in kept


def test_good_is_what_kept_to_the_promise_of_then(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}))
    assert gateway.record(id=gateway.chat().headers["x-request-id"])["good"] is True
    backend.script.append(says(400, b'{"error": {"message": "no"}}'))
    assert gateway.record(id=gateway.chat().headers["x-request-id"])["good"] is False
    strict = {"m": endpoint("r1", slo={"total_ms": 0.000001})}
    assert gateway.reload({**config({"r1": backend}, strict), "revision": 2})[0] == 200
    assert gateway.record(id=gateway.chat().headers["x-request-id"])["good"] is False


def kept_texts(gateway: RunningGateway, count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in everything_kept(gateway, count).splitlines() if '"messages":[' in line or '"prompt":' in line]


def test_a_share_of_the_texts_is_kept_streamed_or_not_in_a_file_of_its_own(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": endpoint("r1", text_fraction=0.25)}))
    points = iter([0.2, 0.3, 0.24, 0.9])
    gateway.process.gateway.core.random = lambda: next(points)
    ids = [gateway.chat(f"say {number}", stream=number % 2 == 0).headers["x-request-id"] for number in range(4)]
    texts = kept_texts(gateway, 6)
    assert [(text["id"], text["messages"][0]["content"]) for text in texts] == [(ids[0], "say 0"), (ids[2], "say 2")]
    assert [text["response"] for text in texts] == ["hello you", "hello you"]
    assert not [line for line in gateway.records() if "messages" in line], "the record itself never has the text"


def test_nothing_is_kept_of_the_text_unless_asked_for(gateway: RunningGateway) -> None:
    assert gateway.chat("a very private thing").status == 200
    gateway.record(status=200)
    assert "private" not in everything_kept(gateway, 1)


def test_pictures_and_endless_texts_are_kept_by_what_they_were(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, {"m": endpoint("r1", text_fraction=1)}))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    body = {"model": "m", "messages": [{"role": "user", "content": [picture, {"type": "text", "text": "x" * (2 << 20)}]}]}
    assert gateway.request("POST", "/v1/chat/completions", body).status == 200
    parts = kept_texts(gateway, 2)[0]["messages"][0]["content"]
    assert parts[0]["image_url"]["url"] == "data:image/png;base64,[5022 characters]"
    assert len(parts[1]["text"]) == (1 << 20) + 1
    assert len(backend.asked()[0].body["messages"][0]["content"][1]["text"]) == 2 << 20
