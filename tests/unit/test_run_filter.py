"""The filter language: what each term finds, what is refused and where, and that no text breaks it."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.annotation import Annotation
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.errors import UsageError, from_json
from llmops_tui.specs.run_filter import FilterError, parse

NOW = 1_000_000.0
SPEC = {
    "model": "SmolLM2", "optim": {"learning_rate": 2e-4, "steps": 960}, "packing": True, "seed": 0,
    "dataset": {"path": "fiqa", "limit": None}, "lora": {"path": "x"}, "argv": ["sweep.py", 3], "env": {"limit": "9"},
}  # fmt: skip


def row(run_id: str, state: str, tags: list[str], note: str, baseline: bool, submitted_at: float, **more: Any) -> LiveRun:
    kind, name, _ = run_id.split("-")
    spec = {**SPEC, "kind": kind, "name": name}
    record = {"owner": "ada", "submitted_at": submitted_at, "parent": f"sweep-{name}-0007" if tags else "", "spec": spec}
    return LiveRun(RunDir(Path("/nowhere") / run_id), record, None, state=state, written=Annotation(tags, note, baseline), **more)


LIVELY = row(
    "train-fiqa-0003", "running", ["Demo", "lora sweep"], "warm-up too short", True, NOW - 3 * 86400, started_at=NOW - 2 * 3600,
    gpu_uuids=["GPU-abcd"], attempt=2, priority=-3, reason="1 GPU",
    latest={"train/loss": 1.4887, "perf/steps": 12.0, "eval/loss": math.nan},
)  # fmt: skip
BARE = row("command-prepare-0007", "failed", [], "", False, NOW - 60, exit_code=1, ended_at=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "fiqa", "FIQA", "sweep", '"lora sweep"', "too short", "0003", '"warm-up"', "state:running", "state:failed,running",
        "state:active", "state!=failed", "kind:train", "kind!=command,evaluate", "tag:demo", "tag:DEMO", 'tag:"lora sweep"', "tag:lora*",
        "tag!=other", "owner:ada", "owner!=bob,eve", "name:iq", "name=fiqa", "id:0003", "id:train-*-0003", "note:warm", "note:w?rm",
        'note="warm-up too short"', "gpu:abc", "reason:gpu", "age<4d", "age>2d12h", "age>=259200", "duration>1h", "duration=2h",
        "duration<=2h0m", "attempt>1", "attempt:2,9", "priority=-3", "priority<0", "exit!=1 or exit<5 or fiqa", "baseline:yes",
        "baseline:TRUE", "baseline!=no", "parent:sweep-fiqa-0007", "has:parent", "has:note", "has:tags", "has:note,gpu", "has:metric",
        "has:metric.train/loss",
        "has:cfg.learning_rate", "metric.train/loss<1.5", "metric.train/loss:1.4887", "metric.eval/loss:nan", '"metric.perf/steps">=12',
        "cfg.learning_rate>=1e-4", "cfg.optim.learning_rate=0.0002", "cfg.learning_rate <= 2e-4", "cfg.model:smol", "cfg.model=smollm2",
        "cfg.model!=smol", "cfg.packing:yes", "cfg.packing!=false", "cfg.seed:0", "cfg.steps:960.0", "cfg.argv:sweep.py",
        "cfg.env.limit:9", "-state:failed", "-(state:failed or tag:other)", "--fiqa", "state:failed or fiqa",
        "(state:failed or tag:demo) fiqa", "fiqa AND state:running", "state:failed fiqa or baseline:yes", 'note:"warm-up" -x',
        "has:reason",
    ],
)  # fmt: skip
def test_a_term_finds_the_run_it_describes(text: str) -> None:
    assert parse(text).matches(LIVELY, NOW), text


@pytest.mark.parametrize(
    "text",
    [
        "fiqa", "state:active", "state!=failed", "kind:train,evaluate", "tag:demo", "owner!=ada", "name=prep", "note:warm", "gpu:abc",
        "age>1h", "duration>0", "duration!=5", "duration<99d", "attempt>1", "baseline:yes", "has:note", "has:metric",
        "has:cfg.dataset.limit", "metric.train/loss<9", "metric.train/loss!=9", "cfg.learning_rate>2e-4", "cfg.learning_rate!=2e-4",
        "cfg.nothing!=3", "cfg.nothing:3", "cfg.model<3", "cfg.packing>0", "cfg.path:fiqa", "cfg.dataset.limit:None", "cfg.steps:96",
        "cfg.seed:no", "-state:failed", "state:failed -prepare", "has:metric.train/loss", "prepare fiqa", "name:p*q", "exit:0",
        "exit!=1", "note:?",
    ],
)  # fmt: skip
def test_a_term_passes_over_other_runs_and_over_those_it_cannot_be_asked_of(text: str) -> None:
    assert not parse(text).matches(BARE, NOW), text


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("stat:x", 0, "did you mean state?"), ("fiqa  state:runing", 12, "did you mean running?"),
        ("state:running,bad", 14, "no state 'bad'"), ("state:", 6, "a value is missing"), ("state: running", 6, "right after it"),
        ("tag:a,", 6, "a value is missing"), (":x", 0, "a key is missing"), ("a b! >=6 =7", 2, "no key 'b!'"),
        ("exit>1 =6", 7, "a key is missing"), ("cfg.>1", 0, "a name is missing"), ("age<2y", 4, "no length of time"),
        ("attempt>two", 8, "no number"), ("cfg.seed>1,2", 11, "takes one value"), ("cfg.seed>x", 9, "no number"),
        ("owner<x", 5, "not ordered"), ("baseline:maybe", 9, "yes nor no"), ("has:thing", 4, "nothing a run has"),
        ("x (a or", 7, "missing here"), ("x (a", 2, "not closed"), ("a) b", 1, "nothing was opened"), ("()", 1, "missing here"),
        ("or a", 0, "missing here"), ("a or or b", 5, "missing here"), ("and a", 0, "joins nothing"), ("a and", 2, "joins nothing"),
        ("a and or b", 2, "joins nothing"), ("a - b", 2, "after the minus"), ('note:"abc', 5, "not closed"), ("'abc", 0, "not closed"),
        ("(" * 60, 41, "nested too deep"), ("a" * 5000, 4000, "longer"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_at_the_character_that_is_wrong(text: str, position: int, said: str) -> None:
    with pytest.raises(FilterError) as refusal:
        parse(text)
    assert refusal.value.position == position, str(refusal.value)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_position_travels_to_the_client() -> None:
    with pytest.raises(FilterError) as refusal:
        parse("state:nope")
    told = from_json(refusal.value.to_json())
    assert isinstance(told, UsageError)
    assert told.fields[0] == {"field": "filter", "message": "there is no state 'nope' (character 7)", "position": "6"}


def test_thousands_of_terms_are_no_problem() -> None:
    assert parse("fiqa " * 780).matches(LIVELY, NOW)
    assert not parse("x or " * 790 + "x").matches(BARE, NOW)


def test_a_short_key_that_ends_two_settings_means_neither() -> None:
    assert not parse("cfg.path:fiqa").matches(LIVELY, NOW)
    assert parse("cfg.dataset.path:fiqa").matches(LIVELY, NOW)
    assert parse("x cfg.path:fiqa -cfg.seed>3").config_keys == (("path", 2), ("seed", 17))


def test_no_text_raises_anything_but_a_filter_error() -> None:
    chance = random.Random(17)
    pieces = [
        "state", ":", "=", "!=", "<", ">=", "(", ")", "or", "and", "-", '"', "'", " ", ",", "cfg.", "metric.", "a/b", "1e-4", "*", "?",
        "age", "2d", "has", "nan", "inf", "1" * 400, "\x00", "ß", "𝄞", "\t", "\n", "[", "\\", "running", "exit", "٣", "é",
    ]  # fmt: skip
    read = 0
    places: list[tuple[int, int]] = []
    for _ in range(20_000):
        text = "".join(chance.choice(pieces) for _ in range(chance.randint(0, 14)))
        try:
            wanted = parse(text)
        except FilterError as error:
            places.append((error.position, len(text)))
        else:
            read += 1
            wanted.matches(LIVELY, NOW)
            wanted.matches(BARE, NOW)
    assert all(0 <= position <= length for position, length in places)
    assert read > 1000  # else it was all nonsense, and nothing was proven of what can be read


def test_every_example_of_the_page_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    table = [term for cell in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for term in re.findall(r"`([^`]+)`", cell)]
    commands = re.findall(r"--filter '([^'…]+)'", page)
    assert len(table) > 20
    assert len(commands) > 2
    for text in (*table, *commands):
        parse(text)
