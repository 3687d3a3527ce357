"""A rebuild keeps recorded requests: from the old database where it can be read, else from what the spool still has."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.data import migrate
from llmops_tui.data.rebuild import main, rebuild
from llmops_tui.data.request_retention import Keeping, remember
from llmops_tui.data.spool_reader import SpoolReader
from llmops_tui.data.store import Store, connect
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings
from tests.spool_lines import append, feedback, ids, names, request, text

SETTINGS = EngineSettings()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Of eight requests all are stored, and the spool has the last four alone."""
    home = Home(tmp_path)
    home.runs.mkdir()
    spool = home.gateway / "spool"
    old = append(spool, "requests-000001.jsonl", *(request(number) for number in range(4)), feedback(1))
    append(spool, "requests-000002.jsonl", *(request(number) for number in range(4, 8)))
    append(spool, "texts-000001.jsonl", text(5))
    store = Store.open(home.database, SETTINGS)
    take(store, home)
    store.write(lambda con: remember(con, {"support": Keeping(7.0, 5)})).result()
    store.close()
    old.unlink()
    return home


def take(store: Store, home: Home) -> None:
    reader = SpoolReader(store, home.gateway / "spool")
    while reader.take().more:
        pass


def everything(home: Home) -> tuple[list[str], list[str], list[str], list[tuple[object, ...]]]:
    """What is stored, once whoever follows the spool has looked again."""
    store = Store.open(home.database, SETTINGS)
    take(store, home)
    rules = store.read(lambda con: con.execute("SELECT * FROM request_keeping").fetchall())
    found = ids(store), ids(store, "request_texts"), ids(store, "feedback"), rules
    store.close()
    return found


def test_what_the_spool_no_longer_has_comes_from_the_old_database_and_nothing_comes_twice(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    append(home.gateway / "spool", "requests-000002.jsonl", request(8))  # recorded since, while no engine ran
    before = everything(home)
    append(home.gateway / "spool", "requests-000002.jsonl", request(9))
    assert main(["--home", str(home.root)]) == 0
    out, err = capsys.readouterr()
    assert "10 recorded requests are in it too" in out
    assert err == ""
    after = everything(home)
    assert after == (names(*range(10)), *before[1:])
    assert after[1:] == (names(5), names(1), [("support", 7.0, 5)])


def test_a_damaged_database_costs_what_the_spool_no_longer_has(home: Home) -> None:
    home.database.write_bytes(b"garbage" * 5000)
    result = rebuild(home, SETTINGS)
    assert result.requests == 4
    assert "not all recorded requests could be read" in result.note
    assert everything(home)[:3] == (names(*range(4, 8)), names(5), [])


def test_a_database_from_before_there_were_requests_takes_the_spool_whole(home: Home, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for script in migrate.list_scripts(migrate.MIGRATIONS)[:3]:
        (earlier / script.name).write_text(script.read_text())
    home.database.unlink()
    Store.open(home.database, SETTINGS, earlier).close()
    assert rebuild(home, SETTINGS).requests == 4
    assert everything(home)[0] == names(*range(4, 8))


def test_an_earlier_database_gets_the_tables_where_it_stands(home: Home, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for script in migrate.list_scripts(migrate.MIGRATIONS)[:3]:
        (earlier / script.name).write_text(script.read_text())
    home.database.unlink()
    Store.open(home.database, SETTINGS, earlier).close()
    assert everything(home)[0] == names(*range(4, 8))


def test_a_copy_that_breaks_off_takes_rows_and_offsets_from_nowhere_but_the_spool(home: Home) -> None:
    con = connect(home.database, SETTINGS)
    con.execute("ALTER TABLE request_keeping ALTER keep_days TYPE VARCHAR; UPDATE request_keeping SET keep_days = 'a week'")
    con.close()
    result = rebuild(home, SETTINGS)
    assert (result.requests, "a week" in result.note, result.kept is not None) == (4, True, True)
    assert everything(home)[0] == names(*range(4, 8))


def test_a_spool_that_is_no_directory_does_not_stop_the_rebuild(home: Home) -> None:
    spool = home.gateway / "spool"
    for path in spool.iterdir():
        path.unlink()
    spool.rmdir()
    spool.write_text("?")
    result = rebuild(home, SETTINGS)
    assert (result.requests, "the spool" in result.note) == (8, True)
