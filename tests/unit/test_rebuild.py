"""The database made anew from the run directories holds what the live ingest stored."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data import queries
from llmops_tui.data.rebuild import main, rebuild
from llmops_tui.data.rundir import RunDir, create_run, list_runs
from llmops_tui.data.store import Store
from llmops_tui.engine.ingest import Ingest
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings

SETTINGS = EngineSettings()
DUMPS = (
    "SELECT * FROM metrics_long ORDER BY ALL",
    "SELECT id, line_end, e.attempt, t, type, body FROM run_events e JOIN runs USING (run_key) ORDER BY ALL",
    "SELECT id, byte_offset, lines, broken, latest, progress FROM ingest_offsets JOIN runs USING (run_key) ORDER BY ALL",
    "SELECT name, t_ms, value FROM samples JOIN sample_series USING (series_key) ORDER BY ALL",
)


def a_run(home: Home, name: str, steps: int) -> RunDir:
    record = {"spec": {"kind": "command", "name": name, "priority": 3, "tags": ["t"]}, "owner": "me", "submitted_at": 5.0}
    run = create_run(home.runs, "command", name, record)
    writer = EventWriter(run.path)
    writer.phase("training", total=steps)
    for step in range(steps):
        writer.metrics(step, {"a": step, "b": float("nan")})
    writer.write("end", status="succeeded", summary={}, error="")
    writer.close()
    with open(run.events, "ab") as file:
        file.write(b"broken\n" + b'{"type":"metric","st')
    run.append_journal({"t": 6.0, "entry": "state", "state": "running", "attempt": 1, "reason": "", "data": {}})
    run.append_journal({"t": 9.0, "entry": "state", "state": "succeeded", "attempt": 1, "reason": "exit 0", "data": {}})
    return run


async def ingested(home: Home) -> Store:
    store = Store.open(home.database, SETTINGS)
    ingest = Ingest(store, SETTINGS, lambda run, events, latest: None, lambda: 1 << 50)
    for run in list_runs(home.runs):
        await ingest.drain(run, ended=True)
    store.write(
        lambda con: con.execute("INSERT INTO sample_series VALUES (1, 'host/cpu'); INSERT INTO samples VALUES (1000, 1, 0.5)")
    ).result()
    return store


def dump(store: Store) -> list[list[tuple[Any, ...]]]:
    return [[tuple(map(repr, row)) for row in store.read(lambda con, q=query: con.execute(q).fetchall())] for query in DUMPS]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    a_run(home, "one", 100)
    a_run(home, "two", 50)
    return home


async def test_a_rebuild_gives_what_the_ingest_gave_and_keeps_the_samples(home: Home) -> None:
    store = await ingested(home)
    before, epoch = dump(store), store.epoch
    store.close()
    told: list[str] = []
    result = rebuild(home, SETTINGS, told.append)
    assert (result.runs, result.points, result.broken, result.samples, result.kept) == (2, 300, 4, 1, None)
    assert told == ["command-one-0001: 200 points, 2 unusable lines", "command-two-0002: 100 points, 2 unusable lines"]
    again = Store.open(home.database, SETTINGS)
    assert dump(again) == before
    assert again.epoch != epoch, "event numbers begin anew, so followers must notice"
    row = again.read(
        lambda con: con.execute("SELECT kind, state, started_at, ended_at, owner, tags FROM runs WHERE run_key = 1").fetchone()
    )
    assert row == ("command", "succeeded", 6.0, 9.0, "me", ["t"])
    assert again.read(lambda con: queries.metric_names(con, "command-one-0001")) == ["a", "b"]
    again.close()
    assert not [name for name in os.listdir(home.root) if name.endswith((".bak", ".new", ".wal"))]


async def test_the_ingest_goes_on_where_the_rebuild_stopped(home: Home) -> None:
    rebuild(home, SETTINGS)
    run = list_runs(home.runs)[0]
    writer = EventWriter(run.path)
    writer.metrics(100, {"a": 1.0})
    writer.close()
    store = await ingested(home)
    assert store.read(
        lambda con: con.execute("SELECT count(*), max(step) FROM metrics_long WHERE run = ? AND metric = 'a'", [run.id]).fetchone()
    ) == (
        101,
        100,
    )
    store.close()


def test_a_damaged_database_is_replaced_and_kept_aside(home: Home) -> None:
    home.database.write_bytes(b"garbage" * 5000)
    home.database.with_name("llmops.duckdb.wal").write_bytes(b"more garbage")
    result = rebuild(home, SETTINGS)
    assert result.points == 300
    assert "could not be read" in result.note
    assert result.kept == home.root / "llmops.duckdb.bak"
    assert result.kept.read_bytes().startswith(b"garbage")
    Store.open(home.database, SETTINGS).close()


def test_no_database_at_all_is_made(home: Home) -> None:
    assert rebuild(home, SETTINGS).points == 300
    assert rebuild(home, SETTINGS).points == 300


def test_a_run_without_a_readable_spec_is_left_out_and_said(home: Home) -> None:
    list_runs(home.runs)[0].spec.write_text("{")
    told: list[str] = []
    result = rebuild(home, SETTINGS, told.append)
    assert (result.runs, result.skipped) == (1, 1)
    assert told[0] == "command-one-0001: left out: it has no readable spec.json"


def break_events(run: RunDir) -> None:
    run.events.unlink()
    run.events.mkdir()


def break_spec(run: RunDir) -> None:
    run.spec.unlink()
    run.spec.mkdir()


def break_priority(run: RunDir) -> None:
    run.spec.write_text('{"spec": {"kind": "command", "priority": 99999999999}}')


def break_text(run: RunDir) -> None:
    run.spec.write_text('{"spec": {"kind": "command", "name": "\\ud800"}}')


def break_tags(run: RunDir) -> None:
    run.spec.write_text('{"spec": {"kind": "command", "tags": 7}}')


def break_depth(run: RunDir) -> None:
    run.spec.write_text("[" * 100_000)


def break_journal(run: RunDir) -> None:
    run.append_journal({"entry": "state", "state": "failed", "attempt": "first"})


@pytest.mark.parametrize("damage", [break_events, break_spec, break_priority, break_text, break_tags, break_depth, break_journal])
def test_a_damaged_run_is_skipped_and_named_and_the_others_are_there(
    home: Home, damage: Callable[[RunDir], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(list_runs(home.runs)[0])
    assert main(["--home", str(home.root)]) == 0
    out, err = capsys.readouterr()
    assert "1 runs, 100 points" in out
    lines = err.splitlines()
    assert lines[0].startswith("command-one-0001: left out: ")
    assert len(lines[0]) > len("command-one-0001: left out: ")
    assert "warning: 1 run was left out, see above" in lines
    store = Store.open(home.database, SETTINGS)
    assert store.read(lambda con: con.execute("SELECT DISTINCT id FROM runs").fetchall()) == [("command-two-0002",)]
    assert store.read(lambda con: con.execute("SELECT count(*) FROM metrics_long").fetchone()) == (100,)
    store.close()


def test_a_directory_in_the_databases_place_is_said_and_nothing_is_left_behind(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.database.mkdir()
    before = sorted(os.listdir(home.root))
    assert main(["--home", str(home.root)]) == 1
    assert capsys.readouterr().err == f"llmops-tui: {home.database} is a directory, not a database; move it away, then do this again\n"
    assert sorted(set(os.listdir(home.root)) - {"engine.lock"}) == before


def test_something_in_the_way_of_the_swap_is_named_and_the_new_file_does_not_stay(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    rebuild(home, SETTINGS)
    kept = home.database.with_name("llmops.duckdb.bak")
    kept.mkdir()
    assert main(["--home", str(home.root)]) == 1
    assert f"{kept}: Is a directory; repair or move away what is there" in capsys.readouterr().err
    assert not home.database.with_name("llmops.duckdb.new").exists()
    Store.open(home.database, SETTINGS).close()


def test_a_running_engine_is_not_disturbed(home: Home) -> None:
    descriptor = os.open(home.engine_lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(ConflictError, match="engine stop"):
            rebuild(home, SETTINGS)
    finally:
        os.close(descriptor)
    assert not home.database.exists()
