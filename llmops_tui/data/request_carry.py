"""Recorded requests from an old database into a new one: rows and spool offsets in one transaction, or nothing of either."""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb

from llmops_tui.data.store import connect, first_line
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.specs.settings import EngineSettings

TABLES = ("requests", "request_texts", "feedback", "spool_offsets", "request_keeping")


def take_over_requests(old: Path, fresh: Path, settings: EngineSettings) -> str:
    """Copy what `old` has of them into `fresh`, which has the tables and is closed. Why that failed; empty where it did not.

    Without the old offsets the spool is read from its beginning, so that a failure costs what the spool no longer has, and doubles
    nothing. Raises ConflictError where another process has the old database.
    """
    if not old.exists():
        return ""
    try:
        con = connect(old, settings)
    except ConflictError:
        raise
    except LlmopsError as error:
        return error.message
    try:
        _copy(con, fresh)
    except duckdb.Error as error:
        with contextlib.suppress(duckdb.Error):
            con.execute("ROLLBACK")
        return first_line(error)
    finally:
        con.close()
    return ""


def _copy(con: duckdb.DuckDBPyConnection, fresh: Path) -> None:
    name = str(fresh).replace("'", "''")
    con.execute(f"ATTACH '{name}' AS fresh")
    try:
        con.execute("BEGIN")
        for table in TABLES:
            shared = _columns(con, "current_database()", table) & _columns(con, "'fresh'", table)
            if shared:  # a database from before 0004 has none of them
                named = ", ".join(sorted(shared))
                con.execute(f"INSERT INTO fresh.{table} ({named}) SELECT {named} FROM {table}")
        con.execute("COMMIT")
    finally:
        with contextlib.suppress(duckdb.Error):
            con.execute("DETACH fresh")


def _columns(con: duckdb.DuckDBPyConnection, database: str, table: str) -> set[str]:
    query = f"SELECT column_name FROM duckdb_columns() WHERE database_name = {database} AND table_name = ?"
    return {str(row[0]) for row in con.execute(query, [table]).fetchall()}
