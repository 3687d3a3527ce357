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
