"""What an endpoint is said to be: by the servers that answer, by those that stand still, and by who unloaded it."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tui.engine.endpoints.changes import begin
from llmops_tui.engine.endpoints.entry import Entry, checked
from llmops_tui.engine.endpoints.idling import unloaded, wakes, woken
from llmops_tui.engine.endpoints.planning import Server, Steps
from llmops_tui.engine.endpoints.showing import summarise
from llmops_tui.errors import ConflictError
from llmops_tui.specs.answers_serving import EndpointSummary
from llmops_tui.specs.settings_serving import ServingSettings

NOW = 1_000_000.0


def entry(**spec: Any) -> Entry:
    wish = {"name": "support", "versions": [{"name": "v1", "model": "support@v1", "weight": 100}], **spec}
    return begin(checked(wish), owner="ada", uid=1, cwd="/", now=NOW - 60)


def server(run: str, phase: str = "ready") -> Server:
    return Server(run, "v1", phase, NOW - 50, host="127.0.0.1", port=9001)  # type: ignore[arg-type]


def told(of: Entry, servers: list[Server], ill: dict[str, str]) -> EndpointSummary:
    status = {"replicas": {run: {"healthy": False, "cause": cause} for run, cause in ill.items()}}
    return summarise(of, servers, Steps(), status, ServingSettings(), NOW)


def test_an_endpoint_whose_only_server_stands_still_is_broken_and_says_why() -> None:
    found = told(entry(), [server("serve-a-0001")], {"serve-a-0001": "no answer within 5 s"})
    assert (found["state"], found["reason"]) == ("broken", "v1: no answer within 5 s")
    assert found["versions"][0]["state"] == "broken"


def test_one_of_two_that_answers_makes_it_degraded_not_broken() -> None:
    two = entry(versions=[{"name": "v1", "model": "support@v1", "weight": 100, "replicas": 2}])
    found = told(two, [server("serve-a-0001"), server("serve-a-0002")], {"serve-a-0002": "no answer within 5 s"})
    assert found["state"] == "degraded"
    assert "1 of 2 servers" in found["reason"]


def test_one_whose_server_only_starts_is_not_ill() -> None:
    assert told(entry(), [server("serve-a-0001", "starting")], {})["state"] == "starting"


def test_unloading_by_wish_says_who_did_it_and_the_next_request_wakes_it() -> None:
    slept = unloaded(entry(), "ada", NOW)
    assert told(slept, [], {})["state"] == "asleep"
    assert "unloaded by ada" in told(slept, [], {})["reason"]
    assert not wakes(slept, {}, ())
    assert wakes(slept, {"wanted_since": NOW + 1}, ())
    assert woken(slept, "ada", NOW + 2).asleep is None
    assert [change["what"] for change in woken(slept, "ada", NOW + 2).history] == ["start", "unload", "wake"]


@pytest.mark.parametrize(
    ("spec", "why"), [({"pinned": True}, "pinned"), ({"versions": [{"name": "v1", "provider": "p"}]}, "no servers here")]
)
def test_what_cannot_be_unloaded_is_refused(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(ConflictError, match=why):
        unloaded(entry(**spec), "ada", NOW)


def test_unloading_and_waking_twice_changes_nothing() -> None:
    slept = unloaded(entry(), "ada", NOW)
    assert unloaded(slept, "ada", NOW + 1) is slept
    awake = woken(slept, "ada", NOW + 2)
    assert woken(awake, "ada", NOW + 3) is awake
