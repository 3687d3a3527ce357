"""Opening, migrating, writing and reading the database; and refusing what it cannot open."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from llmops_tui.data.backup import backup
from llmops_tui.data.migrate import MIGRATIONS, list_scripts
from llmops_tui.data.store import Store
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.specs.settings import EngineSettings

SECOND_WRITER = """
import sys, duckdb
try:
    duckdb.connect(sys.argv[1]).execute("CREATE TABLE intruder (a INTEGER)")
except duckdb.IOException:
    print("refused")
else:
    print("came in")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llmops.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store.open(path, EngineSettings())
    yield store
    store.close()


def second_writer(path: Path) -> str:
    return subprocess.run([sys.executable, "-c", SECOND_WRITER, str(path)], capture_output=True, text=True, check=True).stdout.strip()


def test_a_write_is_there_after_its_future_is_done(store: Store) -> None:
    store.write(lambda con: con.execute("INSERT INTO metrics VALUES (1, 'a')")).result()
    assert store.read(lambda con: con.execute("SELECT name FROM metrics").fetchall()) == [("a",)]


def test_a_write_that_fails_leaves_nothing_and_the_next_one_works(store: Store) -> None:
    def half(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("INSERT INTO metrics VALUES (1, 'a')")
        con.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(duckdb.CatalogException):
        store.write(half).result()
    assert store.write(lambda con: con.execute("SELECT count(*) FROM metrics").fetchone()).result() == (0,)


def test_a_reader_sees_the_last_commit_while_a_write_is_under_way(store: Store) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("INSERT INTO metrics VALUES (1, 'a')")
        inside.set()
        assert go_on.wait(20)

    future = store.write(slow)
    assert inside.wait(20)
    assert store.read(lambda con: con.execute("SELECT count(*) FROM metrics").fetchone()) == (0,)
    go_on.set()
    future.result(20)
    assert store.read(lambda con: con.execute("SELECT count(*) FROM metrics").fetchone()) == (1,)


def test_writes_asked_for_before_the_close_are_kept(path: Path) -> None:
    store = Store.open(path, EngineSettings())
    futures = [store.write(lambda con, n=n: con.execute("INSERT INTO metrics VALUES (?, 'a')", [n])) for n in range(20)]
    store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(LlmopsError, match="closed"):
        store.write(lambda con: None)
    again = Store.open(path, EngineSettings())
    assert again.read(lambda con: con.execute("SELECT count(*) FROM metrics").fetchone()) == (20,)
    again.close()


def test_the_epoch_stays_with_the_database(path: Path) -> None:
    first = Store.open(path, EngineSettings())
    first.close()
    second = Store.open(path, EngineSettings())
    second.close()
    assert first.epoch == second.epoch != ""


def test_extensions_threads_and_memory_are_set(path: Path) -> None:
    store = Store.open(path, EngineSettings(database_threads=1, database_memory="256MiB"))
    query = "SELECT current_setting('threads'), current_setting('memory_limit'), current_setting('autoinstall_known_extensions')"
    assert store.read(lambda con: con.execute(query).fetchone()) == (1, "256.0 MiB", False)
    store.close()


def test_cached_blocks_are_given_back_and_the_limit_stands_again(store: Store) -> None:
    store.write(lambda con: con.execute("INSERT INTO points_live SELECT 1, 1, 1, range, range, random() FROM range(4000000)")).result()
    store.checkpoint().result()
    cached = "SELECT sum(memory_usage_bytes) FROM duckdb_memory()"
    store.read(lambda con: con.execute("SELECT sum(value) FROM points_live").fetchall())
    before = store.read(lambda con: con.execute(cached).fetchone())
    assert store.read(lambda con: store.release_memory().result()) is False, "a reader at work is not disturbed"
    assert store.release_memory().result()
    after = store.read(lambda con: con.execute(cached).fetchone())
    assert before is not None
    assert after is not None
    assert after[0] <= 16_000_000 < before[0]
    assert store.read(lambda con: con.execute("SELECT current_setting('memory_limit')").fetchone()) == ("488.2 MiB",)


def test_the_program_brings_its_migrations_and_big_tables_have_no_index(store: Store) -> None:
    assert list_scripts(MIGRATIONS)
    query = (
        "SELECT (SELECT count(*) FROM duckdb_indexes()), (SELECT count(*) FROM duckdb_constraints() WHERE constraint_type <> 'NOT NULL')"
    )
    assert store.read(lambda con: con.execute(query).fetchone()) == (0, 0)


def test_an_older_database_is_migrated_and_keeps_its_rows(path: Path, tmp_path: Path) -> None:
    old = Store.open(path, EngineSettings())
    old.write(lambda con: con.execute("INSERT INTO metrics VALUES (1, 'train/loss')")).result()
    epoch = old.epoch
    old.close()
    newer = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, newer)
    number = len(list_scripts(MIGRATIONS)) + 1
    (newer / f"{number:04d}_units.sql").write_text("ALTER TABLE metrics ADD COLUMN unit VARCHAR; UPDATE metrics SET unit = 'nats';")
    store = Store.open(path, EngineSettings(), newer)
    assert store.read(lambda con: con.execute("SELECT name, unit FROM metrics").fetchall()) == [("train/loss", "nats")]
    assert store.epoch == epoch
    store.close()
    assert not path.with_name(f"{path.name}.wal").exists()


def test_a_migration_that_fails_changes_nothing(path: Path, tmp_path: Path) -> None:
    Store.open(path, EngineSettings()).close()
    newer = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, newer)
    number = len(list_scripts(MIGRATIONS)) + 1
    (newer / f"{number:04d}_bad.sql").write_text("CREATE TABLE half (a INTEGER); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(LlmopsError, match="nowhere"):
        Store.open(path, EngineSettings(), newer)
    store = Store.open(path, EngineSettings())
    assert store.read(lambda con: con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'").fetchone()) == (0,)
    store.close()


def test_a_newer_database_is_refused_with_the_next_step(path: Path) -> None:
    Store.open(path, EngineSettings()).close()
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    before = path.stat().st_mtime_ns
    with pytest.raises(ConflictError, match=r"schema 99.*upgrade llmops-tui, or .*doctor --rebuild"):
        Store.open(path, EngineSettings())
    assert path.stat().st_mtime_ns == before


def test_a_gap_in_the_numbers_of_migrations_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0002_x.sql").write_text("")
    with pytest.raises(ValueError, match="numbered"):
        list_scripts(tmp_path)


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"", b"\0" * 20_000], ids=["text", "empty", "zeros"])
def test_a_damaged_database_points_to_the_rebuild(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LlmopsError, match="doctor --rebuild") as caught:
        Store.open(path, EngineSettings())
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_damaged_log_points_to_the_rebuild(path: Path) -> None:
    Store.open(path, EngineSettings()).close()
    script = (
        "import os, sys; from pathlib import Path\n"
        "from llmops_tui.data.store import Store; from llmops_tui.specs.settings import EngineSettings\n"
        "store = Store.open(Path(sys.argv[1]), EngineSettings())\n"
        "store.write(lambda con: con.execute('INSERT INTO metrics SELECT range, range FROM range(1000)')).result()\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    log = path.with_name(f"{path.name}.wal")
    content = bytearray(log.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    log.write_bytes(content)
    with pytest.raises(LlmopsError, match="doctor --rebuild"):
        Store.open(path, EngineSettings())


def test_a_directory_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LlmopsError, match=r"cannot be opened.*--home"):
        Store.open(tmp_path / "absent" / "llmops.duckdb", EngineSettings())


def test_a_second_process_is_refused_and_so_is_a_second_store_there(store: Store, path: Path) -> None:
    assert second_writer(path) == "refused"
    script = (
        "import sys; from pathlib import Path\n"
        "from llmops_tui.data.store import Store; from llmops_tui.specs.settings import EngineSettings\n"
        "try: Store.open(Path(sys.argv[1]), EngineSettings())\n"
        "except Exception as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout
    assert "another process has the database" in said
    assert "engine status" in said


def test_a_backup_opens_like_any_database_and_the_lock_still_holds(store: Store, path: Path, tmp_path: Path) -> None:
    store.write(lambda con: con.execute("INSERT INTO metrics VALUES (1, 'train/loss')")).result()
    store.checkpoint().result()  # without a log in place a dropped lock would let the second writer in
    target = tmp_path / "it's a copy.duckdb"
    size = backup(store, target)
    assert size == target.stat().st_size > 0
    assert second_writer(path) == "refused"
    copy = Store.open(target, EngineSettings())
    assert copy.read(lambda con: con.execute("SELECT name FROM metrics").fetchall()) == [("train/loss",)]
    assert copy.epoch == store.epoch
    copy.close()
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".wal")) == ["it's a copy.duckdb", "llmops.duckdb"]


def test_a_backup_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "copy.duckdb"
    target.write_text("precious")
    with pytest.raises(ConflictError, match="exists"):
        backup(store, target)
    with pytest.raises(LlmopsError, match="no backup"):
        backup(store, tmp_path / "absent" / "copy.duckdb")
    assert target.read_text() == "precious"
    assert stat.S_ISREG(target.stat().st_mode)


def test_a_backup_to_another_file_system_is_never_written_through_a_link(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "replace", elsewhere)
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / ".copy.duckdb.partial").symlink_to(precious)
    assert backup(store, tmp_path / "copy.duckdb") == (tmp_path / "copy.duckdb").stat().st_size
    assert precious.read_text() == "kept"
    assert not (tmp_path / "copy.duckdb").is_symlink()


def test_a_directory_is_no_damaged_database(tmp_path: Path) -> None:
    with pytest.raises(LlmopsError, match="is a directory, not a database; move it away"):
        Store.open(tmp_path, EngineSettings())
