"""Tags, notes and baselines that are written to a run outlive the engine and the database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from llmops_tui.client import Client
from llmops_tui.data.annotation import Annotation
from llmops_tui.data.migrate import MIGRATIONS, list_scripts, migrate
from llmops_tui.data.rebuild import rebuild
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings
from tests.engine.scheduling import engine, reaches, submit, summary
from tests.running_engine import kill_engine, running_engine
from tests.waiting import wait_for

COLUMNS = "SELECT id, tags, note, baseline FROM runs"


def _stored(home: Home) -> list[tuple[Any, ...]]:
    con = duckdb.connect(str(home.database), read_only=True)
    rows = con.execute(COLUMNS).fetchall()
    con.close()
    return rows


async def test_what_was_written_stands_after_a_restart_and_a_rebuild(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with engine(home) as scheduler:
        run = await submit(scheduler, "pass", tags=["old"], notes="from the spec")
        assert summary(scheduler, run)["note"] == "from the spec"
        await reaches(scheduler, run, "succeeded")
        assert (await scheduler.annotate(run, Annotation(tags=["good", "a b"])))["note"] == "from the spec"
        await scheduler.annotate(run, Annotation(note="zu kurz 🙂\nsecond line", baseline=True))
        await scheduler.annotate(run, Annotation(baseline=False))
        answered = await scheduler.annotate(run, Annotation(baseline=True))
    expected = (["good", "a b"], "zu kurz 🙂\nsecond line", True)
    assert (answered["tags"], answered["note"], answered["baseline"]) == expected
    assert _stored(home) == [(run, *expected)]

    async with engine(home) as scheduler:
        again = summary(scheduler, run)
        assert (again["tags"], again["note"], again["baseline"], again["state"]) == (*expected, "succeeded")
        await scheduler.annotate(run, Annotation(tags=[], note=""))
    rebuild(home, EngineSettings())
    assert _stored(home) == [(run, [], "", True)]


async def test_a_running_and_a_waiting_run_can_be_annotated(tmp_path: Path) -> None:
    async with engine(Home(tmp_path), slots=1) as scheduler:
        first = await submit(scheduler, "import time; time.sleep(60)")
        await reaches(scheduler, first, "running")
        second = await submit(scheduler, "pass")
        for run, state in ((first, "running"), (second, "queued")):
            assert (await scheduler.annotate(run, Annotation(note=state)))["note"] == summary(scheduler, run)["state"] == state
        await scheduler.stop(second, "now")
        await scheduler.stop(first, "now")
        await reaches(scheduler, first, "cancelled")


async def test_a_database_of_the_version_before_gets_what_the_journals_say(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with engine(home) as scheduler:
        run = await submit(scheduler, "pass", notes="from the spec")
        await reaches(scheduler, run, "succeeded")
        await scheduler.annotate(run, Annotation(baseline=True))
    home.database.unlink()
    before = tmp_path / "migrations"
    before.mkdir()
    for script in list_scripts(MIGRATIONS)[:1]:
        (before / script.name).write_bytes(script.read_bytes())
    con = duckdb.connect(str(home.database))
    migrate(con, before)
    con.execute("INSERT INTO runs (run_key, id, state, attempt, reason, tags) VALUES (1, ?, 'succeeded', 1, '', [])", [run])
    con.close()
    async with engine(home):
        pass
    assert _stored(home) == [(run, [], "from the spec", True)]


async def test_nothing_said_and_nobody_to_say_it_of_are_refused(tmp_path: Path) -> None:
    async with engine(Home(tmp_path)) as scheduler:
        run = await submit(scheduler, "pass")
        with pytest.raises(UsageError, match="nothing is said"):
            await scheduler.annotate(run, Annotation())
        with pytest.raises(NotFoundError):
            await scheduler.annotate("train-x-0001", Annotation(note="x"))
        await reaches(scheduler, run, "succeeded")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_engine(tmp_path_factory.mktemp("annotations")) as running:
        for name in ("one", "two"):
            running.submit({"kind": "command", "name": name, "argv": ["true"], "tags": [name], "env": {"LR": f"{len(name)}e-4"}}, cwd="/")
        wait_for(lambda: running.runs(filter="state:succeeded")["total"] == 2, what="both runs to succeed")
        yield running


def test_the_client_annotates_filters_and_compares(client: Client) -> None:
    one, two = "command-one-0001", "command-two-0002"
    assert client.annotate(one, tags=["x", "x", "y"], note="n")["tags"] == ["x", "y"]
    assert client.annotate(one, baseline=True)["note"] == "n"
    page = client.runs(filter="tag:x baseline:yes", columns=["cfg.LR", "metric.a"])
    assert ([run["id"] for run in page["runs"]], page["columns"]) == ([one], {one: {"cfg.LR": "3e-4", "metric.a": None}})
    assert [run["id"] for run in client.runs(sort="name", descending=True)["runs"]] == [two, one]
    found = client.compare([two, one])
    assert [run["baseline"] for run in found["runs"]] == [False, True]
    assert {row["key"] for row in found["config"] if row["differs"]} == set()
    wanted = {"tags": ["x", "y"], "note": "n", "baseline": True}
    wait_for(lambda: client.events(types=["run.annotated"], newest=True, limit=1)["events"][0]["data"] == wanted, what="it is told")


def test_a_long_filter_finds_what_a_short_one_does(client: Client) -> None:
    long = " ".join(["-nowhere"] * 300)
    assert [run["id"] for run in client.runs(filter=f"{long} state:succeeded")["runs"]] == [
        run["id"] for run in client.runs(filter="state:succeeded")["runs"]
    ]
    assert client.runs(filter=f"{long} nowhere")["total"] == 0


def test_a_filter_that_does_not_parse_is_refused_with_its_place(client: Client) -> None:
    with pytest.raises(UsageError, match="did you mean tag") as refusal:
        client.runs(filter="  tga:x")
    assert refusal.value.fields == [{"field": "filter", "message": "there is no key 'tga' (character 3)", "position": "2"}]


@pytest.mark.parametrize(
    ("tags", "note"),
    [([""], None), ([" a"], None), (["a\nb"], None), (["x" * 65], None), (["\udc00"], None), (None, "x" * 20_000), (None, "\ud800")],
)
def test_tags_and_notes_that_cannot_be_shown_are_refused(client: Client, tags: list[str] | None, note: str | None) -> None:
    before = client.run("command-two-0002")
    with pytest.raises(UsageError, match=r"tags|note"):
        client.annotate("command-two-0002", tags, note)
    assert client.run("command-two-0002")["journal"] == before["journal"]


def test_a_killed_engine_has_kept_what_it_answered(client: Client) -> None:
    client.annotate("command-two-0002", note="before the end")
    kill_engine(client.home)
    journal = (client.home.runs / "command-two-0002" / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["data"] == {"note": "before the end"}
    client.ensure_engine()
    assert client.runs(filter='note:"before the end"')["total"] == 1
    wait_for(
        lambda: client.sql("SELECT note FROM runs WHERE name = 'two'")["rows"] == [["before the end"]], what="the row to follow the journal"
    )
