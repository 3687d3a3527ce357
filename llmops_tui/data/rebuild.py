"""The database made anew from the run directories and the gateway's spool, which are the truth. Offline: the engine must not run."""

from __future__ import annotations

import argparse
import contextlib
import errno
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
from llmops_tui.data.queries import forget_run, upsert_run
from llmops_tui.data.request_carry import take_over_requests
from llmops_tui.data.run_row import summary_of
from llmops_tui.data.rundir import RunDir, list_runs, read_spec
from llmops_tui.data.spool_reader import SpoolReader
from llmops_tui.data.store import Store, connect, first_line
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.paths import Home, find_home
from llmops_tui.specs.settings import EngineSettings, load_settings

_READ_BYTES = 4 << 20
# What a damaged run directory brings about, and a database without room or a bug of ours does not.
_RUN_IS_BAD = (
    OSError,
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    duckdb.DataError,
    duckdb.ProgrammingError,
    duckdb.IntegrityError,
)


@dataclass
class Rebuilt:
    """What came of it. `skipped` counts the runs left out; `kept` names the old database where its samples could not be read."""

    runs: int = 0
    skipped: int = 0
    points: int = 0
    events: int = 0
    broken: int = 0
    samples: int = 0
    requests: int = 0
    kept: Path | None = None
    note: str = ""


def rebuild(home: Home, settings: EngineSettings, tell: Callable[[str], None] = lambda line: None) -> Rebuilt:
    """Read every run directory into a new database and put it in the old one's place. `tell` gets a line a run.

    A run whose directory cannot be read is left out, told of and counted; the others do not suffer.
    GPU and host samples stand nowhere else, so they are taken over from the old database where that can still be read; so are recorded
    requests, of which the gateway's spool has the latest alone. The old file lies at `llmops.duckdb.bak` until the new one is in its
    place. Raises ConflictError while an engine runs, LlmopsError when the new database cannot be written or put in place; the old one
    then stands as it did.
    """
    home.root.mkdir(parents=True, exist_ok=True)
    with _engine_lock(home):
        if home.database.is_dir():
            raise LlmopsError(f"{home.database} is a directory, not a database", "move it away, then do this again")
        fresh = home.database.with_name(f"{home.database.name}.new")
        try:
            _remove(fresh)
            Store.open(fresh, settings).close()
            problem = take_over_requests(home.database, fresh, settings)
            store = Store.open(fresh, settings)
            try:
                result = _fill(store, home, tell)
                _take_over_samples(store, home, settings, result)
                _take_spool(store, home, result, problem)
            finally:
                store.close()
            _replace(home.database, fresh, result)
        except LlmopsError:
            _remove(fresh)
            raise
        except (OSError, duckdb.Error) as error:
            raise _not_written(fresh, error) from error
        return result


def _not_written(fresh: Path, error: OSError | duckdb.Error) -> LlmopsError:
    """Nothing half-made stays; where room is what lacked, there is more of it afterwards."""
    with contextlib.suppress(OSError):  # the error to tell is the first one
        _remove(fresh)
    if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename2 or error.filename or fresh
        return LlmopsError(f"the new database was not written: {where}: {error.strerror}", "repair or move away what is there")
    return LlmopsError(f"the new database was not written: {first_line(error)}", "make room in the state directory")


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
            line = _add(store, events, run, result)
        except _RUN_IS_BAD as error:
            events.forget()
            store.write(lambda con, name=run.id: forget_run(con, name)).result()  # type: ignore[misc]
            result.skipped += 1
            line = f"left out: {_why(error)}"
        tell(f"{run.id}: {line}")
    return result


def _add(store: Store, events: EventStore, run: RunDir, result: Rebuilt) -> str:
    """Take one run in; what to tell of it. Raises one of `_RUN_IS_BAD`."""
    try:
        record = read_spec(run)
    except ValueError:
        record = None
    if record is None:
        raise ValueError("it has no readable spec.json")
    summary, spec = summary_of(run, record), record.get("spec")
    store.write(lambda con: upsert_run(con, summary, spec if isinstance(spec, dict) else {})).result()
    points, told, broken = _ingest(store, events, run, ended=not run.tree_alive())
    result.runs, result.points, result.events, result.broken = (
        result.runs + 1, result.points + points, result.events + told, result.broken + broken,
    )  # fmt: skip
    return f"{points} points" + (f", {broken} unusable lines" if broken else "")


def _why(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{Path(error.filename).name}: {error.strerror}" if error.filename else str(error.strerror or error)
    return first_line(error)


def _ingest(store: Store, events: EventStore, run: RunDir, *, ended: bool) -> tuple[int, int, int]:
    """Points, other events and unusable lines of a run."""
    position = store.write(lambda con: open_position(con, run.id)).result()
    points = told = 0
    if not run.events.exists():
        return 0, 0, 0
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
                attempt_starts=run.attempt_starts,
                known=position.latest,
            )
            if batch.empty:
                break
            work = [(position, batch)]
            position = store.write(lambda con, w=work: events.write(con, w)).result()[0]  # type: ignore[misc]
            points += len(batch.value)
            told += len(batch.events)
    key = position.run_key
    while ended and store.write(lambda con: settle(con, key)).result():
        pass
    return points, told, position.broken


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


def _take_spool(store: Store, home: Home, result: Rebuilt, problem: str) -> None:
    """The recorded requests that the old database did not have; where they end, the engine goes on."""
    reader = SpoolReader(store, home.gateway / "spool")
    try:
        while reader.take().more:
            pass
    except OSError as error:  # the engine tells of it, and takes it once it can be read
        problem = "; ".join(filter(None, (problem, f"the spool: {_why(error)}")))
    counted = store.read(lambda con: con.execute("SELECT count(*) FROM requests").fetchone())
    result.requests = int(counted[0]) if counted else 0
    if problem:
        result.note = "; ".join(filter(None, (result.note, f"not all recorded requests could be read: {problem}")))


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
        print(f"llmops-tui: {error.filename or home.root}: {error.strerror or error}; repair it or move it away", file=sys.stderr)
        return 1
    print(f"{result.runs} runs, {result.points} points, {result.events} events and {result.samples} samples are in the new database")
    if result.requests:
        print(f"{result.requests} recorded requests are in it too")
    if result.skipped:
        print(f"warning: {result.skipped} run{'s were' if result.skipped > 1 else ' was'} left out, see above", file=sys.stderr)
    if result.broken:
        print(f"{result.broken} broken lines were skipped", file=sys.stderr)
    if result.note:
        print(result.note + (f"; the old file is {result.kept}" if result.kept else ""), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
