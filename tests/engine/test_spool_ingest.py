"""What the gateway recorded reaches the database once, whatever the spool looks like; and files go once they may."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.request_store import read_positions
from llmops_tui.data.spool_reader import SpoolReader
from llmops_tui.data.store import Store
from llmops_tui.engine.recorded.spool_ingest import SpoolIngest
from llmops_tui.engine.serving.gateway.spool import Spool
from llmops_tui.specs.settings import EngineSettings
from tests.spool_lines import append, feedback, ids, names, request, text

PLENTY = 1 << 50


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def ingest_of(store: Store, spool: Path, **fields: Any) -> SpoolIngest:
    said = fields.pop("said", [])
    return SpoolIngest(store, spool, EngineSettings(), fields.pop("free", lambda: PLENTY), said.extend, **fields)


async def take_all(ingest: SpoolIngest) -> None:
    while (taken := await ingest.take()) is not None and taken.more:
        pass


async def test_requests_feedback_and_texts_are_stored_once(store: Store, spool: Path) -> None:
    said: list[tuple[str, str]] = []
    append(spool, "requests-000001.jsonl", request(1), request(2), feedback(1, "down", comment="no"))
    append(spool, "texts-000001.jsonl", text(2))
    ingest = ingest_of(store, spool, said=said)
    await take_all(ingest)
    await take_all(ingest)
    await take_all(ingest_of(store, spool))
    append(spool, "requests-000001.jsonl", request(3))
    await take_all(ingest)
    assert ids(store) == names(1, 2, 3)
    assert ids(store, "request_texts") == names(2)
    assert store.read(lambda con: con.execute("SELECT id, rating, comment FROM feedback").fetchall()) == [(*names(1), "down", "no")]
    assert said == [(*names(1), "down")]
    row = store.read(
        lambda con: con.execute("SELECT stream, status, cached_tokens, prompt_tokens, ttft_ms, cost FROM requests LIMIT 1").fetchone()
    )
    assert row == (True, 200, None, 10, 100.0, None)


async def test_a_spool_that_is_not_there_yet_costs_nothing(store: Store, spool: Path) -> None:
    taken = await ingest_of(store, spool).take()
    assert taken is not None
    assert (taken.requests, taken.more) == (0, False)


async def test_a_torn_line_waits_and_one_that_stays_torn_is_counted_once_the_file_is_finished(store: Store, spool: Path) -> None:
    append(spool, "requests-000001.jsonl", request(1), request(2)[:100])
    ingest = ingest_of(store, spool)
    await take_all(ingest)
    assert ids(store) == names(1)
    append(spool, "requests-000002.jsonl", request(2), request(3))
    await take_all(ingest)
    await take_all(ingest)
    assert ids(store) == names(1, 2, 3)
    first, second = sorted(store.read(read_positions), key=lambda position: position.number)
    assert (first.broken, first.lines, first.done_at is not None) == (1, 2, True)
    assert (second.broken, second.done_at) == (0, None)


async def test_a_first_line_that_is_torn_is_no_file_yet(store: Store, spool: Path) -> None:
    append(spool, "requests-000001.jsonl", request(1)[:40])
    ingest = ingest_of(store, spool)
    await take_all(ingest)
    append(spool, "requests-000001.jsonl", request(1)[40:], request(2))
    await take_all(ingest)
    await take_all(ingest_of(store, spool))
    assert ids(store) == names(1, 2)


async def test_a_spool_that_was_emptied_begins_anew_under_the_same_name(store: Store, spool: Path) -> None:
    path = append(spool, "requests-000001.jsonl", request(1), request(2))
    await take_all(ingest_of(store, spool))
    path.unlink()
    append(spool, "requests-000001.jsonl", request(3))
    await take_all(ingest_of(store, spool))
    append(spool, "requests-000001.jsonl", request(4), request(5))
    await take_all(ingest_of(store, spool))
    assert ids(store) == names(1, 2, 3, 4, 5)


async def test_a_file_that_was_cut_doubles_nothing_and_loses_nothing_that_comes_after(store: Store, spool: Path) -> None:
    path = append(spool, "requests-000001.jsonl", request(1), request(2), request(3))
    ingest = ingest_of(store, spool)
    await take_all(ingest)
    os.truncate(path, len(request(1)))
    await take_all(ingest)
    append(spool, "requests-000001.jsonl", request(4))
    await take_all(ingest)
    assert ids(store) == names(1, 2, 3, 4)


async def test_what_the_database_refuses_is_not_lost_and_told(store: Store, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(spool, "requests-000001.jsonl", request(1))
    ingest, write = ingest_of(store, spool), store.write

    def refused(work: Any) -> Any:
        def half(con: Any) -> None:
            work(con)
            raise OSError("the disk is full")

        return write(half)

    monkeypatch.setattr(store, "write", refused)
    assert await ingest.take() is None
    assert ingest.problems == ["recorded requests are not taken: the database did not take them: the disk is full"]
    monkeypatch.setattr(store, "write", write)
    assert ids(store) == []
    await take_all(ingest)
    assert (ids(store), ingest.problems) == (names(1), [])


async def test_a_commit_whose_answer_was_lost_is_not_made_twice(store: Store, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(spool, "requests-000001.jsonl", request(1))
    ingest, write = ingest_of(store, spool), store.write

    def answers_nothing(work: Any) -> Any:
        write(work).result()
        raise OSError("nobody knows")

    monkeypatch.setattr(store, "write", answers_nothing)
    assert await ingest.take() is None
    monkeypatch.setattr(store, "write", write)
    append(spool, "requests-000001.jsonl", request(2))
    await take_all(ingest)
    assert ids(store) == names(1, 2)


async def test_two_readers_that_believe_in_the_same_place_store_it_once(store: Store, spool: Path) -> None:
    append(spool, "requests-000001.jsonl", request(1))
    one, other = SpoolReader(store, spool), SpoolReader(store, spool)
    assert not other.positions
    one.take()
    with pytest.raises(Exception, match="known already"):
        other.take()
    append(spool, "requests-000001.jsonl", request(2))
    assert other.positions
    one.take()
    with pytest.raises(Exception, match="is not at byte"):
        other.take()
    other.take()
    assert ids(store) == names(1, 2)


async def test_a_nearly_full_disk_pauses_and_the_spool_keeps_what_comes(store: Store, spool: Path) -> None:
    free = [0]
    append(spool, "requests-000001.jsonl", request(1))
    ingest = ingest_of(store, spool, free=lambda: free[0])
    assert await ingest.take() is None
    assert "the gateway's spool keeps them" in ingest.problems[0]
    free[0] = PLENTY
    await take_all(ingest)
    assert (ids(store), ingest.problems) == (names(1), [])


async def test_files_are_removed_only_once_stored_and_never_the_newest(store: Store, spool: Path) -> None:
    for number in range(1, 5):
        append(spool, f"requests-{number:06d}.jsonl", request(number))
    ingest = ingest_of(store, spool, keep_seconds=0.0)
    assert await ingest.tidy() == 0
    await take_all(ingest)
    await take_all(ingest)
    late = append(spool, "requests-000002.jsonl", request(20))  # against all expectation something came after
    assert await ingest.tidy() == 2
    assert sorted(path.name for path in spool.iterdir()) == [late.name, "requests-000004.jsonl"]
    await take_all(ingest)
    await take_all(ingest)
    assert await ingest.tidy() == 1
    assert await ingest.tidy() == 0
    assert ids(store) == names(1, 2, 3, 4, 20)
    assert [position.number for position in store.read(read_positions)] == [4]
    writer = Spool(spool, "requests")  # a gateway that starts now goes on behind what was removed
    assert writer.position()[0] == "requests-000004.jsonl"
    writer.close()


async def test_what_is_stored_is_kept_a_while_unless_there_is_much_of_it(store: Store, spool: Path) -> None:
    for number in range(1, 8):
        append(spool, f"requests-{number:06d}.jsonl", request(number))
    ingest = ingest_of(store, spool, keep_seconds=3600.0, keep_files=4)
    await take_all(ingest)
    assert await ingest.tidy() == 2
    assert sorted(path.name[9:15] for path in spool.iterdir()) == ["000003", "000004", "000005", "000006", "000007"]


async def test_offsets_are_not_forgotten_because_the_spool_is_away(store: Store, spool: Path) -> None:
    append(spool, "requests-000001.jsonl", request(1))
    append(spool, "requests-000002.jsonl", request(2))
    ingest = ingest_of(store, spool)
    await take_all(ingest)
    away = spool.rename(spool.with_name("unmounted"))
    spool.mkdir()
    await ingest.tidy()
    spool.rmdir()
    away.rename(spool)
    await take_all(ingest_of(store, spool))
    assert ids(store) == names(1, 2)


async def test_the_loop_takes_what_comes_and_what_stands_there_when_it_is_told_to_stop(store: Store, spool: Path) -> None:
    writer = Spool(spool, "requests", file_bytes=4000)
    ingest, stop = ingest_of(store, spool), asyncio.Event()
    loop = asyncio.create_task(ingest.run(stop))
    for number in range(200):
        writer.write(request(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(loop, 20)
    writer.close()
    assert ids(store) == names(*range(200))


async def test_a_large_backlog_is_taken_in_several_transactions(store: Store, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_tui.data.spool_reader._TRANSACTION_BYTES", 20_000)
    monkeypatch.setattr("llmops_tui.data.spool_reader._READ_BYTES", 5000)
    writer = Spool(spool, "requests", file_bytes=30_000)
    for number in range(300):
        writer.write(request(number))
    writer.close()
    await take_all(ingest_of(store, spool))
    assert ids(store) == names(*range(300))


async def test_a_line_longer_than_a_read_is_taken_whole(store: Store, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_tui.data.spool_reader._READ_BYTES", 1000)
    append(spool, "texts-000001.jsonl", text(1), text(2, "long " * 1000), text(3))
    await take_all(ingest_of(store, spool))
    assert ids(store, "request_texts") == names(1, 2, 3)


async def test_what_is_no_file_does_not_make_the_file_before_it_a_finished_one(store: Store, spool: Path) -> None:
    append(spool, "requests-000001.jsonl", request(1), request(2)[:50])
    (spool / "requests-000002.jsonl").mkdir()
    ingest = ingest_of(store, spool, keep_seconds=0.0)
    await take_all(ingest)
    assert ingest.problems == ["requests-000002.jsonl cannot be read: Is a directory"]
    append(spool, "requests-000001.jsonl", request(2)[50:])
    await take_all(ingest)
    assert (ids(store), await ingest.tidy()) == (names(1, 2), 0)


async def test_no_file_goes_before_the_database_file_itself_has_its_rows(
    store: Store, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(spool, "requests-000001.jsonl", request(1))
    append(spool, "requests-000002.jsonl", request(2))
    ingest, checkpoint, there = ingest_of(store, spool, keep_seconds=0.0), store.checkpoint, []
    await take_all(ingest)

    def refused() -> Any:
        there.append(sorted(path.name for path in spool.iterdir()))
        raise OSError("the disk is full")

    monkeypatch.setattr(store, "checkpoint", refused)
    assert await ingest.tidy() == 0
    assert there == [["requests-000001.jsonl", "requests-000002.jsonl"]]
    assert len(list(spool.iterdir())) == 2
    monkeypatch.setattr(store, "checkpoint", checkpoint)
    assert await ingest.tidy() == 1
    assert not (tmp := store.path.with_name(f"{store.path.name}.wal")).exists() or tmp.stat().st_size < 4096
    assert ids(store) == names(1, 2)


async def test_what_is_stored_was_flushed_first_so_that_a_power_cut_leaves_no_file_shorter_than_its_offset(
    store: Store, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    path, write, flush = append(spool, "requests-000001.jsonl", request(1)), store.write, os.fdatasync

    def flushes(descriptor: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        flush(descriptor)

    def writes(work: Any) -> Any:
        done.append("commit")
        return write(work)

    monkeypatch.setattr(os, "fdatasync", flushes)
    monkeypatch.setattr("llmops_tui.data.spool_reader.sync_directory", lambda directory: done.append(directory.name))
    monkeypatch.setattr(store, "write", writes)
    ingest = ingest_of(store, spool)
    await take_all(ingest)
    append(spool, path.name, request(2))
    await take_all(ingest)
    await take_all(ingest)
    assert done == [path.name, spool.name, "commit", path.name, "commit"]


async def test_a_disk_that_cannot_even_be_asked_for_its_room_is_a_pause_and_no_end(store: Store, spool: Path) -> None:
    def gone() -> int:
        raise FileNotFoundError(2, "No such file or directory", "/gone")

    append(spool, "requests-000001.jsonl", request(1))
    ingest = ingest_of(store, spool, free=gone)
    assert await ingest.take() is None
    assert "No such file" in ingest.problems[0]
