"""Searching a run's output through a real engine, by the client and from a shell."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from llmops_tui.client import Client
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.specs.states import ENDED
from tests.engine.test_commands import Shell
from tests.running_engine import running_engine
from tests.waiting import wait_for

JOB = r"""
for step in range(1000):
    print("step", step, "loss", 2 - step / 1000)
print("\x1b[31mERR\x1b[1mOR\x1b[0m: out of memory")
print("done")
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_engine(tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture(scope="module")
def shell(client: Client) -> Shell:
    return Shell(client.home.root)


def start(client: Client, code: str) -> str:
    return client.submit({"kind": "command", "argv": [sys.executable, "-c", code]})["id"]


@pytest.fixture(scope="module")
def run(client: Client) -> str:
    run_id = start(client, JOB)
    wait_for(lambda: client.run(run_id)["state"] in ENDED, 60)
    return run_id


def test_hits_come_nearest_first_and_go_on_from_where_the_answer_ended(client: Client, run: str) -> None:
    first = client.log_search(run, "step 99", limit=2)
    assert [client.log(run, hit["hit_start"], 8).data for hit in first["hits"]] == [b"step 99 ", b"step 990"]
    assert first["more"]
    rest = client.log_search(run, "step 99", offset=first["scanned_to"])
    assert (len(rest["hits"]), rest["more"], rest["scanned_to"]) == (9, False, rest["size"])
    back = client.log_search(run, "step 99", backward=True, limit=1)
    assert back["hits"] == rest["hits"][-1:]


def test_case_expressions_and_colours_are_as_asked(client: Client, run: str) -> None:
    assert client.log_search(run, "error")["hits"] == []
    hit = client.log_search(run, "error", ignore_case=True)["hits"][0]
    assert client.log(run, hit["hit_start"], hit["hit_end"] - hit["hit_start"]).data == b"ERR\x1b[1mOR"
    assert client.log_search(run, r"^step 99\d loss", regex=True, limit=0)["count"] == 10


def test_lines_are_filtered_with_context(client: Client, run: str) -> None:
    lines = client.log_filter(run, "out of memory", context=1)["lines"]
    assert [line["text"].split()[0] for line in lines] == ["step", "\x1b[31mERR\x1b[1mOR\x1b[0m:", "done"]
    assert [line["matched"] for line in lines] == [False, True, False]


def test_what_cannot_be_searched_is_refused(client: Client, run: str) -> None:
    with pytest.raises(UsageError, match="unterminated"):
        client.log_search(run, "(a", regex=True)
    with pytest.raises(UsageError, match="pattern"):
        client.log_search(run, "")
    with pytest.raises(UsageError, match="offset"):
        client.log_search(run, "a", offset=-1)
    with pytest.raises(UsageError, match="context"):
        client.log_filter(run, "a", context=51)
    with pytest.raises(NotFoundError):
        client.log_search("command-none-0009", "a")


def test_an_endless_expression_neither_hangs_the_engine_nor_its_other_answers(client: Client, run: str) -> None:
    log = client.home.runs / run / "stdout.log"
    original = log.read_bytes()
    log.write_bytes(original + b"a" * 64 + b"!\n")
    refused: list[str] = []

    def search() -> None:
        try:
            client.log_search(run, "(a+)+$", regex=True)
        except UsageError as error:
            refused.append(str(error))

    thread = threading.Thread(target=search)
    thread.start()
    answers = 0
    while thread.is_alive() and answers < 10_000:
        client.engine()
        answers += 1
    thread.join(60)
    log.write_bytes(original)
    assert "goes back and forth without end" in refused[0]
    assert answers > 5


def test_a_log_that_grows_while_it_is_searched_loses_no_hit(client: Client) -> None:
    run_id = start(client, "import time\nfor n in range(300):\n    print('hit', n, flush=True)\n    time.sleep(0.002)")
    wait_for(lambda: client.run(run_id)["state"] in ENDED or client.log(run_id).size, 60)
    starts: list[int] = []
    offset, over = 0, False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        over = client.run(run_id)["state"] in ENDED
        found = client.log_search(run_id, "hit", offset=offset, limit=7)
        starts += [hit["hit_start"] for hit in found["hits"]]
        # A word that is half there is found when it is whole.
        offset = found["scanned_to"] if found["more"] or over else max(offset, found["scanned_to"] - 2)
        starts = list(dict.fromkeys(starts))
        if over and not found["more"]:
            break
    assert len(starts) == 300
    assert starts == sorted(starts)


def test_the_shell_prints_matching_lines_as_they_were_written(shell: Shell, run: str) -> None:
    assert shell("runs", "logs", run, "--grep", "step 99", "--tail", "12").splitlines()[:1] == ["step 990 loss 1.01"]
    told = shell("runs", "logs", run, "--grep", "ERROR", "-i", "-C", "1")
    assert told.splitlines() == ["step 999 loss 1.001", "\x1b[31mERR\x1b[1mOR\x1b[0m: out of memory", "done"]
    grouped = shell("runs", "logs", run, "--grep", r"step (100|900) ", "--regex", "-C", "1").splitlines()
    assert grouped[3] == "--"
    assert len(grouped) == 7
    rows = [json.loads(line) for line in shell("runs", "logs", run, "--grep", "done", "--json").splitlines()]
    assert [(row["line"], row["matched"]) for row in rows] == [("done", True)]


def test_the_shell_says_what_is_wrong_with_a_search(shell: Shell, run: str) -> None:
    nothing = shell.full("runs", "logs", run, "--grep", "nowhere")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no line of" in nothing.stderr
    assert "character 1" in shell.error("runs", "logs", run, "--grep", "(a", "--regex", code=2)
    assert "--grep" in shell.error("runs", "logs", run, "-i", code=2)
    assert "context" in shell.error("runs", "logs", run, "--grep", "a", "-C", "99", code=2)


def test_matching_lines_are_printed_once_each_while_the_run_writes_them(shell: Shell, client: Client) -> None:
    code = "import time\nfor n in range(60):\n    print('x' * 9, 'hit' if n % 3 == 0 else 'miss', n, flush=True)\n    time.sleep(0.02)\n"
    run_id = start(client, code)
    told = shell("runs", "logs", run_id, "--grep", "hit", "-f").splitlines()
    assert told == [f"xxxxxxxxx hit {n}" for n in range(0, 60, 3)]
