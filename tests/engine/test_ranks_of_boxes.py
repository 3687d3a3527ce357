"""Ranks on two boxes are one run: through a stand-in of ssh and a real sshd, on a shared directory and without one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from llmops_tui.data.checkpoints import newest_complete
from llmops_tui.data.rundir import RunDir, append_line
from llmops_tui.engine.backends.local import spawn_shim
from llmops_tui.engine.gpu_locks import GpuLocks
from llmops_tui.engine.jobs import gpu_kind, hardware, meeting, ranks_for_other
from llmops_tui.engine.jobs.event_writer import END_DESCRIPTOR
from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.launch import job_argv
from llmops_tui.engine.jobs.other_box import OtherBox
from llmops_tui.engine.same_data import changed_data
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_processes import ProcessesChoice, split_address
from tests.engine.attempts import finish, make_attempt
from tests.engine.test_ranks import assert_same_training, make_run, processes_of, rank_one
from tests.engine.test_train_job import _process_as_before, end_of, run_train, series  # noqa: F401  # a fixture
from tests.engine.tiny_model import read_events, save_model, write_rows
from tests.other_boxes import FakeSsh, box_environ, loopback_sshd, write_program
from tests.running_engine import make_home
from tests.waiting import wait_for

# Real processes that import torch, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("boxes")
    save_model(place / "model")
    write_rows(place / "rows.jsonl")
    return place


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    """`ssh box` reaches an environment of its own on this machine, which sees us as the loopback."""
    fake = FakeSsh(tmp_path / "ssh", monkeypatch)
    fake.set(box={"environ": {**box_environ(tmp_path / "box"), "SSH_CONNECTION": "127.0.0.1 40000 127.0.0.1 22"}})
    return fake


def on_two_boxes(place: Path, name: str, **changes: Any) -> RunDir:
    strategy = changes.pop("strategy", "ddp")
    return make_run(place, name, 1, 1, processes={"count": 1, "hosts": ["box"], "strategy": strategy}, **changes)


def launched(run: RunDir, attempt: int = 1, resume: Path | None = None) -> Any:
    """The shim of an attempt, started as the engine would."""
    env = {
        "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "LLMOPS_RUN_DIR": str(run.path), "LLMOPS_RUN_ID": run.id,
        "LLMOPS_ATTEMPT": str(attempt), "LLMOPS_CONTROL_BYTES": str(run.control.stat().st_size if attempt > 1 else 0),
        "HOME": os.environ["HOME"], **({"LLMOPS_RESUME_FROM": str(resume)} if resume else {}),
    }  # fmt: skip
    spec = TrainSpec.model_validate(json.loads(run.spec.read_bytes())["spec"])
    make_attempt(run, job_argv(spec, run), attempt, env=env)
    return spawn_shim(run, attempt)


def told_by(run: RunDir) -> list[dict[str, Any]]:
    return read_events(run.path) if run.events.exists() else []


def words_of(run: RunDir) -> str:
    return run.log.read_text()


def paused_after_the_first_step(run: RunDir) -> Path:
    """Its checkpoint, with the random state of both boxes."""
    append_line(run.control, {"t": 4e9, "command": "pause", "mode": "hold", "who": "ada"})
    shim = launched(run)
    wait_for(lambda: any(event.get("phase") == "paused" for event in told_by(run)), 60, "the hold")
    append_line(run.control, {"t": 4e9, "command": "stop", "who": "ada"})
    assert finish(run, shim)["code"] == 0, words_of(run)
    assert end_of(run.path)["status"] == "stopped"
    checkpoint = newest_complete(run)
    assert checkpoint is not None
    assert {file.name for file in checkpoint.glob("rng_state_*.pth")} == {"rng_state_0.pth", "rng_state_1.pth"}
    return checkpoint


def hide(ssh: FakeSsh, tmp_path: Path) -> Path:
    """A directory that the other box has, too, but not with the same in it."""
    hidden = tmp_path / "runs"
    hidden.mkdir()
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs leave for a mount namespace (unshare -rm)")
    environ = {**box_environ(tmp_path / "box"), "SSH_CONNECTION": "127.0.0.1 40000 127.0.0.1 22"}
    write_program(
        tmp_path / "box" / "programs" / "llmops-tui",
        f'#!/bin/sh\nexec unshare -rm sh -c \'mount -t tmpfs none "{hidden}" && exec "{sys.executable}" -m llmops_tui "$@"\' sh "$@"\n',
    )
    ssh.set(box={"environ": environ})
    return hidden


def test_two_boxes_stopped_and_resumed_have_the_losses_of_one_process(monkeypatch: pytest.MonkeyPatch, place: Path, ssh: FakeSsh) -> None:
    run = on_two_boxes(place, "boxes")
    checkpoint = paused_after_the_first_step(run)
    assert launched(run, 2, checkpoint).wait(180) == 0
    end = end_of(run.path)
    assert (end["status"], end["summary"]["processes"], end["summary"]["steps"]) == ("succeeded", 2, 5), words_of(run)
    assert not list(run.path.glob(".ranks-*"))
    one = make_run(place, "alone", count=1, micro_batch=2)
    assert run_train(monkeypatch, one.path) == 0
    assert_same_training(run, one)


def test_a_model_cut_over_two_boxes_is_saved_whole(monkeypatch: pytest.MonkeyPatch, place: Path, ssh: FakeSsh) -> None:
    run = on_two_boxes(place, "cut-boxes", strategy="fsdp", adaptation="full")
    assert launched(run).wait(180) == 0
    assert end_of(run.path)["status"] == "succeeded", words_of(run)
    one = make_run(place, "whole-alone", count=1, micro_batch=2, adaptation="full")
    assert run_train(monkeypatch, one.path) == 0
    assert_same_training(run, one)


def test_a_box_that_does_not_see_the_run_gets_what_it_needs_and_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, place: Path, ssh: FakeSsh, tmp_path: Path
) -> None:
    hidden = hide(ssh, tmp_path)
    keep = {"evaluate_every": 1, "keep": {"best": True}, "optim": {"learning_rate": 0.5}, "max_steps": 3}
    run = on_two_boxes(place, "apart", **keep)
    run = RunDir(Path(shutil.move(run.path, hidden)))
    checkpoint = paused_after_the_first_step(run)
    assert launched(run, 2, checkpoint).wait(180) == 0
    end = end_of(run.path)
    assert end["status"] == "succeeded", words_of(run)
    assert "box does not see the run's directory" in words_of(run)
    assert not list((tmp_path / "box" / "state").rglob("spec.json"))

    near = make_run(place, "near", count=2, micro_batch=1, **keep)
    assert launched(near).wait(180) == 0
    assert series(run.path, "train/loss") == series(near.path, "train/loss"), "as two processes of one box, to the bit"
    assert series(run.path, "eval/loss").items() < series(near.path, "eval/loss").items(), "the stop came before one of them"
    assert end["summary"]["step_taken"] == end_of(near.path)["summary"]["step_taken"] == 2, "the best is not the last"
    assert end["summary"]["eval_loss_after"] == end_of(near.path)["summary"]["eval_loss_after"]


def test_fsdp_without_a_shared_directory_is_refused(place: Path, ssh: FakeSsh, tmp_path: Path) -> None:
    run = on_two_boxes(place, "cut-apart", strategy="fsdp")
    run = RunDir(Path(shutil.move(run.path, hide(ssh, tmp_path))))
    assert finish(run, launched(run))["code"] == 1
    assert "box: does not see the run's directory" in end_of(run.path)["error"]
    assert "processes.strategy=ddp" in end_of(run.path)["error"]


def test_a_real_sshd_does_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    with loopback_sshd(tmp_path / "ssh", box_environ(tmp_path), monkeypatch):
        run = on_two_boxes(place, "sshd", max_steps=2)
        assert finish(run, launched(run))["code"] == 0, words_of(run)
        assert end_of(run.path)["summary"]["processes"] == 2


@pytest.mark.parametrize("who", ["the rank there", "the connection", "the launcher"])
def test_whatever_is_killed_the_run_ends_on_both_boxes(place: Path, ssh: FakeSsh, who: str) -> None:
    run = on_two_boxes(place, f"killed-{who.split()[-1]}", max_steps=500)
    shim = launched(run)
    there = wait_for(lambda: rank_one(run), 30, "the rank there")
    wait_for(lambda: any("train/loss" in event.get("values", ()) for event in told_by(run)), 60, "a step")
    if who == "the rank there":
        victim = there
    elif who == "the connection":
        victim = next(pid for pid in processes_of(run) if b"fake_ssh" in Path(f"/proc/{pid}/cmdline").read_bytes())
    else:
        victim = next(pid for pid in processes_of(run) if b"jobs.ranks\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(victim, signal.SIGKILL)
    assert finish(run, shim)["code"] != 0
    wait_for(lambda: not processes_of(run), 20, "both boxes to be free again")
    if who == "the rank there":
        assert "rank 1 of 2 on box was killed by SIGKILL" in end_of(run.path)["error"]
    elif who == "the connection":
        assert "rank 1 of 2 was lost" in end_of(run.path)["error"]


def refusal(run: RunDir) -> str:
    """Why the run did not start: no rank of it ever lived."""
    assert finish(run, launched(run))["code"] != 0
    assert "loading the model" not in words_of(run)
    return str(end_of(run.path)["error"])


def test_what_keeps_another_box_from_taking_part_is_told_before_anything_starts(
    place: Path, ssh: FakeSsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {**box_environ(tmp_path / "box"), "SSH_CONNECTION": "127.0.0.1 40000 127.0.0.1 22"}
    ssh.set(box={"fails": "ssh: connect to host box port 22: Connection refused"})
    assert "box refuses the connection" in refusal(on_two_boxes(place, "refused"))
    ssh.set(box={"environ": {**there, "PATH": "/usr/bin:/bin"}})
    assert "there is no llmops-tui on box" in refusal(on_two_boxes(place, "missing"))
    ssh.set(box={"environ": {**there, "LLMOPS_READ_ONLY": "1"}})
    assert "box: this box only looks" in refusal(on_two_boxes(place, "looks"))
    ssh.set(box={"environ": {**there, "SSH_CONNECTION": ""}})
    assert "set processes.address" in refusal(on_two_boxes(place, "unseen"))
    ssh.set(box={"environ": {**there, "SSH_CONNECTION": "192.0.2.7 1 192.0.2.8 22"}})
    assert "box reaches this box as 192.0.2.7, which is none of its own addresses" in refusal(on_two_boxes(place, "jump"))
    ssh.set(box={"environ": there})
    changed = on_two_boxes(place, "changed")
    record = json.loads(changed.spec.read_bytes())
    record["prepared"]["dataset"]["sha256"] = "0" * 64
    changed.spec.write_text(json.dumps(record))
    assert "box: has other files than the box of the run" in refusal(changed)
    monkeypatch.setattr(meeting.importlib.metadata, "version", lambda _name: "0.1")
    seen, _ = ranks_for_other._look(
        {"run": "/", "mark": "x", "versions": {"torch": "2.13.0"}, "strategy": "ddp"}, make_home(tmp_path / "home"), contextlib.ExitStack()
    )
    assert seen["problem"] == "has other versions than the box of the run: torch 0.1, and 2.13.0 there"


def test_gpus_elsewhere_are_held_as_an_engines_are_and_refused_where_less_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"GPU-0-0-0-{number}" for number in range(4)]
    one = {"name": "H100", "memory_total_bytes": 80 << 30, "health": "ok", "processes": []}
    samples: list[Any] = [{**one, "uuid": name, "index": number} for number, name in enumerate(names)]
    samples[0]["processes"] = [{"pid": 1}]
    samples[3]["name"] = "L4"
    monkeypatch.setattr(ranks_for_other, "gpus_now", lambda _home: samples)
    kind = gpu_kind.kind_of_first(names[1:], samples)
    assert kind == "H100 with 80 GiB"
    home = make_home(tmp_path / "home")
    home.config.write_text(f'[gpus]\nlock_directory = "{tmp_path}/locks"\n')
    engine = GpuLocks(tmp_path / "locks", home.root)
    with contextlib.ExitStack() as held:
        chosen = ranks_for_other._hold_gpus(2, kind, "train-a-0001", home, held)
        assert chosen == {"CUDA_VISIBLE_DEVICES": "GPU-0-0-0-1,GPU-0-0-0-2"}
        assert set(engine.held_by_others(names)) == set(names[1:3]), "this user's own engine keeps off them"
        with pytest.raises(LlmopsError, match="has 0 free GPUs like the first box's"):
            ranks_for_other._hold_gpus(1, kind, "train-b-0001", home, held)
    assert engine.held_by_others(names) == {}


def test_who_speaks_to_the_ranks_command_by_hand_is_told_whose_it_is(tmp_path: Path) -> None:
    for words in (b"hello\n", b"{}\n[]\n", b'{"begin": 1}\n'):
        done = subprocess.run(
            [sys.executable, "-m", "llmops_tui", "engine", "ranks"],
            input=words,
            capture_output=True,
            env=box_environ(tmp_path),
            check=False,
        )
        assert done.returncode in (1, 2)
        assert len(done.stderr.decode().splitlines()) == 1, done.stderr.decode()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"hosts": ["-oProxyCommand=true"]}, "is no box"),
        ({"hosts": ["gpu2; reboot"]}, "is no box"),
        ({"hosts": [""]}, "is no box"),
        ({"hosts": ["gpu2", "gpu2"]}, "processes.hosts: names gpu2 twice"),
        ({"hosts": ["gpu2"], "address": "10.0.0.1:999999"}, "is no address"),
        ({"hosts": ["gpu2"], "address": "fe80::1"}, "is no address"),
        ({"address": "10.0.0.1"}, "processes.address: is for the boxes of processes.hosts"),
    ],
)
def test_what_is_no_box_or_address_is_refused_at_its_field(choice: dict[str, Any], words: str) -> None:
    wish = {"model": "m", "dataset": {"path": "d"}, "resources": {"gpus": 0}, "processes": choice}
    with pytest.raises(ValueError, match=words):
        TrainSpec.model_validate(wish)


def test_an_update_learns_from_the_rows_of_all_boxes() -> None:
    wish = {"model": "m", "dataset": {"path": "d"}, "resources": {"gpus": 0}, "micro_batch": 2, "accumulation": 4}
    spec = TrainSpec.model_validate({**wish, "processes": {"count": 2, "hosts": ["gpu2", "ada@10.0.0.3"], "address": "[fe80::1]:29500"}})
    assert spec.rows_per_update == 2 * 3 * 2 * 4
    assert job_argv(spec, RunDir(Path("/")))[3:] == ["2", "train", "--address=[fe80::1]:29500", "gpu2", "ada@10.0.0.3"]
    assert split_address("[fe80::1]:29500") == ("fe80::1", 29500)
    assert split_address("gpu1.lan") == ("gpu1.lan", 0)
    assert ProcessesChoice().total == 1


@pytest.mark.parametrize(
    "said",
    [
        '{"seen": 3}',
        '{"seen": {"shared": true, "client": "127.0.0.1", "problem": "", "step": ""}}\\n{"ready": 1}\\n'
        '{"ended": {"rank": 1, "code": 0, "end": {"x": 1}, "ago": 0, "end_ago": 0}}',
    ],
)
def test_a_box_that_says_nonsense_ends_the_run_in_words(place: Path, ssh: FakeSsh, tmp_path: Path, said: str) -> None:
    environ = box_environ(tmp_path / "other")
    write_program(tmp_path / "other" / "programs" / "llmops-tui", f"#!/bin/sh\nprintf '%b\\n' '{said}'\nexec sleep 60\n")
    ssh.set(box={"environ": environ})
    run = on_two_boxes(place, f"nonsense-{abs(hash(said))}")
    assert finish(run, launched(run))["code"] != 0
    assert "box says what is not understood here" in end_of(run.path)["error"], words_of(run)
    wait_for(lambda: not processes_of(run), 20, "nothing to be left")


def test_a_checkpoint_that_becomes_shorter_while_it_is_sent_is_not_taken_for_a_whole_one(
    tmp_path: Path, ssh: FakeSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"12345678")
    box = OtherBox("box", 1, 1)
    try:
        box.seen = {"shared": False}
        with pytest.raises(OSError, match="became shorter"):
            box._write_file(file, 9)
    finally:
        box.close()


def test_each_rank_takes_a_gpu_by_its_number_on_its_own_box(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch, "set_num_threads", lambda _count: None)
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", END_DESCRIPTOR: "1"}.items():
        monkeypatch.setenv(name, value)
    hardware.apply(Plan("cuda", torch.bfloat16, 1, False, False, None))
    assert taken == [1]


def test_rows_with_the_same_size_and_time_are_read_on_another_box(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n')
    noted = {"path": str(rows), "sha256": "0" * 64, "bytes": rows.stat().st_size, "mtime_ns": rows.stat().st_mtime_ns}
    record, home = {"prepared": {"dataset": noted}}, make_home(tmp_path / "home")
    assert changed_data(record, home) == ""
    assert "has changed" in changed_data(record, home, by_content=True)
