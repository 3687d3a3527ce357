"""A fine-tune of another user's by root's engine, from the data to the registered model: all of it with that user's rights."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from tests.engine.tiny_model import save_model, write_rows
from tests.foreign_files import TENSORBOARD
from tests.running_engine import kill_engine, make_home
from tests.several_users import Users, place_for_all, real_users
from tests.waiting import wait_for

_SMALL = (
    "lora.r=4", "epochs=1", "micro_batch=2", "accumulation=2", "max_length=120", "sample_tokens=4", "threads=1",
    "dataset.eval_fraction=0.25",
)  # fmt: skip


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    with real_users("t") as made:
        yield made


@pytest.fixture(scope="module")
def root(users: Users) -> Iterator[Client]:
    """Root's client of a shared engine in a Python that everybody may run."""
    with place_for_all() as place:
        home = make_home(place / "shared")
        with home.config.open("a") as file:
            file.write(f'[people]\ngroup = "{users.group}"\n')
        environment = {**os.environ, "PYTHONPATH": users.ada.environment["PYTHONPATH"]}
        subprocess.run(
            [users.ada.python, "-P", "-m", "llmops_tui", "--home", str(home.root), "engine", "start"], env=environment, check=True
        )
        try:
            yield Client(home)
        finally:
            kill_engine(home)


@pytest.fixture(scope="module")
def adas(users: Users) -> Path:
    """Ada's own model and rows, which nobody else can read."""
    directory = Path(users.ada.environment["HOME"]) / "work"
    directory.mkdir()
    save_model(directory / "model")
    write_rows(directory / "rows.jsonl")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, users.ada.uid, users.ada.gid)
    directory.chmod(0o700)
    return directory


def train(model: Path, rows: Path) -> list[str]:
    return ["run", "train", "--name", "small", *(f"--set={pair}" for pair in (f"model={model}", f"dataset.path={rows}", *_SMALL))]


@pytest.mark.timeout(300)
def test_a_users_own_data_becomes_a_model_of_that_users_which_the_group_may_score(root: Client, adas: Path, users: Users) -> None:
    home = root.home.root
    users.bob.refused(home, *train(adas / "model", adas / "rows.jsonl"))
    done = users.ada.cli(home, *train(adas / "model", adas / "rows.jsonl"))
    assert done.returncode == 0, done.stderr
    run = done.stdout.strip()
    wait_for(lambda: root.run(run)["ended_at"], 120, what="the fine-tune ends")
    shown = root.run(run)
    assert shown["state"] == "succeeded", root.log(run).data.decode()
    assert shown["checkpoints"], "root's engine reads what the user's job wrote"
    assert {(home / "runs" / run / name).stat().st_uid for name in ("artifacts/adapter", "checkpoints", "events.jsonl")} == {users.ada.uid}
    made = next(model for model in users.bob.ask(home, "models", "list") if model["run"] == run)
    assert (made["problems"], made["complete"], made["format"]) == ([], True, "adapter")
    config = Path(made["path"]) / "adapter_config.json"
    assert users.bob.run("/bin/cat", str(config)).returncode == 0
    assert users.eve.run("/bin/cat", str(config)).returncode != 0
    assert [(entry["user"], entry["outcome"]) for entry in root.audit(run=run)] == [(users.ada.name, "ok")]


def test_another_users_own_logs_are_read_with_that_users_rights(users: Users, root: Client) -> None:
    work = Path(users.ada.environment["HOME"]) / "logs"
    work.mkdir()
    (work / "source").write_bytes(TENSORBOARD)
    (work / "events.out.tfevents.2000.secret").symlink_to("/etc/shadow")
    for path in (work, work / "source"):
        os.chown(path, users.ada.uid, users.ada.gid)
    program = "open('events.out.tfevents.1000.box', 'wb').write(open('source', 'rb').read())"
    argv = ["run", "command", "--set", "resources.gpus=0", "--set", f"cwd={work}", "--", users.ada.python, "-c", program]
    run = users.ada.cli(root.home.root, *argv).stdout.strip()
    wait_for(lambda: root.run(run)["ended_at"] is not None, what="ada's program to end", seconds=60)
    assert root.run(run)["latest"]["eval/loss"] == 0.25
    events = root.home.runs / run / "events.jsonl"
    assert events.stat().st_uid == users.ada.uid
    assert "secret" not in events.read_text()
