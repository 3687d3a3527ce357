"""GPUs among people: engines that do not know of each other keep off each other's, and a reservation keeps others off."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.paths import Home
from llmops_tui.specs.answers import EngineEvent
from tests.nvml.driver import FakeNvml, compile_library
from tests.running_engine import engine_pid, kill_engine
from tests.several_users import User, Users, place_for_all, real_users
from tests.waiting import wait_for

_UNTIL = "while ! test -e {}; do sleep 0.05; done"


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    with real_users("g") as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    with place_for_all() as made:
        yield made


@pytest.fixture
def nvml(place: Path) -> FakeNvml:
    """A box with one GPU."""
    return FakeNvml(compile_library(place / "library"), place / "gpus.state", gpus=1)


@pytest.fixture
def settings(place: Path) -> str:
    return (
        f'[gpus]\nlock_directory = "{place / "locks"}"\n'
        "[engine]\nsample_seconds = 0.2\npause_ingest_free_bytes = 0\nrefuse_start_free_bytes = 0\n"
    )


@pytest.fixture
def private(place: Path, nvml: FakeNvml, settings: str) -> Iterator[Callable[[User], Path]]:
    """Starts a private engine of a user and says where; all are ended with their jobs afterwards."""
    place.chmod(0o1777)  # as /run/lock: the first engine makes the directory of the locks
    started: dict[User, Path] = {}
    gpu = {name: value for name, value in nvml.environment().items() if name in ("LD_LIBRARY_PATH", "FAKE_NVML_STATE")}

    def start(user: User) -> Path:
        home = Path(user.environment["HOME"]) / "state"
        if not home.exists():
            home.mkdir()
            (home / "config.toml").write_text(settings)
            os.chown(home, user.uid, user.gid)
        done = user.cli(home, "engine", "start", **gpu)
        assert done.returncode == 0, done.stderr
        started[user] = home
        return home

    yield start
    for user, home in started.items():
        start(user)  # one that was killed takes up its jobs, to end them
        client = Client(Home(home, explicit=True))
        for run in client.status()["running"]:
            client.stop_run(run["id"], "now")
        _wait_until_idle(client)
        kill_engine(client.home)
        shutil.rmtree(home)


def _wait_until_idle(client: Client) -> None:
    wait_for(lambda: not client.status()["running"], what="the jobs end")


def state_and_reason(user: User, home: Path, run: str) -> tuple[str, str]:
    shown = user.ask(home, "runs", "show", run)
    return shown["state"], shown["reason"]


def test_private_engines_of_two_users_keep_off_each_others_gpu_also_when_one_was_killed(
    private: Callable[[User], Path], place: Path, users: Users
) -> None:
    adas, bobs = private(users.ada), private(users.bob)
    holds = users.ada.submit(adas, "/bin/sh", "-c", _UNTIL.format(place / "ada-may-end"), settings={"resources.gpus": 1})
    wait_for(lambda: state_and_reason(users.ada, adas, holds)[0] == "running")
    waits = users.bob.submit(bobs, "/bin/sh", "-c", "id -u", settings={"resources.gpus": 1})
    told = f"waits for GPU 0: held by {users.ada.name} (private engine)"
    wait_for(lambda: state_and_reason(users.bob, bobs, waits) == ("queued", told))

    kill_engine(Home(adas, explicit=True))
    kill_engine(Home(bobs, explicit=True))
    private(users.bob)
    wait_for(lambda: state_and_reason(users.bob, bobs, waits) == ("queued", told), what="a job holds its GPU without its engine")
    # Another run of the same engine shares the GPU, and holds it for itself.
    private(users.ada)
    assert state_and_reason(users.ada, adas, holds)[0] == "running"

    (place / "ada-may-end").touch()
    wait_for(lambda: state_and_reason(users.bob, bobs, waits)[0] == "succeeded", what="the GPU is free for the other engine")
    assert users.bob.cli(bobs, "runs", "logs", waits).stdout.strip() == str(users.bob.uid)


def test_a_job_holds_its_gpu_when_its_shim_and_engine_are_killed(private: Callable[[User], Path], place: Path, users: Users) -> None:
    adas, bobs = private(users.ada), private(users.bob)
    holds = users.ada.submit(adas, "/bin/sh", "-c", _UNTIL.format(place / "end"), settings={"resources.gpus": 1})
    wait_for(lambda: state_and_reason(users.ada, adas, holds)[0] == "running")
    kill_engine(Home(adas, explicit=True))
    claim = json.loads((adas / "runs" / holds / "attempt-1" / "claim").read_text())
    os.kill(claim["shim_pid"], signal.SIGKILL)
    waits = users.bob.submit(bobs, "/bin/true", settings={"resources.gpus": 1})
    wait_for(lambda: "held by" in state_and_reason(users.bob, bobs, waits)[1])
    (place / "end").touch()
    wait_for(lambda: state_and_reason(users.bob, bobs, waits)[0] == "succeeded")


@pytest.fixture
def shared(place: Path, nvml: FakeNvml, settings: str, users: Users, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name in ("LD_LIBRARY_PATH", "FAKE_NVML_STATE"):
        monkeypatch.setenv(name, nvml.environment()[name])
    home = Home(place / "shared", explicit=True)
    home.root.mkdir()
    home.config.write_text(f'{settings}[people]\ngroup = "{users.group}"\n')
    client = Client(home)
    client.ensure_engine()
    wait_for(client.gpus)
    try:
        yield client
    finally:
        for run in client.status()["running"]:
            client.stop_run(run["id"], "now")
        wait_for(lambda: not client.status()["running"], what="the jobs end")
        kill_engine(home)


def test_a_reserved_gpu_is_for_its_owners_runs_and_others_say_whom_they_wait_for(shared: Client, place: Path, users: Users) -> None:
    home = shared.home.root
    made = users.ada.ask(home, "gpus", "reserve", "0", "--for", "2h", "--note", "demo at noon")
    reserved = shared.gpus()[0]["reserved_by"]
    assert reserved == {"owner": users.ada.name, "until": made["until"], "note": "demo at noon"}
    waits = users.bob.submit(home, "/bin/true", settings={"resources.gpus": 1})
    wait_for(lambda: f"reserved by {users.ada.name} until" in shared.run(waits)["reason"])
    adas = users.ada.submit(home, "/bin/sh", "-c", _UNTIL.format(place / "end"), settings={"resources.gpus": 1})
    wait_for(lambda: shared.run(adas)["state"] == "running", what="who reserved it is not kept behind those who wait")
    gpu = shared.gpus()[0]
    assert [(holder["run"], holder["owner"]) for holder in gpu["holders"]] == [(adas, users.ada.name)]
    (place / "end").touch()
    wait_for(lambda: shared.run(adas)["state"] == "succeeded")

    assert f"reserved by {users.ada.name}" in users.bob.refused(home, "gpus", "reserve", "0", "--for", "1h")
    assert f"belongs to {users.ada.name}" in users.bob.refused(home, "gpus", "release", made["id"])
    pid = engine_pid(shared.home)
    kill_engine(shared.home)
    assert shared.ensure_engine()["pid"] != pid
    assert [kept["id"] for kept in users.bob.ask(home, "gpus", "reservations")] == [made["id"]], "it survives the engine"
    assert shared.run(waits)["state"] == "queued"
    users.ada.ask(home, "gpus", "release", made["id"])
    wait_for(lambda: shared.run(waits)["state"] == "succeeded")


def test_a_reservation_ends_by_itself_and_the_queue_goes_on(shared: Client, users: Users) -> None:
    home = shared.home.root
    users.ada.ask(home, "gpus", "reserve", "0", "--for", "3s")
    waits = users.bob.submit(home, "/bin/true", settings={"resources.gpus": 1})
    wait_for(lambda: shared.run(waits)["state"] == "succeeded")

    def told() -> list[EngineEvent]:
        return [event for event in shared.events(newest=True)["events"] if event["type"] in ("gpu.reserved", "gpu.released")]

    wait_for(lambda: len(told()) == 2, what="its end is told too")  # by the next sample, the run may be quicker
    assert [(event["type"], event["data"]["owner"]) for event in told()] == [
        ("gpu.reserved", users.ada.name),
        ("gpu.released", users.ada.name),
    ]
    assert shared.gpus()[0]["reserved_by"] is None
    assert shared.reservations() == []
