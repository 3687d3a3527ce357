"""The database made anew from the run directories, which are the truth. Offline: the engine must not run."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from llmops_tui.data.compact import settle
from llmops_tui.data.durable import sync_directory
from llmops_tui.data.event_lines import LONGEST_LINE_BYTES, parse
from llmops_tui.data.event_store import EventStore, open_position
from llmops_tui.data.queries import upsert_run
from llmops_tui.data.rundir import RunDir, list_runs, read_spec
from llmops_tui.data.store import Store, connect, first_line
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.paths import Home, find_home
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.settings import EngineSettings, load_settings
from llmops_tui.specs.states import ENDED, WAITING

_READ_BYTES = 4 << 20


@dataclass
class Rebuilt:
    """What came of it. `kept` names the old database where its samples could not be read, else it is None."""

    runs: int = 0
    points: int = 0
    events: int = 0
    broken: int = 0
    samples: int = 0
    kept: Path | None = None
    note: str = ""


def rebuild(home: Home, settings: EngineSettings, tell: Callable[[str], None] = lambda line: None) -> Rebuilt:
    """Read every run directory into a new database and put it in the old one's place. `tell` gets a line a run.

    GPU and host samples stand nowhere else, so they are taken over from the old database where that can still be read. The
    old file lies at `llmops.duckdb.bak` until the new one is in its place. Raises ConflictError while an engine runs.
    """
    home.root.mkdir(parents=True, exist_ok=True)
    with _engine_lock(home):
        fresh = home.database.with_name(f"{home.database.name}.new")
        _remove(fresh)
        try:
            store = Store.open(fresh, settings)
            try:
                result = _fill(store, home, tell)
                _take_over_samples(store, home, settings, result)
            finally:
                store.close()
        except LlmopsError:
            _remove(fresh)
            raise
        except (OSError, duckdb.Error) as error:
            _remove(fresh)
            raise LlmopsError(f"the new database was not written: {first_line(error)}", "make room in the state directory") from error
        _replace(home.database, fresh, result)
        return result


@contextlib.contextmanager
def _engine_lock(home: Home) -> Iterator[None]:
    descriptor = os.open(home.engine_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError("an engine runs on this state directory", "stop it first: `llmops-tui engine stop`; jobs go on") from None
    else:
        yield
    finally:
        os.close(descriptor)


def _fill(store: Store, home: Home, tell: Callable[[str], None]) -> Rebuilt:
    result, events = Rebuilt(), EventStore()
    for run in list_runs(home.runs):
        try:
            record = read_spec(run)
        except ValueError:
            record = None
        if record is None:
            tell(f"{run.id}: no readable spec.json, left out")
            continue
        summary, spec = _summary(run, record), record.get("spec")
        store.write(lambda con, s=summary, d=spec: upsert_run(con, s, d if isinstance(d, dict) else {})).result()  # type: ignore[misc]
        points, broken = _ingest(store, events, run, ended=not run.tree_alive(), result=result)
        tell(f"{run.id}: {points} points" + (f", {broken} unusable lines" if broken else ""))
        result.runs, result.points, result.broken = result.runs + 1, result.points + points, result.broken + broken
    return result


def _ingest(store: Store, events: EventStore, run: RunDir, *, ended: bool, result: Rebuilt) -> tuple[int, int]:
    position = store.write(lambda con: open_position(con, run.id)).result()
    points = 0
    if not run.events.exists():
        return 0, 0
    with open(run.events, "rb") as file:
        while True:
            data = os.pread(file.fileno(), _READ_BYTES, position.offset)
            if len(data) == _READ_BYTES and b"\n" not in data:
                data = os.pread(file.fileno(), LONGEST_LINE_BYTES, position.offset)
            final = ended and position.offset + len(data) >= os.fstat(file.fileno()).st_size
            batch = parse(
                data,
                position.offset,
                now=time.time(),
                final=final,
                skipping=position.skipping,
                default_attempt=run.newest_attempt,
                known=position.latest,
            )
            if batch.empty:
                break
            work = [(position, batch)]
            position = store.write(lambda con, w=work: events.write(con, w)).result()[0]  # type: ignore[misc]
            points += len(batch.value)
            result.events += len(batch.events)
    key = position.run_key
    while ended and store.write(lambda con: settle(con, key)).result():
        pass
    return points, position.broken


def _summary(run: RunDir, record: dict[str, Any]) -> RunSummary:
    """The row SQL users see until the engine, which knows more (locks, exit codes), writes its own."""
    spec: dict[str, Any] = record["spec"] if isinstance(record.get("spec"), dict) else {}
    states = [entry for entry in run.read_journal() if entry.get("entry") == "state"]
    last: dict[str, Any] = states[-1] if states else {}
    started_at, ended_at, exit_code = _times(states)
    return RunSummary(
        id=run.id,
        kind=str(spec.get("kind", "")),
        name=str(spec.get("name", "")),
        state=str(last.get("state") or "queued"),
        reason=str(last.get("reason") or ""),
        attempt=int(last.get("attempt") or 0),
        priority=int(spec.get("priority") or 0),
        queue_position=None,
        owner=str(record.get("owner", "")),
        tags=[str(tag) for tag in spec.get("tags") or []],
        submitted_at=float(record.get("submitted_at") or 0.0),
        started_at=started_at,
        ended_at=ended_at,
        exit_code=exit_code,
        gpus=[],
        progress=None,
        latest={},
    )


def _times(states: list[dict[str, Any]]) -> tuple[float | None, float | None, int | None]:
    """Start, end and exit code of the newest attempt. `t` is when the engine noted it, which may be long after it was so."""
    started_at = ended_at = exit_code = None
    for entry in states:
        data = entry["data"] if isinstance(entry.get("data"), dict) else {}
        noted_at = entry.get("t")
        if entry.get("state") == "running":
            started_at = _number(data.get("started_at"), noted_at)
        elif entry.get("state") in ENDED:
            ended_at, code = _number(data.get("ended_at"), noted_at), data.get("exit")
            exit_code = code if isinstance(code, int) else None
        elif entry.get("state") in WAITING:
            started_at = ended_at = exit_code = None
    return started_at, ended_at, exit_code


def _number(*candidates: object) -> float | None:
    return next((float(value) for value in candidates if isinstance(value, int | float)), None)


def _take_over_samples(store: Store, home: Home, settings: EngineSettings, result: Rebuilt) -> None:
    if not home.database.exists():
        return
    try:
        old = connect(home.database, settings)
        try:
            names = old.execute("SELECT series_key, name FROM sample_series").fetchall()
            store.write(lambda con: con.executemany("INSERT INTO sample_series VALUES (?, ?)", names) if names else None).result()
            cursor = old.execute("SELECT t_ms, series_key, value FROM samples ORDER BY t_ms")
            while rows := cursor.fetchmany(100_000):
                store.write(lambda con, r=rows: _append(con, r)).result()  # type: ignore[misc]
                result.samples += len(rows)
        finally:
            old.close()
    except ConflictError:
        raise
    except (duckdb.Error, LlmopsError) as error:
        result.note = f"the old database's GPU and host samples could not be read: {first_line(error)}"


def _append(con: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]]) -> None:
    appender = con.appender("samples")
    appender.append_rows(rows)
    appender.flush()


def _replace(old: Path, fresh: Path, result: Rebuilt) -> None:
    """Swap so that a cut at any moment leaves a database that opens: the old one, or the new one."""
    kept, log = old.with_name(f"{old.name}.bak"), old.with_name(f"{old.name}.wal")
    if old.exists():
        _remove(kept)
        # The old log must be gone before the new file stands in its place, or it would be replayed into it. Without its log
        # the old database is only older: its offsets say from where the events are read again.
        if log.exists():
            os.replace(log, kept.with_name(f"{kept.name}.wal"))
        os.link(old, kept)
    os.replace(fresh, old)
    sync_directory(old.parent)
    if result.note and kept.exists():
        result.kept = kept
    else:
        _remove(kept)


def _remove(path: Path) -> None:
    for left in (path, path.with_name(f"{path.name}.wal")):
        left.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """`python -m llmops_tui.data.rebuild --home DIR`: what `doctor --rebuild` runs; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m llmops_tui.data.rebuild", description="Make the database again, offline.")
    parser.add_argument("--home", help="state directory")
    parser.add_argument("--config", type=Path, help="settings file")
    options = parser.parse_args(arguments)
    home = find_home(options.home)
    try:
        result = rebuild(home, load_settings(options.config or home.config).engine, lambda line: print(line, file=sys.stderr, flush=True))
    except LlmopsError as error:
        print(f"llmops-tui: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"llmops-tui: {home.root}: {error.strerror or error}; free some disk or repair its permissions", file=sys.stderr)
        return 1
    print(f"{result.runs} runs, {result.points} points, {result.events} events and {result.samples} samples are in the new database")
    if result.broken:
        print(f"{result.broken} broken lines were skipped", file=sys.stderr)
    if result.note:
        print(result.note + (f"; the old file is {result.kept}" if result.kept else ""), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
