"""The stream of a run's events, read from its file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.stream import run_stream


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    directory = tmp_path / "command-x-0001"
    directory.mkdir()
    return RunDir(directory)


async def _all(run: RunDir, offset: int, state: str | None = "succeeded") -> list[tuple[int, dict[str, object]]]:
    """What an ended run's stream holds: offsets and events, the end message last."""
    content = b"".join([part async for part in run_stream(run, offset, lambda: state, asyncio.Event())]).decode()
    found = []
    for block in content.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            found.append((int(fields.get("id", -1)), json.loads(fields["data"])))
    return found


async def test_every_line_comes_with_the_offset_after_it(run: RunDir) -> None:
    run.events.write_bytes(b'{"a":1}\n{"a":2}\n')
    assert await _all(run, 0) == [(8, {"a": 1}), (16, {"a": 2}), (-1, {"state": "succeeded", "offset": 16})]


async def test_a_stream_that_goes_on_after_an_offset_repeats_nothing(run: RunDir) -> None:
    run.events.write_bytes(b'{"a":1}\n{"a":2}\n')
    assert [event for _, event in await _all(run, 8)][:-1] == [{"a": 2}]


async def test_an_offset_inside_a_line_goes_on_at_the_next_line(run: RunDir) -> None:
    run.events.write_bytes(b'{"a":1}\n{"a":2}\n')
    assert [event for _, event in await _all(run, 3)][:-1] == [{"a": 2}]


async def test_a_negative_offset_and_one_beyond_the_end_begin_at_the_end(run: RunDir) -> None:
    run.events.write_bytes(b'{"a":1}\n{"a":2}\n')
    for offset in (-1, 1 << 40):
        assert await _all(run, offset) == [(-1, {"state": "succeeded", "offset": 16})]


async def test_lines_that_are_no_object_are_passed_over_and_a_torn_last_one_is_left_out(run: RunDir) -> None:
    run.events.write_bytes(b'garbage\n{"a":1}\n\n[1]\n\xff\xfe\n{"a":2}\r\n{"torn":')
    assert [event for _, event in await _all(run, 0)][:-1] == [{"a": 1}, {"a": 2}]


async def test_an_endless_line_is_passed_over_without_holding_it(run: RunDir) -> None:
    run.events.write_bytes(b'{"a":1}\n' + b"x" * (20 << 20) + b'\n{"a":2}\n')
    assert [event for _, event in await _all(run, 0)][:-1] == [{"a": 1}, {"a": 2}]


async def test_a_long_event_is_not_taken_for_an_endless_line(run: RunDir) -> None:
    event = {"text": "y" * (2 << 20)}
    run.events.write_bytes(json.dumps(event).encode() + b"\n")
    assert [event for _, event in await _all(run, 0)][:-1] == [event]


async def test_a_run_without_events_has_only_an_end(run: RunDir) -> None:
    assert await _all(run, 0, "failed") == [(-1, {"state": "failed", "offset": 0})]


async def test_a_running_runs_stream_waits_for_more_and_stops_with_the_engine(run: RunDir) -> None:
    stopping, seen = asyncio.Event(), []

    async def read() -> None:
        async for part in run_stream(run, 0, lambda: None, stopping):
            seen.append(part)
            if b'"a":2' in part:
                stopping.set()

    reader = asyncio.create_task(read())
    for number in (1, 2):
        with run.events.open("ab") as file:
            file.write(b'{"a":%d}\n' % number)
        await asyncio.sleep(0)
    await asyncio.wait_for(reader, 10)
    assert b"".join(seen).count(b"data: ") == 2
