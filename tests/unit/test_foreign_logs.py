"""Other trainers' logs: read whole, in pieces, torn, damaged, and by readers that are killed at every place."""

from __future__ import annotations

import math
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from llmops_tui.engine.foreign.look import Memory, Wanted, look
from llmops_tui.engine.foreign.names import name_in_folder, our_name, trainer_name
from llmops_tui.engine.foreign.sources import find_sources, output_directories
from llmops_tui.engine.foreign.tfevents import read_events
from llmops_tui.engine.foreign.trainer_state import read_trainer_state
from llmops_tui.engine.foreign.wandb_file import read_wandb
from tests.foreign_files import TENSORBOARD, WANDB, points, trainer_state

EVENTS = "events.out.tfevents.1000.box.1.0"
IN_TENSORBOARD = sorted(
    [(10 * n, "train/loss", 4 / n) for n in range(1, 5)]
    + [(10 * n, "train/learning_rate", 0.5) for n in range(1, 5)]
    + [(50, "eval/loss", 0.25)]
)
IN_WANDB = sorted(
    [(10 * n, name, value) for n in range(1, 4) for name, value in (("train/loss", 4 / n), ("nested/a", n))] + [(30, "eval/loss", 0.25)]
)


def rounded(found: list[tuple[int, str, float]]) -> list[tuple[int, str, float]]:
    """Without the NaN, which equals nothing; TensorBoard's numbers have 32 bits."""
    return sorted((step, name, round(value, 6)) for step, name, value in found if not math.isnan(value))


def wanted(tmp_path: Path, **others: object) -> Wanted:
    run = tmp_path / "run"
    run.mkdir(parents=True, exist_ok=True)
    return Wanted(run, 1, (tmp_path / "work",), 0.0, **others)  # type: ignore[arg-type]


def put(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / "work" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("name", "content", "told"), [(EVENTS, TENSORBOARD, IN_TENSORBOARD), ("run-x.wandb", WANDB, IN_WANDB)])
def test_a_log_of_the_real_package_gives_its_numbers_under_our_names(
    tmp_path: Path, name: str, content: bytes, told: list[tuple[int, str, float]]
) -> None:
    put(tmp_path, name, content)
    want = wanted(tmp_path)
    assert look(want, Memory())
    found = points(want.run_dir / "events.jsonl")
    assert rounded(found) == rounded(told)
    assert sum(math.isnan(value) for _, _, value in found) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("name", "content", "told"), [(EVENTS, TENSORBOARD, IN_TENSORBOARD), ("run-x.wandb", WANDB, IN_WANDB)])
def test_whoever_is_killed_while_a_log_grows_nothing_is_doubled_and_nothing_lost(
    tmp_path: Path, name: str, content: bytes, told: list[tuple[int, str, float]], seed: int
) -> None:
    dice = random.Random(seed)
    want, memory, length = wanted(tmp_path), Memory(), 0
    events = want.run_dir / "events.jsonl"
    while length < len(content):
        length = min(len(content), length + dice.choice((1, 7, 40, 300, 2000)))
        put(tmp_path, name, content[:length])
        before = events.stat().st_size if events.exists() else 0
        memory.find_again = 0.0
        look(want, memory)
        if dice.random() < 0.5:  # killed: the memory is gone, and of what was just written a part may be missing
            memory = Memory()
            if dice.random() < 0.7 and events.exists():
                os.truncate(events, dice.randint(before, events.stat().st_size))
    look(want, Memory(), final=True)
    found = points(events)
    assert rounded(found) == rounded(told)
    assert sum(math.isnan(value) for _, _, value in found) == 1


@pytest.mark.parametrize(("name", "content", "told"), [(EVENTS, TENSORBOARD, IN_TENSORBOARD), ("run-x.wandb", WANDB, IN_WANDB)])
def test_a_last_line_that_lost_its_line_feed_alone_is_not_told_twice(
    tmp_path: Path, name: str, content: bytes, told: list[tuple[int, str, float]]
) -> None:
    for length in range(len(content) // 2, len(content), 97):
        want = wanted(tmp_path / str(length))
        events = want.run_dir / "events.jsonl"
        put(tmp_path / str(length), name, content[:length])
        look(want, Memory())
        os.truncate(events, events.stat().st_size - 1)
        put(tmp_path / str(length), name, content)
        look(want, Memory(), final=True)
        assert rounded(points(events)) == rounded(told)


def test_a_history_that_is_written_anew_at_each_checkpoint_is_told_once(tmp_path: Path) -> None:
    want, memory = wanted(tmp_path), Memory()
    for step in (2, 4):
        put(tmp_path, f"out/checkpoint-{step}/trainer_state.json", trainer_state(step))
        memory.find_again = 0.0
        look(want, memory)
    put(tmp_path, "out/trainer_state.json", trainer_state(5))
    look(want, Memory(), final=True)
    found = points(want.run_dir / "events.jsonl")
    assert [(step, value) for step, name, value in found if name == "train/loss"] == [(step, 4.0 / step) for step in range(1, 6)]
    assert {name for _, name, _ in found} == {
        "train/loss", "train/learning_rate", "train/grad_norm", "train/epoch", "eval/loss", "eval/accuracy",
    }  # fmt: skip
    beats = (want.run_dir / "events.jsonl").read_text().count('"heartbeat"')
    assert beats == 3  # how far it is, after each checkpoint


def test_a_checkpoint_that_its_trainer_removes_is_no_fault(tmp_path: Path) -> None:
    want, memory = wanted(tmp_path), Memory()
    first = put(tmp_path, "out/checkpoint-2/trainer_state.json", trainer_state(2))
    look(want, memory)
    first.unlink()
    put(tmp_path, "out/checkpoint-4/trainer_state.json", trainer_state(4))
    look(want, memory)  # with the old list of files
    look(want, memory, final=True)
    assert max(step for step, _, _ in points(want.run_dir / "events.jsonl")) == 4
    assert "cannot be read" not in (want.run_dir / "events.jsonl").read_text()


def test_one_kind_of_log_is_read_where_a_program_writes_several(tmp_path: Path) -> None:
    put(tmp_path, f"out/runs/{EVENTS}", TENSORBOARD)
    put(tmp_path, "out/trainer_state.json", trainer_state(5))
    put(tmp_path, "wandb/offline-run-1/run-x.wandb", WANDB)
    want = wanted(tmp_path)
    look(want, Memory(), final=True)
    assert rounded(points(want.run_dir / "events.jsonl")) == rounded(IN_TENSORBOARD)
    again = wanted(tmp_path)
    assert not look(again, Memory(), final=True)  # a new engine comes to the same


def test_a_program_that_tells_its_metrics_itself_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, EVENTS, TENSORBOARD)
    want = wanted(tmp_path)
    events = want.run_dir / "events.jsonl"
    events.write_text('{"t": 1, "type": "metric", "step": 1, "values": {"train/loss": 1.0}}\n')
    assert not look(want, Memory())
    named = wanted(tmp_path, auto=False)
    assert look(named, Memory())  # logs that are named are read all the same
    assert not look(named, Memory())


def test_in_a_crowded_directory_only_files_held_open_are_the_runs_also_when_the_other_run_is_gone(tmp_path: Path) -> None:
    mine = put(tmp_path, "a/" + EVENTS, TENSORBOARD[:508])
    put(tmp_path, "b/" + EVENTS, TENSORBOARD)
    shared = (tmp_path / "work",)
    want = replace(wanted(tmp_path), roots=(), shared=shared, crowded=True, mine=frozenset({str(mine)}))
    look(want, Memory())
    assert len(points(want.run_dir / "events.jsonl")) == 8
    assert not look(replace(want, crowded=False, mine=frozenset()), Memory(), final=True)


def test_old_files_and_links_are_left_alone(tmp_path: Path) -> None:
    old = put(tmp_path, EVENTS, TENSORBOARD)
    os.utime(old, (100, 100))
    (tmp_path / "work" / "latest").symlink_to(tmp_path / "work")
    assert find_sources([tmp_path / "work"], 200) == []
    assert [source.path for source in find_sources([tmp_path / "work"], 50)] == [old]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (EVENTS, TENSORBOARD[:508] + b"garbage " * 40, "is no TensorBoard event file from byte"),
        (EVENTS, TENSORBOARD[:150] + b"\xff" + TENSORBOARD[151:], "has a damaged record"),
        ("run-x.wandb", b"something else entirely", "is no wandb file"),
        ("run-x.wandb", WANDB[:1500] + b"\xff" + WANDB[1501:], "has a damaged record"),
        ("trainer_state.json", b'{"log_history": [', "is no whole JSON"),
        ("trainer_state.json", b'{"weights": 1}', "has no log_history"),
    ],
)
def test_a_damaged_log_says_so_once_and_keeps_what_came_before(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    put(tmp_path, name, content)
    want = wanted(tmp_path)
    memory = Memory()
    look(want, memory, final=True)
    look(want, memory, final=True)
    look(want, Memory(), final=True)
    assert (want.run_dir / "events.jsonl").read_text().count(said) == 1


def test_random_bytes_never_raise(tmp_path: Path) -> None:
    dice = random.Random(0)
    for content, read in ((TENSORBOARD, read_events), (WANDB, read_wandb)):
        for _ in range(60):
            broken = bytearray(content[: dice.randint(1, len(content))])
            for _ in range(dice.randint(1, 5)):
                broken[dice.randrange(len(broken))] = dice.randrange(256)
            read(put(tmp_path, "x", bytes(broken)), 0)
    for _ in range(60):
        state = bytearray(trainer_state(3))
        state[dice.randrange(len(state))] = dice.randrange(32, 127)
        read_trainer_state(put(tmp_path, "x", bytes(state)))


def test_names_of_other_trainers_become_ours() -> None:
    assert [our_name(name) for name in ("loss", "lr", "val/loss", "my/own")] == ["train/loss", "train/learning_rate", "eval/loss", "my/own"]
    assert [trainer_name(name) for name in ("eval_runtime", "train_loss", "grad_norm", "total_flos")] == [
        "eval/runtime", "train/loss_mean", "train/grad_norm", "total_flos",
    ]  # fmt: skip
    assert [name_in_folder("epoch_loss", folder) for folder in ("train", "validation", "version_0")] == [
        "train/loss",
        "eval/loss",
        "epoch_loss",
    ]


def test_a_command_tells_where_it_writes(tmp_path: Path) -> None:
    (tmp_path / "axolotl.yml").write_text('base_model: x\noutput_dir: "./out"\n')
    argv = ["axolotl", "train", "axolotl.yml", "--logging_dir=logs", "--output-dir", "/elsewhere"]
    assert output_directories(argv, tmp_path, {"WANDB_DIR": "w"}) == [
        tmp_path / "out",
        tmp_path / "logs",
        Path("/elsewhere"),
        tmp_path / "w",
    ]
