"""`requests list|show|export` against a real engine whose spool the test wrote as the gateway does."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.test_commands import Shell
from tests.running_engine import make_home
from tests.spool_lines import T0, append, feedback, names, request, text
from tests.waiting import wait_for

CHAT = [{"role": "user", "content": "What is\x1b[31m red?"}]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = make_home(tmp_path_factory.mktemp("home"))
    spool = home.gateway / "spool"
    append(
        spool, "requests-000001.jsonl",
        *(request(number) for number in range(1500)),
        request(1500, version="v2", status=429, error="too many\nat once", finish="", good=False, first_seconds=-1.0),
        request(1501, total_seconds=2.5, fallback_from="big", attempts=3, cached_tokens=4, cost=0.00025, session="s7", estimated=True),
        feedback(1501, "down", comment="wrong", correction="Blue"), feedback(3, 4),
    )  # fmt: skip
    append(spool, "texts-000001.jsonl", text(1501, CHAT, "Red", redacted=1), text(3, "Once", "upon"))
    shell = Shell(home.root)
    shell("engine", "start")
    try:
        wait_for(lambda: shell.json("requests", "list", "--count")["total"] == 1502, 30)
        wait_for(lambda: shell.json("requests", "show", *names(1501))["feedback"], 30)
        yield shell
    finally:
        shell("engine", "stop")


def test_the_list_is_newest_first_and_says_what_stands_out(shell: Shell) -> None:
    done = shell.full("requests", "list", "--limit", "3")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["WHEN", "ID", "BY", "HTTP", "TTFT", "TOTAL", "TOKENS", "NOTES"]
    assert lines[1].endswith("  req_00001501  support@v1 for big   200  100ms   2.5s   10+20  down, text, 3 tries")
    assert lines[2].endswith("  req_00001500  support@v2           429      -  500ms   10+20  too many at once")
    assert done.stderr == "there are more: --limit, --until, or `requests export`\n"


def test_filters_choose_and_count(shell: Shell) -> None:
    def found(*words: str) -> list[str]:
        return [row["id"] for row in shell.json("requests", "list", *words)["rows"]]

    assert found("--status", "4xx") == found("support", "--status", "error", "--version", "v2") == names(1500)
    assert found("--slower-than", "2s") == found("--slower-than", "2400ms") == names(1501)
    assert found("--since", str(T0 + 1500), "--until", str(T0 + 1500)) == names(1500)
    assert found("nowhere") == found("--key", "nobody") == []
    assert "no request is recorded that matches" in shell.full("requests", "list", "nowhere").stderr
    assert "2 of 1,502" in shell.full("requests", "list", "--limit", "2", "--count").stderr


def test_one_request_is_shown_with_its_text_and_what_was_said_of_it(shell: Shell) -> None:
    shown = shell("requests", "show", *names(1501))
    for words in (
        "answered by  support@v1 for big, serve-support-0001", "times        queue 1 ms, first token 100 ms", "cost         0.00025",
        "tokens       10 in, 20 out, 4 from the cache (an estimate: the answer was cut off)", "tries        3", "session      s7",
        "\n--- prompt\nuser: What is [31m red?\n", "\n--- answer\nRed\n", "\n--- down, ", "comment: wrong\nbetter: Blue\n",
        "redacted     1 places",
    ):  # fmt: skip
        assert words in shown
    assert "\x1b" not in shown
    assert "its text was not kept" in shell.full("requests", "show", *names(1)).stderr
    assert shell.error("requests", "show", "req_none", code=4) == (
        "llmops-tui: no request 'req_none' is recorded; see `llmops-tui requests list`; a new one is there within a second\n"
    )


def test_everything_is_exported_page_by_page(shell: Shell, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in shell("requests", "export").splitlines()]
    assert [line["id"] for line in lines] == names(*reversed(range(1502)))
    target = tmp_path / "kept.jsonl"
    assert shell.full("requests", "export", "support", "--text", "-o", str(target)).stderr == f"2 requests written to {target}\n"
    assert os.stat(target).st_mode & 0o777 == 0o600
    kept = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(line["id"], line["messages"], line["prompt"], line["response"]) for line in kept] == [
        (*names(1501), CHAT, "user: What is\x1b[31m red?", "Red"), (*names(3), None, "Once", "upon"),
    ]  # fmt: skip
    assert [said["correction"] for said in kept[0]["feedback"]] == ["Blue"]
    assert len(shell("requests", "export", "--limit", "1001").splitlines()) == 1001


def test_csv_has_a_head_and_json_where_a_cell_is_no_text(shell: Shell) -> None:
    rows = list(csv.DictReader(shell("requests", "export", "--format", "csv", "--limit", "2").splitlines()))
    assert [(row["id"], row["stream"], row["cost"], row["rating"]) for row in rows] == [
        (*names(1501), "true", "0.00025", "down"),
        (*names(1500), "true", "", ""),
    ]
    assert (
        shell("requests", "export", "nowhere", "--format", "csv", "--text")
        .splitlines()[0]
        .endswith("rating,prompt,messages,response,redacted,feedback")
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--status", "bad"), "argument --status: 'bad' is neither a number (429), a class (5xx) nor error"),
        (("--slower-than", "soon"), "argument --slower-than: 'soon' is no length of time; write 1500ms or 2s"),
        (("--slower-than", "3"), "argument --slower-than: '3' is no length of time; write 1500ms or 2s"),
        (("--since", "now", "--until", "2h ago"), "--until is before --since; give a later one"),
        (("--limit", "0"), "argument --limit"), (("x" * 300,), "endpoint: "),
    ],
)  # fmt: skip
def test_bad_words_are_refused_and_no_file_is_touched(shell: Shell, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    for verb in (("list",), ("export", "-o", str(target))):
        assert shell.error("requests", *verb, *words, code=2).startswith(f"llmops-tui: {said}")
    assert target.read_text() == "mine"


def test_more_at_once_than_a_page_holds_is_refused(shell: Shell) -> None:
    assert "limit: should be less than or equal to 1000" in shell.error("requests", "list", "--limit", "1001", code=2)


def test_a_file_that_cannot_be_written_is_named(shell: Shell) -> None:
    assert shell.error("requests", "export", "-o", "/nowhere/at/all", code=1).startswith(
        "llmops-tui: /nowhere/at/all: cannot be written: No such"
    )


def test_sql_reads_the_tables(shell: Shell) -> None:
    told = shell.json("sql", "SELECT count(*), sum(completion_tokens) FROM requests WHERE good")
    assert told["rows"] == [[1501, 1501 * 20]]
