"""A user's SQL reads the engine's tables and nothing else, and ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.data.sql_sandbox import user_sql
from llmops_tui.data.store import Store
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.answers import SqlAnswer
from llmops_tui.specs.settings import EngineSettings
from tests.unit.test_store import second_writer

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    store.write(lambda con: con.execute("INSERT INTO metrics SELECT range, 'm' || range FROM range(50)")).result()
    store.checkpoint().result()
    yield store
    store.close()


def ask(store: Store, query: str, limit: int = 1000, timeout_seconds: float = 30.0) -> SqlAnswer:
    return store.read(lambda con: user_sql(con, query, limit, timeout_seconds))


def test_a_select_answers_with_columns_types_and_rows(store: Store) -> None:
    answer = ask(store, "SELECT metric_key AS k, name FROM metrics ORDER BY k DESC LIMIT 2; -- newest first")
    assert answer == {"columns": ["k", "name"], "types": ["INTEGER", "VARCHAR"], "rows": [[49, "m49"], [48, "m48"]], "truncated": False}


def test_the_row_limit_cuts_and_says_so(store: Store) -> None:
    answer = ask(store, "SELECT metric_key FROM metrics ORDER BY 1", limit=3)
    assert (answer["rows"], answer["truncated"]) == ([[0], [1], [2]], True)
    assert ask(store, "SELECT metric_key FROM metrics", limit=50)["truncated"] is False


@pytest.mark.parametrize(
    "query",
    [
        "SHOW TABLES", "DESCRIBE metrics", "SUMMARIZE metrics", "FROM metrics", "VALUES (1), (2)", "SELECT 1 AS a, 2 AS a",
        "SELECT * FROM metrics_long", "SELECT count(*) FROM points JOIN runs USING (run_key)", "SELECT * FROM range(3)",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x", "SELECT unnest([1, 2])", "SELECT * FROM information_schema.tables",
    ],
)  # fmt: skip
def test_plain_reads_work(store: Store, query: str) -> None:
    answer = ask(store, query)
    assert len(answer["columns"]) == len(answer["types"])
    json.dumps(answer, allow_nan=False)


def test_every_value_can_travel_as_json(store: Store) -> None:
    query = (
        "SELECT 'NaN'::DOUBLE, 1.5::DECIMAL(9, 2), DATE '2026-01-02', now(), TIMESTAMP '2026-01-02 03:04:05', 'ab'::BLOB, "
        "INTERVAL 1 DAY, uuid(), {'a': [1, 'Infinity'::DOUBLE]}, MAP {'k': 1}, NULL, true, 2::HUGEINT ** 100, TIME '01:02:03'"
    )
    answer = ask(store, query)
    row = json.loads(json.dumps(answer, allow_nan=False))["rows"][0]
    assert row[:3] == [None, 1.5, "2026-01-02"]
    assert row[8] == {"a": [1.0, None]}


@pytest.mark.parametrize(
    "query",
    [
        "", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE metrics", "DROP TABLE metrics", "DELETE FROM metrics", "CREATE TABLE x (a INTEGER)",
        "INSERT INTO metrics VALUES (99, 'x')", "UPDATE metrics SET name = 'x'", "COPY metrics TO '{home}/out.csv'",
        "COPY (SELECT 1) TO '{home}/out.csv'", "ATTACH '{home}/other.duckdb'", "ATTACH '{home}/backup-staging/other.duckdb'",
        "INSTALL httpfs", "LOAD httpfs", "PRAGMA database_list", "SET memory_limit = '8GB'", "RESET threads", "CHECKPOINT", "BEGIN",
        "COMMIT",
        "CALL checkpoint()", "EXPORT DATABASE '{home}/dump'", "VACUUM", "PREPARE p AS SELECT 1", "EXPLAIN ANALYZE DELETE FROM metrics",
        "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM '/etc/passwd'",
        "FROM '{home}/llmops.duckdb'", "SELECT * FROM read_blob('{home}/llmops.duckdb')", "SELECT * FROM glob('/etc/*')",
        "SELECT (SELECT size FROM read_blob('{home}/llmops.duckdb'))", "FROM query('FROM read_blob(''{home}/llmops.duckdb'')')",
        "WITH x AS (SELECT * FROM read_blob('{home}/llmops.duckdb')) SELECT * FROM x", "FROM query_table('llmops.duckdb')",
        "DESCRIBE (FROM read_blob('{home}/llmops.duckdb'))", "SELECT * FROM parquet_scan('x')", "SELECT * FROM sniff_csv('/etc/passwd')",
        "WITH x AS (INSERT INTO metrics VALUES (99, 'x') RETURNING *) SELECT * FROM x",
        "WITH x AS (DELETE FROM metrics RETURNING *) SELECT * FROM x", "SELECT * FROM store", "SELECT write_log('x')",
        "SELECT 1) AS a; DROP TABLE metrics; --", "SELECT * FROM nowhere", "SELEC 1", "(" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_plain_read_of_the_tables_is_refused(store: Store, tmp_path: Path, query: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(store, query.replace("{home}", str(tmp_path)))
    assert "\n" not in str(caught.value)
    assert caught.value.next_step
    assert ask(store, "SELECT count(*), max(metric_key) FROM metrics")["rows"] == [[50, 49]]
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.suffix != ".wal") == ["llmops.duckdb"]
    store.write(lambda con: con.execute("INSERT INTO meta VALUES ('still', 'writable')")).result()


def test_reading_the_database_file_through_sql_cannot_drop_its_lock(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "llmops.duckdb"
    with pytest.raises(UsageError):
        ask(store, f"SELECT size FROM read_blob('{path}')")
    assert second_writer(path) == "refused"


def test_an_endless_query_ends_at_its_timeout_and_the_engine_goes_on(store: Store) -> None:
    with pytest.raises(LlmopsError, match=r"longer than 0\.3 s"):
        ask(store, ENDLESS, timeout_seconds=0.3)
    assert ask(store, "SELECT 1")["rows"] == [[1]]


def test_a_query_beyond_the_memory_limit_fails_alone(store: Store) -> None:
    with pytest.raises(LlmopsError, match="memory"):
        ask(store, "SELECT list(range) FROM range(300000000)")
    assert ask(store, "SELECT 1")["rows"] == [[1]]


def test_a_query_does_not_see_the_variables_of_the_program() -> None:
    # The same check in a program whose frame has a table-like variable: replacement scans must be off, not merely out of reach.
    script = (
        "import sys, tempfile, numpy; from pathlib import Path\n"
        "from llmops_tui.data.store import Store; from llmops_tui.specs.settings import EngineSettings\n"
        "store = Store.open(Path(tempfile.mkdtemp()) / 'a.duckdb', EngineSettings())\n"
        "secret = {'a': numpy.array([1])}\n"
        "try: print(store.read(lambda con: con.execute('SELECT * FROM secret').fetchall()))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "store.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CatalogException"


@pytest.mark.parametrize(("value", "rows"), [("repeat('x', 2000000)", 1), ("repeat('x', 2000000)::BLOB", 1), ("list(range)", 1_000_000)])
def test_a_value_that_fills_the_memory_is_refused(store: Store, value: str, rows: int) -> None:
    with pytest.raises(UsageError, match="a value is larger than 1 MiB"):
        ask(store, f"SELECT {value} FROM range({rows})")


def test_an_answer_that_fills_the_memory_is_refused(store: Store) -> None:
    with pytest.raises(LlmopsError, match="the answer is larger than 32 MiB"):
        ask(store, "SELECT repeat('x', 1000000) FROM range(100)")
    assert len(ask(store, "SELECT range, now(), [range], {'a': range} FROM range(100000)", limit=100_000)["rows"]) == 100_000
