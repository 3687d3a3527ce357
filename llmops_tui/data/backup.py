"""A copy of the running database, made by DuckDB alone: the file is never opened or copied from outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb

from llmops_tui.data.durable import sync_directory
from llmops_tui.data.store import Store, first_line, staging_directory
from llmops_tui.errors import ConflictError, LlmopsError


def backup(store: Store, target: Path, put: Callable[[Path, Path], int] | None = None) -> int:
    """Write a consistent copy to `target` while work goes on; returns its size in bytes. It opens like any database.

    `put` brings the finished copy to its place where that is not ours to write. Raises ConflictError when the target exists
    (nothing is overwritten) and LlmopsError when it cannot be written.
    """
    if put is None and target.exists():
        raise ConflictError(f"{target} exists", "choose a name that is free")
    staging = staging_directory(store.path.absolute())
    staged = staging / f"{uuid.uuid4().hex}.duckdb"
    try:
        staging.mkdir(mode=0o700, exist_ok=True)
        store.read(lambda con: _copy(con, staged))
        return (put or _move)(staged, target)
    except (OSError, duckdb.Error) as error:
        raise LlmopsError(f"no backup to {target}: {first_line(error)}", "choose a directory that exists and has room") from error
    finally:
        for left in (staged, staged.with_name(f"{staged.name}.wal")):
            left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another backup may be using it
            staging.rmdir()


def _copy(con: duckdb.DuckDBPyConnection, staged: Path) -> None:
    row = con.execute("SELECT current_database()").fetchone()
    ours = str(row[0]).replace('"', '""') if row else ""
    theirs = f"backup_{staged.stem}"
    con.execute(f"ATTACH '{str(staged).replace(chr(39), chr(39) * 2)}' AS {theirs}")
    try:
        con.execute(f'COPY FROM DATABASE "{ours}" TO {theirs}')
    finally:
        con.execute(f"DETACH {theirs}")


def _move(staged: Path, target: Path) -> int:
    partial = target.with_name(f".{target.name}.partial")
    try:
        # The staged copy is detached, so it is a file like any other by now; across file systems it must be copied.
        try:
            os.replace(staged, partial)
        except OSError:
            partial.unlink(missing_ok=True)
            with open(staged, "rb") as original, open(partial, "xb") as copy:  # never through a link that lies there
                shutil.copyfileobj(original, copy, 4 << 20)
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(partial, target)  # unlike a rename it never replaces a file that came in between
    finally:
        partial.unlink(missing_ok=True)
    sync_directory(target.parent)
    return target.stat().st_size
