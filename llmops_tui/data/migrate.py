"""Bringing a database to this program's schema: numbered SQL files, each applied once, in order."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path

import duckdb

from llmops_tui.errors import ConflictError

MIGRATIONS = Path(__file__).parent / "migrations"

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


def migrate(con: duckdb.DuckDBPyConnection, directory: Path = MIGRATIONS) -> int:
    """Apply what is missing and return the schema version. Each file and its version number are one transaction.

    Raises ConflictError for a database a newer program has made; nothing is changed then.
    """
    scripts = list_scripts(directory)
    version = schema_version(con)
    if version > len(scripts):
        raise ConflictError(
            f"the database has schema {version}, this program knows up to {len(scripts)}: a newer llmops-tui has written it",
            "upgrade llmops-tui, or make this version's index anew with `llmops-tui doctor --rebuild`",
        )
    for number, script in enumerate(scripts[version:], version + 1):
        con.execute("BEGIN")
        try:
            con.execute(script.read_text())
            _set(con, "schema_version", str(number))
            if number == 1:
                _set(con, "epoch", uuid.uuid4().hex)
                _set(con, "created_at", str(time.time()))
            con.execute("COMMIT")
        except BaseException:
            con.execute("ROLLBACK")
            raise
        # DDL left in the write-ahead log is what replay has stumbled over (duckdb #19712): leave none there.
        con.execute("CHECKPOINT")
    return len(scripts)


def list_scripts(directory: Path) -> list[Path]:
    """The migration files by number. Raises ValueError when a number is missing or given twice."""
    scripts = sorted(path for path in directory.iterdir() if _FILE.fullmatch(path.name))
    numbers = [int(path.name[:4]) for path in scripts]
    if numbers != list(range(1, len(scripts) + 1)):
        raise ValueError(f"the migrations in {directory} are not numbered 1 to {len(scripts)}: {numbers}")
    return scripts


def schema_version(con: duckdb.DuckDBPyConnection) -> int:
    """0 for an empty database."""
    known = con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'meta' AND NOT temporary").fetchone()
    if not known or not known[0]:
        return 0
    row = con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return int(row[0]) if row else 0


def read_meta(con: duckdb.DuckDBPyConnection, key: str) -> str:
    row = con.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
    return str(row[0]) if row else ""


def _set(con: duckdb.DuckDBPyConnection, key: str, value: str) -> None:
    con.execute("DELETE FROM meta WHERE key = ?", [key])
    con.execute("INSERT INTO meta VALUES (?, ?)", [key, value])
