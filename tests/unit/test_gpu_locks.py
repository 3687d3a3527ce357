"""The locks by which engines of one box keep off each other's GPUs."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_tui.engine.gpu_locks import GpuLocks, GpuTakenError, lock_directory
from llmops_tui.engine.people import user_name

GPU, OTHER = "GPU-00000000-test", "PCI-0000:03:00.0"
ME = user_name(os.geteuid())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def engine(directory: Path, name: str) -> GpuLocks:
    return GpuLocks(directory, Path(f"/home/{name}"))


def let_go(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def test_another_engine_waits_until_the_last_run_of_the_first_has_let_go(directory: Path) -> None:
    ours, theirs = engine(directory, "a"), engine(directory, "b")
    first = ours.take([GPU], "train-a-0001", "ada")
    second = ours.take([GPU, OTHER], "train-b-0002", "ada")
    with pytest.raises(GpuTakenError, match=rf"^held by {ME} \(private engine\)$"):
        theirs.take([OTHER, GPU], "train-c-0001", "bob")
    assert theirs.held_by_others([GPU, OTHER, "GPU-free"]) == dict.fromkeys((GPU, OTHER), f"{ME} (private engine)")
    assert ours.held_by_others([GPU, OTHER]) == {}
    let_go(first)
    assert GPU in theirs.held_by_others([GPU])
    let_go(second)
    assert theirs.held_by_others([GPU, OTHER]) == {}
    let_go(theirs.take([GPU], "train-c-0001", "bob"))


def test_what_could_not_be_had_whole_is_not_held_in_part(directory: Path) -> None:
    ours, theirs = engine(directory, "a"), engine(directory, "b")
    held = ours.take([OTHER], "x", "ada")
    with pytest.raises(GpuTakenError):
        theirs.take([GPU, OTHER], "y", "bob")
    assert ours.held_by_others([GPU]) == {}
    let_go(held)


def test_a_process_that_inherited_the_lock_holds_it_when_the_engine_is_gone(directory: Path) -> None:
    ours = engine(directory, "a")
    held = ours.take([GPU], "x", "ada")
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held) as job:
        let_go(held)
        assert GPU in engine(directory, "b").held_by_others([GPU])
        again = engine(directory, "a").take([GPU], "z", "ada")  # the engine that comes back joins its own run
        job.communicate(b"\n")
    assert GPU in engine(directory, "b").held_by_others([GPU]), "the joined run holds it for itself"
    let_go(again)
    assert engine(directory, "b").held_by_others([GPU]) == {}


def test_a_shared_engine_is_named_with_its_group_and_its_runs_owner(directory: Path) -> None:
    held = GpuLocks(directory, Path("/var/lib/llmops-tui"), "ml").take([GPU], "x", "ada")
    assert engine(directory, "b").held_by_others([GPU]) == {GPU: "ada (shared engine of ml)"}
    let_go(held)


def test_everybody_may_lock_and_only_the_owner_may_remove(directory: Path) -> None:
    let_go(engine(directory, "a").take([GPU], "x", "ada"))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o1777
    assert [stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()] == [0o666]


@pytest.mark.parametrize("nonsense", [b"", b"[]", b'{"user": 1}', b"\xff\xfe", b'{"user":"\x1b[2Jeve"}'])
def test_what_a_lock_says_is_not_believed_and_cannot_steer_a_terminal(directory: Path, nonsense: bytes) -> None:
    held = engine(directory, "a").take([GPU], "x", "ada")
    next(directory.iterdir()).write_bytes(nonsense)
    (words,) = engine(directory, "b").held_by_others([GPU]).values()
    assert words.isprintable()
    let_go(held)


def test_a_link_a_pipe_or_a_closed_directory_keeps_no_run_from_starting(directory: Path, tmp_path: Path) -> None:
    directory.mkdir()
    (directory / f"{GPU}.lock").symlink_to(tmp_path / "elsewhere")
    locks = engine(directory, "a")
    assert locks.take([GPU], "x", "ada") == []
    assert "GPUs are not locked against other engines of this box" in locks.problem
    assert not (tmp_path / "elsewhere").exists()
    (directory / f"{GPU}.lock").unlink()
    os.mkfifo(directory / f"{GPU}.lock")
    let_go(locks.take([GPU], "x", "ada"))
    locks = engine(tmp_path / "a-file", "a")
    (tmp_path / "a-file").touch()
    assert locks.take([GPU], "x", "ada") == []
    assert "is not a directory" in locks.problem


def test_a_file_that_somebody_linked_there_is_locked_and_not_written_over(directory: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    directory.mkdir()
    (directory / f"{GPU}.lock").hardlink_to(precious)
    held = engine(directory, "a").take([GPU], "x", "ada")
    assert precious.read_text() == "kept"
    with pytest.raises(GpuTakenError):
        engine(directory, "b").take([GPU], "y", "bob")
    let_go(held)


def test_a_directory_that_is_swapped_for_a_link_while_it_is_used_is_not_followed(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    directory.mkdir()
    flock = fcntl.flock

    def swap(descriptor: int, how: int) -> None:
        if directory.is_dir() and not directory.is_symlink():
            directory.rename(tmp_path / "away")
            directory.symlink_to(elsewhere)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", swap)
    let_go(engine(directory, "a").take([GPU], "x", "ada"))
    assert list(elsewhere.iterdir()) == []


def test_somebody_who_holds_the_directory_for_good_is_told_of_and_stops_nobody(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_tui.engine.gpu_locks._GUARD_SECONDS", 0.0)
    directory.mkdir()
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    locks = engine(directory, "a")
    assert locks.take([GPU], "x", "ada") == []
    assert "is held by another process" in locks.problem
    os.close(descriptor)
    let_go(locks.take([GPU], "x", "ada"))
    assert locks.problem == ""


def test_the_note_tells_people_whose_it_is(directory: Path) -> None:
    let_go(engine(directory, "a").take([OTHER], "train-a-0001", "ada"))
    note = json.loads((directory / "PCI-0000_03_00.0.lock").read_text())
    assert (note["user"], note["run"], note["owner"], note["home"]) == (ME, "train-a-0001", "ada", "/home/a")


def test_all_engines_of_a_box_agree_on_the_place() -> None:
    assert lock_directory("/srv/locks") == Path("/srv/locks")
    assert lock_directory("") in (Path("/run/lock/llmops-tui"), Path("/tmp/llmops-tui-locks"))
