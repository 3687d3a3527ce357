"""A user's SELECT over the engine's own tables: it can read them and nothing else, and it ends.

Five fences, each for what the others let through (measured with DuckDB 2.0):
- the open database has no access to files, extensions or settings (store.py) - but lets `read_blob` open *its own* file;
- so the parsed statement may only name plain tables and the table functions below;
- `WITH x AS (INSERT …) SELECT …` parses as a SELECT: the transaction is read-only, and rolled back;
- a timer interrupts what does not end by itself;
- an answer has a largest size: `repeat('x', 1e9)` is one row, and the engine would hold it several times over.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import math
import re
import threading
import uuid
from collections.abc import Iterator

import duckdb

from llmops_tui.data.store import first_line
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.answers import SqlAnswer

MOST_ROWS = 100_000
MOST_CELL_BYTES = 1 << 20
MOST_ANSWER_BYTES = 32 << 20
_CHUNK_CELLS = 64

_TABLES_HINT = '`llmops-tui sql "SHOW TABLES"` lists what can be asked'
_PLAIN_NAME = re.compile(r"\w+")
_SMALL_TYPE = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER|DOUBLE|FLOAT|BOOLEAN|DECIMAL\([\d,]+\)|DATE|TIME.*|INTERVAL|UUID")
_TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "json_each", "json_tree", "duckdb_tables", "duckdb_views", "duckdb_columns", "duckdb_functions"}
)
_SCALAR_FUNCTIONS_REFUSED = frozenset({"write_log", "nextval", "setseed", "getenv"})


def user_sql(con: duckdb.DuckDBPyConnection, query: str, limit: int = 1000, timeout_seconds: float = 30.0) -> SqlAnswer:
    """Run one SELECT (WITH, FROM, VALUES, DESCRIBE, SHOW TABLES, SUMMARIZE too) on a cursor of its own.

    At most `limit` rows come back, `truncated` says whether there were more. Raises UsageError for anything that is no plain
    read or is wrong SQL, LlmopsError when it took longer than `timeout_seconds` or more than the database's memory.
    """
    limit = max(0, min(limit, MOST_ROWS))
    statement = _single_select(con, query)
    timer = threading.Timer(timeout_seconds, con.interrupt)
    timer.daemon = True
    con.execute("BEGIN TRANSACTION READ ONLY")
    timer.start()
    try:
        return _run(con, statement, limit)
    except duckdb.InterruptException:
        raise LlmopsError(f"the query took longer than {timeout_seconds:g} s", "narrow it by run or step, or aggregate less") from None
    except duckdb.OutOfMemoryException as error:
        raise LlmopsError(f"the query needs too much memory: {first_line(error)}", "narrow it, or raise engine.database_memory") from None
    except duckdb.Error as error:
        raise UsageError(first_line(error), _TABLES_HINT) from None
    finally:
        timer.cancel()
        timer.join()
        with contextlib.suppress(duckdb.Error):  # interrupted a moment too late; closing the cursor rolls back as well
            con.execute("ROLLBACK")


def _single_select(con: duckdb.DuckDBPyConnection, query: str) -> str:
    """The statement's text. Raises UsageError unless it is one SELECT that names only tables."""
    try:
        statements = con.extract_statements(query)
    except duckdb.Error as error:
        raise UsageError(first_line(error), _TABLES_HINT) from None
    if len(statements) != 1:
        raise UsageError(f"one statement, not {len(statements)}", "ask one SELECT at a time")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise UsageError(f"only SELECT, not {statements[0].type.name}", "the database is an index of the run directories; change those")
    text = _without_end(str(statements[0].query))
    row = con.execute("SELECT json_serialize_sql(?)", [text]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree.get("error"):
        raise UsageError(str(tree.get("error_message") or "not a SELECT").splitlines()[0], _TABLES_HINT)
    for node in _nodes(tree):
        _check(node)
    return text


def _without_end(statement: str) -> str:
    """Cut the closing semicolon and what follows it (comments), so that the statement can stand in brackets."""
    encoded = statement.encode()
    for offset, kind in duckdb.tokenize(statement):
        if kind == duckdb.token_type.operator and encoded[offset : offset + 1] == b";":
            return encoded[:offset].decode()
    return statement


def _check(node: dict[str, object]) -> None:
    kind = node.get("type")
    if kind == "BASE_TABLE" and not _PLAIN_NAME.fullmatch(str(node.get("table_name"))):
        raise UsageError(f"{node.get('table_name')!r} is no table of the database; files cannot be read from here", _TABLES_HINT)
    function = node.get("function")
    if kind == "TABLE_FUNCTION":
        name = str(function.get("function_name")).lower() if isinstance(function, dict) else ""
        if name not in _TABLE_FUNCTIONS:
            raise UsageError(f"the table function {name!r} is not available here", _TABLES_HINT)
    if str(node.get("function_name", "")).lower() in _SCALAR_FUNCTIONS_REFUSED:
        raise UsageError(f"the function {node['function_name']!r} is not available here", _TABLES_HINT)


def _nodes(tree: object) -> Iterator[dict[str, object]]:
    pending = [tree]
    while pending:  # a stack, because a hostile statement nests deeper than Python's
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _run(con: duckdb.DuckDBPyConnection, statement: str, limit: int) -> SqlAnswer:
    described = con.execute(f"DESCRIBE {statement}\n").fetchall()
    columns, types = [str(row[0]) for row in described], [str(row[1]) for row in described]
    names = [f"c{number}" for number in range(len(columns))]
    chosen = [_column(name, kind) for name, kind in zip(names, types, strict=True)]
    wrapped = f"SELECT {', '.join(chosen)} FROM (\n{statement}\n) AS answer({', '.join(names)}) LIMIT {limit + 1}"
    result = con.execute(wrapped)
    rows: list[list[object]] = []
    held, at_once = 0, max(1, _CHUNK_CELLS // len(columns))
    while chunk := result.fetchmany(at_once):
        rows.extend([_plain(value) for value in row] for row in chunk)
        held += sum(_size(value) for row in chunk for value in row)
        if held > MOST_ANSWER_BYTES:
            raise LlmopsError(f"the answer is larger than {MOST_ANSWER_BYTES >> 20} MiB", "narrow it, or ask for fewer rows with --limit")
    return SqlAnswer(columns=columns, types=types, rows=rows[:limit], truncated=len(rows) > limit)


def _column(name: str, kind: str) -> str:
    """How a column is asked for, so that no value of it is larger than MOST_CELL_BYTES."""
    # Times with a zone would need pytz to become Python values: let DuckDB spell them.
    value = f"CAST({name} AS VARCHAR)" if "TIME ZONE" in kind else name
    if _SMALL_TYPE.fullmatch(kind):
        return value
    if kind == "BLOB":
        length = f"octet_length({name})"
    else:
        length = f"strlen({name})" if kind in ("VARCHAR", "JSON") else f"strlen(CAST({name} AS VARCHAR))"
    return f"CASE WHEN {length} > {MOST_CELL_BYTES} THEN error('a value is larger than {MOST_CELL_BYTES >> 20} MiB') ELSE {value} END"


def _size(value: object) -> int:
    """About the bytes a cell takes in the answer."""
    if isinstance(value, str | bytes):
        return len(value)
    return len(str(value)) if isinstance(value, list | dict | tuple) else 8


def _plain(value: object) -> object:
    """A value JSON can carry."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | uuid.UUID):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)
