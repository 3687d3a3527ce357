"""kill -9 of who takes the requests in, and of who records them, at random moments: each record is stored once, none is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmops_tui.data.rebuild import rebuild
from llmops_tui.data.store import Store
from llmops_tui.engine.recorded.spool_ingest import SpoolIngest
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings
from tests.waiting import wait_for

ROUNDS = 15  # and five deaths of the gateway

# Takes often, and removes what is stored at once: a file that goes too early would be seen as lost lines.
KEEPER = """
import asyncio, sys
from pathlib import Path
from llmops_tui.data.store import Store
from llmops_tui.engine.recorded import spool_ingest
from llmops_tui.specs.settings import EngineSettings
home = Path(sys.argv[1])
store = Store.open(home / "llmops.duckdb", EngineSettings())
keeper = spool_ingest.SpoolIngest(
    store, home / "serving" / "gateway" / "spool", EngineSettings(), lambda: 1 << 50, lambda said: None, keep_seconds=0.0
)
async def main():
    while True:
        taken = await keeper.take()
        if taken is not None and taken.requests:
            (home / "committed").touch()
        if await keeper.tidy():
            (home / "removed").touch()
asyncio.run(main())
"""

# Each writer begins its ids anew, as each gateway does, and notes them where no spool is concerned: what is noted was recorded.
WRITER = """
import os, sys, time
from pathlib import Path
from llmops_tui.engine.serving.gateway.spool import Spool
from tests.spool_lines import feedback, request, text
home, first = Path(sys.argv[1]), int(sys.argv[2])
directory = home / "serving" / "gateway" / "spool"
requests, texts = Spool(directory, "requests", file_bytes=40_000), Spool(directory, "texts", file_bytes=20_000)
noted = os.open(home / f"noted-{first}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(first, first + 1_000_000):
    requests.write(request(number))
    os.write(noted, b"request %d\\n" % number)
    if number % 5 == 0:
        texts.write(text(number, "some words " * 20))
        os.write(noted, b"text %d\\n" % number)
    if number % 7 == 0:
        requests.write(feedback(number, "down"))
        os.write(noted, b"feedback %d\\n" % number)
    time.sleep(0.0003)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdin=subprocess.DEVNULL, cwd=root)


def kill(process: subprocess.Popen[bytes], after: float = 0.0) -> None:
    time.sleep(after)  # the moment of death is the experiment, not a wait for a condition
    process.send_signal(signal.SIGKILL)
    process.wait(20)


def noted(home: Path) -> dict[str, list[int]]:
    """What was written for certain, by kind."""
    found: dict[str, list[int]] = {"request": [], "text": [], "feedback": []}
    for path in home.glob("noted-*"):
        for line in path.read_text().split("\n")[:-1]:
            kind, number = line.split()
            found[kind].append(int(number))
    return found


def stored(store: Store) -> dict[str, list[int]]:
    tables = {"request": "requests", "text": "request_texts", "feedback": "feedback"}
    return {
        kind: [int(row[0].removeprefix("req_")) for row in store.read(lambda con, t=table: con.execute(f"SELECT id FROM {t}").fetchall())]
        for kind, table in tables.items()
    }  # fmt: skip


async def take_all(home: Path) -> Store:
    store = Store.open(home / "llmops.duckdb", EngineSettings())
    ingest = SpoolIngest(store, Home(home).gateway / "spool", EngineSettings(), lambda: 1 << 50, lambda said: None)
    while (taken := await ingest.take()) is not None and (taken.more or taken.requests):
        pass
    assert ingest.problems == []
    return store


@pytest.mark.timeout(240)
async def test_kill_9_of_the_keeper_and_of_the_gateway_loses_and_doubles_nothing(tmp_path: Path) -> None:
    moments = random.Random(11)
    processes: list[subprocess.Popen[bytes]] = []
    removed = 0
    try:
        writer = start(WRITER, tmp_path, 0)
        processes.append(writer)
        for number in range(ROUNDS):
            keeper = start(KEEPER, tmp_path)
            processes.append(keeper)
            wait_for((tmp_path / "committed").exists, 40)
            (tmp_path / "committed").unlink()
            kill(keeper, after=moments.uniform(0, 0.4))
            removed += (tmp_path / "removed").exists()
            (tmp_path / "removed").unlink(missing_ok=True)
            if number % 3 == 2:
                kill(writer)
                writer = start(WRITER, tmp_path, (number + 1) * 1_000_000)
                processes.append(writer)
                wait_for((tmp_path / f"noted-{(number + 1) * 1_000_000}").exists, 40)
    finally:
        for process in processes:
            kill(process)
    assert removed, "the experiment has to remove files under the kills"
    store = await take_all(tmp_path)
    found, wanted = stored(store), noted(tmp_path)
    assert len(wanted["request"]) > 1000
    for kind, numbers in wanted.items():
        assert len(found[kind]) == len(set(found[kind])), f"{kind}: stored twice"
        assert set(numbers) - set(found[kind]) == set(), f"{kind}: lost"
        # A writer may die between its record and its note of it: one of a kind for each that was killed.
        assert len(set(found[kind]) - set(numbers)) <= ROUNDS
    store.close()
    home = Home(tmp_path)
    home.runs.mkdir()
    result = rebuild(home, EngineSettings())
    assert (result.requests, result.note) == (len(found["request"]), "")
    again = await take_all(tmp_path)
    assert {kind: sorted(numbers) for kind, numbers in stored(again).items()} == {kind: sorted(numbers) for kind, numbers in found.items()}
    again.close()
