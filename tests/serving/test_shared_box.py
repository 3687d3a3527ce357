"""Several users on one box: whose server gets whose requests, whose check holds for which server, whose key a name means."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.endpoints.book import EndpointBook
from llmops_tui.engine.endpoints.changes import add_version, begin
from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.keys import KeyBook
from llmops_tui.engine.endpoints.server_starts import Queue, ServerStarts
from llmops_tui.engine.endpoints.servers import read_servers, replica_file
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.specs.endpoint import EndpointSpec, EndpointVersion
from llmops_tui.specs.parse import parse_spec

OWNER, ANOTHER = 1001, 1002


def serve_run(tmp_path: Path, name: str, uid: int, attempt: int = 1) -> LiveRun:
    spec = {"kind": "serve", "model": "m", "endpoint": "e", "version": "v1"}
    found = LiveRun(RunDir(tmp_path / name), {"id": name, "spec": spec, "uid": uid}, parse_spec(spec), priority=0, order=1.0)
    found.state, found.attempt = "running", attempt
    replica_file(found.dir.path).parent.mkdir(parents=True)
    return found


def tell(run: LiveRun, **values: Any) -> None:
    replica_file(run.dir.path).write_text(json.dumps({"host": "127.0.0.1", "port": 9001, **values}))


def test_a_run_of_another_user_that_names_an_endpoint_gets_none_of_its_requests(tmp_path: Path) -> None:
    own, foreign = serve_run(tmp_path, "own", OWNER), serve_run(tmp_path, "foreign", ANOTHER)
    tell(own)
    tell(foreign)
    found = read_servers([own, foreign], (), {"e": OWNER})
    assert [server.run for server in found.pop("e")] == ["own"]
    # It stands under a name that no endpoint can have, so that it is let go like a server whose endpoint is gone.
    (name,) = found
    assert " " in name
    assert [server.run for server in found[name]] == ["foreign"]


def test_a_server_of_an_attempt_before_does_not_answer_and_a_clock_set_back_hides_none(tmp_path: Path) -> None:
    run = serve_run(tmp_path, "r", OWNER, attempt=2)
    tell(run, attempt=1)
    assert read_servers([run], (), {})["e"][0].phase == "starting"
    tell(run, attempt=2)
    run.started_at = replica_file(run.dir.path).stat().st_mtime + 3600
    assert read_servers([run], (), {})["e"][0].phase == "ready"


def put_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_a_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_a_large_file(path: Path) -> None:
    path.write_text('{"port": 9001, "x": "' + "x" * (1 << 20) + '"}')


def put_a_deep_file(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("put", [put_a_pipe, put_a_link, put_a_large_file, put_a_deep_file])
def test_what_a_runs_user_puts_in_the_place_of_its_facts_holds_nobody_up(tmp_path: Path, put: Callable[[Path], None]) -> None:
    run = serve_run(tmp_path, "r", OWNER)
    put(replica_file(run.dir.path))
    assert read_servers([run], (), {"e": OWNER})["e"][0].phase == "starting"


class Asked:
    """Stands for the scheduler and the preflight, and notes what they were asked."""

    cpu_slots = 1

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.submitted: list[dict[str, Any]] = []

    def runs(self) -> list[LiveRun]:
        return []

    def prepare(self, uid: int, spec: Any, cwd: Path) -> dict[str, Any]:
        self.prepared.append(spec.model)
        return {"found_for": spec.model, "uid": uid}

    async def submit(self, spec: Any, *, owner: str, uid: int, cwd: str, prepared: dict[str, Any]) -> dict[str, str]:
        self.submitted.append(prepared)
        return {"id": "r"}


async def started(asked: Asked, book: EndpointBook, offered: Entry, version: str) -> dict[str, Any]:
    over = asyncio.Event()

    async def never(name: str, version: str) -> bool:
        return False

    starts = ServerStarts(cast(Queue, asked), asked.prepare, book, never, over.set)
    wanted = offered.spec.version(version)
    assert wanted is not None
    starts.offer(offered, wanted, {"found_for": wanted.model, "uid": offered.uid})
    starts.begin("e", version)
    await asyncio.wait_for(over.wait(), 5)
    return asked.submitted[-1]


def an_entry(model: str, uid: int = OWNER) -> Entry:
    spec = EndpointSpec(name="e", versions=[EndpointVersion(name="v1", model=model)])
    return begin(spec, owner="o", uid=uid, cwd="/", now=1.0)


def test_what_was_found_for_a_wish_that_lost_is_not_served_in_the_place_of_the_one_that_won(tmp_path: Path) -> None:
    book = EndpointBook(tmp_path)
    won, lost = an_entry("won"), an_entry("lost")
    book.entries["e"] = won
    asked = Asked()
    assert asyncio.run(started(asked, book, lost, "v1")) == {"found_for": "won", "uid": OWNER}
    assert asyncio.run(started(asked, book, an_entry("won", ANOTHER), "v1")) == {"found_for": "won", "uid": OWNER}
    assert asked.prepared == ["won", "won"]
    # The same wish need not be looked at again, until an adapter comes to its servers.
    assert asyncio.run(started(asked, book, won, "v1")) == {"found_for": "won", "uid": OWNER}
    assert asked.prepared == ["won", "won"]
    book.entries["e"] = add_version(won, EndpointVersion(name="a", model="a", adapter_of="v1"), 2.0)[0]
    asyncio.run(started(asked, book, won, "v1"))
    assert asked.prepared == ["won", "won", "won"]


def test_a_key_called_as_anothers_id_does_not_hide_it(tmp_path: Path) -> None:
    keys = KeyBook(tmp_path / "keys.json")
    first = keys.create("mine", owner="owner", uid=OWNER)
    keys.create(first["id"], owner="another", uid=ANOTHER)
    assert keys.owner(first["id"]) == ("owner", OWNER)
    assert keys.revoke(first["id"])["name"] == "mine"
