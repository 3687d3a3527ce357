"""The one owner of the database file: a single writer thread, and readers that never wait for it.

Nothing in this package opens the file outside DuckDB: closing such a handle would drop DuckDB's POSIX lock, and a second
writer could then destroy committed rows without a word. For the same reason user SQL may not name a file (sql_sandbox.py).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import duckdb

from llmops_tui.data.migrate import MIGRATIONS, migrate, read_meta
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.specs.settings import EngineSettings

T = TypeVar("T")
# What to run, whose future, and whether inside a transaction.
Job = tuple[Callable[[duckdb.DuckDBPyConnection], object], "Future[object]", bool]

_LEAST_MEMORY = "16MB"
_REBUILD = "make it anew from the run directories with `llmops-tui doctor --rebuild`"


class Store:
    """An open database. `epoch` names it: engine event numbers only compare within one epoch."""

    def __init__(self, path: Path, settings: EngineSettings, migrations: Path) -> None:
        self.path = path
        self.failure = ""
        self._settings = settings
        self._lock = threading.Lock()
        self._readers = 0
        self._root = connect(path, settings)
        try:
            migrate(self._root, migrations)
            self.epoch = read_meta(self._root, "epoch")
            _lock_down(self._root, path)
        except duckdb.Error as error:
            self._root.close()
            raise LlmopsError(f"the database {path} is damaged: {first_line(error)}", _REBUILD) from error
        except BaseException:
            self._root.close()
            raise
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="duckdb-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path, settings: EngineSettings, migrations: Path = MIGRATIONS) -> Store:
        """Open or create, and migrate. Takes no lock of its own: the daemon holds the state directory's.

        Raises ConflictError (another process has it, a newer program made it) or LlmopsError (damaged, not writable).
        """
        return cls(path, settings, migrations)

    def write(self, fn: Callable[[duckdb.DuckDBPyConnection], T]) -> Future[T]:
        """Run `fn` in the writer thread inside one transaction; the future is done when it is committed or rolled back."""
        return self._ask(fn, transaction=True)

    def checkpoint(self) -> Future[None]:
        """Write the log into the file, after the writes asked for before, and free what was deleted."""

        def checkpoint(con: duckdb.DuckDBPyConnection) -> None:
            con.execute("CHECKPOINT")

        return self._ask(checkpoint, transaction=False)

    def release_memory(self) -> Future[bool]:
        """Give cached blocks back to the system; DuckDB itself keeps them up to its limit for ever. False when readers are at work."""
        return self._ask(self._release, transaction=False)

    def read(self, fn: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run `fn` on a cursor of its own in the calling thread. It sees the last commit and blocks nobody."""
        with self._lock:
            if self._closed or self.failure:
                raise LlmopsError(self.failure or "the database is closed", "see `llmops-tui engine status`")
            cursor = self._root.cursor()
            self._readers += 1
        try:
            return fn(cursor)
        finally:
            cursor.close()
            with self._lock:
                self._readers -= 1

    def close(self) -> None:
        """Finish what was asked, write everything into the file and let it go. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._root.close()

    def _ask(self, fn: Callable[[duckdb.DuckDBPyConnection], T], *, transaction: bool) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise LlmopsError("the database is closed", "the engine is stopping; try again when it is back")
            self._jobs.put((fn, future, transaction))  # type: ignore[arg-type]
        return future

    def _release(self, con: duckdb.DuckDBPyConnection) -> bool:
        with self._lock:  # a query that began under the low limit would fail
            if self._readers:
                return False
            try:
                with contextlib.suppress(duckdb.OutOfMemoryException):  # more than that is in use: what is not has been let go
                    con.execute(f"SET memory_limit = '{_LEAST_MEMORY}'")
            finally:
                con.execute(f"SET memory_limit = '{self._settings.database_memory}'")
        return True

    def _work(self) -> None:
        con: duckdb.DuckDBPyConnection | None = self._root.cursor()
        while (job := self._jobs.get()) is not None:
            fn, future, transaction = job
            if not future.set_running_or_notify_cancel():
                continue
            con = con or self._reopen()
            if con is None:
                future.set_exception(LlmopsError(self.failure, "make room on its disk; the engine tries again by itself"))
                continue
            try:
                if transaction:
                    con.execute("BEGIN")
                value = fn(con)
                if transaction:
                    con.execute("COMMIT")
            except BaseException as error:  # noqa: BLE001 - handed to the one who waits for it
                with contextlib.suppress(duckdb.Error):  # a COMMIT that failed has no transaction left
                    con.execute("ROLLBACK")
                if isinstance(error, duckdb.FatalException):
                    con.close()
                    con = None
                future.set_exception(error)
            else:
                future.set_result(value)
        if con:
            con.close()

    def _reopen(self) -> duckdb.DuckDBPyConnection | None:
        """After a fatal error (the disk filled up in a checkpoint) DuckDB refuses everything; a fresh open replays its log."""
        with self._lock:
            self._root.close()
            try:
                self._root = connect(self.path, self._settings)
                _lock_down(self._root, self.path)
            except (duckdb.Error, LlmopsError) as error:
                self.failure = f"the database stopped and does not open again: {first_line(error)}"
                return None
            self.failure = ""
            return self._root.cursor()


def connect(path: Path, settings: EngineSettings) -> duckdb.DuckDBPyConnection:
    """Open the file with every way out of it shut. Raises ConflictError or LlmopsError with the next step."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": settings.database_threads,
        "memory_limit": settings.database_memory,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_persistent_secrets": False,
    }
    if path.is_dir():
        raise LlmopsError(f"{path} is a directory, not a database", "move it away, then do this again")
    try:
        return duckdb.connect(str(path), config=config)
    except duckdb.Error as error:
        reason = first_line(error)
        if "Could not set lock" in reason:
            raise ConflictError(
                f"another process has the database {path} open", "use the engine that runs (`llmops-tui engine status`), or stop it"
            ) from error
        if any(mark in reason for mark in ("Permission denied", "Read-only", "No space left", "No such file")):
            raise LlmopsError(
                f"the database cannot be opened: {reason}", "make the state directory writable, or choose another with --home"
            ) from error
        raise LlmopsError(f"the database {path} is damaged: {reason}", _REBUILD) from error


def staging_directory(path: Path) -> Path:
    """The one directory DuckDB may write besides its own file: backups are made here and then moved."""
    return path.parent / "backup-staging"


def first_line(error: BaseException) -> str:
    """The first line of what DuckDB says; the rest repeats the statement."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip()


def _lock_down(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Shut every way from SQL to files and settings. It holds for the whole open database, our own statements included."""
    staging = str(staging_directory(path.absolute())).replace("'", "''")
    con.execute(f"SET allowed_directories = ['{staging}/']")
    con.execute("SET allowed_configs = ['memory_limit']")  # for release_memory; a user's statement is a SELECT and sets nothing
    con.execute("SET enable_external_access = false")
    con.execute("SET python_enable_replacements = false")
    con.execute("SET lock_configuration = true")
