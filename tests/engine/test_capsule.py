"""The capsule holds what a person needs to run it again, and no secret."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.masking import masked
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine import working_tree
from llmops_tui.engine.capsule import packages, write_capsule
from llmops_tui.engine.working_tree import MAX_DIFF_BYTES, describe_tree
from llmops_tui.specs.answers import GpuSample

Git = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "train-fiqa-0001")
    run.path.mkdir(parents=True)
    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "work tree"
    path.mkdir()
    return path


@pytest.fixture
def git(tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Git:
    """A repository with one commit; the tester's own git configuration plays no part."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)

    def call(*arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        return subprocess.run(["git", *identity, *arguments], cwd=tree, check=True, capture_output=True, text=True).stdout.strip()

    call("init", "-q", "-b", "trunk")
    (tree / "train.py").write_text("print('one')\n")
    call("add", ".")
    call("commit", "-q", "-m", "first")
    return call


def a_record(tree: Path, **spec: Any) -> dict[str, Any]:
    return {"id": "train-fiqa-0001", "owner": "me", "cwd": str(tree), "prepared": {"dataset": {"sha256": "abc", "rows": 648}}, "spec": spec}


def read(run: RunDir, attempt: int = 1) -> dict[str, Any]:
    capsule: dict[str, Any] = json.loads((run.attempt(attempt) / "capsule.json").read_text())
    return capsule


def test_the_capsule_holds_spec_seeds_data_packages_and_machine(run: RunDir, tree: Path) -> None:
    gpu: dict[str, Any] = dict.fromkeys(GpuSample.__annotations__)
    gpu |= {"index": 1, "uuid": "GPU-1", "name": "Test GPU", "memory_total_bytes": 24 << 30}
    spec = {"kind": "train", "seed": 7, "dataset": {"ref": "fiqa", "split_seed": 3}}
    written = write_capsule(run, 2, a_record(tree, **spec), [gpu], {"nvidia": "580.95", "cuda": "13.0"})  # type: ignore[list-item]
    capsule = read(run, 2)
    assert capsule == written
    assert (capsule["run"], capsule["attempt"], capsule["spec"]) == ("train-fiqa-0001", 2, spec)
    assert capsule["seeds"] == {"seed": 7, "dataset.split_seed": 3}
    assert capsule["prepared"]["dataset"]["sha256"] == "abc"
    assert capsule["gpus"] == [{"index": 1, "uuid": "GPU-1", "name": "Test GPU", "memory_total_bytes": 24 << 30}]
    assert capsule["driver"] == {"nvidia": "580.95", "cuda": "13.0"}
    assert capsule["python"]["packages"]["pydantic"]
    assert capsule["host"]["kernel"] == f"Linux {os.uname().release}"
    assert capsule["host"]["cpu_model"]
    assert capsule["git"] is None


def test_the_environment_is_the_jobs_own_and_without_secrets(run: RunDir, tree: Path) -> None:
    run.attempt(1).mkdir()
    env = {
        "CUDA_VISIBLE_DEVICES": "GPU-1",
        "HF_TOKEN": "hf_secret",
        "TOKENIZERS_PARALLELISM": "false",
        "SHELL": "/bin/sh",
        "AWS_SECRET_ACCESS_KEY": "also secret",
    }
    (run.attempt(1) / "launch.json").write_text(json.dumps({"argv": ["x"], "env": env}))
    own = {"MY_API_KEY": "sk-1", "DB_PASSWORD": "pw", "PROXY": "http://me:pw@proxy:8080/x", "PLAIN": "shown"}
    write_capsule(run, 1, a_record(tree, env=own), [])
    capsule = read(run)
    assert capsule["env"] == {
        "CUDA_VISIBLE_DEVICES": "GPU-1",
        "DB_PASSWORD": "***",
        "HF_TOKEN": "***",
        "MY_API_KEY": "***",
        "PLAIN": "shown",
        "PROXY": "http://***@proxy:8080/x",
        "TOKENIZERS_PARALLELISM": "false",
    }
    assert capsule["spec"]["env"] == {"DB_PASSWORD": "***", "MY_API_KEY": "***", "PLAIN": "shown", "PROXY": "http://***@proxy:8080/x"}
    text = (run.attempt(1) / "capsule.json").read_text()
    assert not [secret for secret in ("hf_secret", "also secret", "sk-1", "me:pw") if secret in text]


def test_names_are_judged_whatever_their_case() -> None:
    assert masked({"my_Api_Key": "x", "passwd": "y", "MONKEY": "z", "LANG": "C"}) == {
        "LANG": "C",
        "MONKEY": "***",  # rather one too many
        "my_Api_Key": "***",
        "passwd": "***",
    }


def test_a_dirty_tree_is_kept_as_a_diff_that_restores_it(run: RunDir, tree: Path, git: Git) -> None:
    (tree / "train.py").write_text("print('two')\n")
    (tree / "notes.txt").write_text("untracked")
    write_capsule(run, 1, a_record(tree / "deeper"), [])
    recorded = read(run)["git"]
    assert (recorded["commit"], recorded["branch"], recorded["problem"]) == (git("rev-parse", "HEAD"), "trunk", "")
    assert recorded["untracked"] == ["notes.txt"]
    diff = run.attempt(1) / "git.diff"
    assert recorded["diff"] == {
        "file": "git.diff",
        "bytes": diff.stat().st_size,
        "sha256": hashlib.sha256(diff.read_bytes()).hexdigest(),
        "truncated": False,
    }
    git("checkout", "-q", "--", "train.py")
    git("apply", str(diff))
    assert (tree / "train.py").read_text() == "print('two')\n"


def test_a_clean_tree_has_no_diff(run: RunDir, tree: Path, git: Git) -> None:
    write_capsule(run, 1, a_record(tree), [])
    assert read(run)["git"]["commit"] == git("rev-parse", "HEAD")
    assert "diff" not in read(run)["git"]
    assert not (run.attempt(1) / "git.diff").exists()


def test_a_huge_diff_is_cut_and_says_so(tree: Path, git: Git) -> None:
    (tree / "train.py").write_text("".join(f"line {number}\n" for number in range(300_000)))
    found = describe_tree(tree)
    assert found is not None
    assert (len(found.diff), found.diff_truncated) == (MAX_DIFF_BYTES, True)
    assert found.commit == git("rev-parse", "HEAD")


def test_packed_branches_detached_heads_and_linked_worktrees_are_read(tree: Path, git: Git, tmp_path: Path) -> None:
    head = git("rev-parse", "HEAD")
    git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    git("pack-refs", "--all")
    for place, branch in ((tree, "trunk"), (tmp_path / "side", "side")):
        found = describe_tree(place)
        assert found is not None
        assert (found.commit, found.branch, found.problem) == (head, branch, "")
    git("checkout", "-q", "--detach")
    detached = describe_tree(tree)
    assert detached is not None
    assert (detached.commit, detached.branch) == (head, "")


def test_a_repository_without_a_commit_and_a_directory_without_a_repository_are_fine(tmp_path: Path) -> None:
    assert describe_tree(tmp_path) is None
    assert describe_tree(tmp_path / "absent") is None
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(tmp_path)], check=True)
    found = describe_tree(tmp_path)
    assert found is not None
    assert (found.commit, found.branch, found.diff, found.problem) == ("", "trunk", b"", "")


def test_without_git_the_commit_is_still_known(tree: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", "/nonexistent")
    found = describe_tree(tree)
    assert found is not None
    assert found.commit == head
    assert "git" in found.problem


def test_a_tree_that_git_refuses_is_not_forced_open(tree: Path, git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Plays `detected dubious ownership`: a git that refuses, as the real one does in another user's tree."""
    head = git("rev-parse", "HEAD")
    refusing = tmp_path / "bin" / "git"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '$PWD'\" >&2\nexit 128\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{refusing.parent}:{os.environ['PATH']}")
    found = describe_tree(tree)
    assert found is not None
    assert found.commit == head
    assert "dubious ownership" in found.problem


def test_a_git_that_hangs_costs_a_bounded_time_and_leaves_no_process(
    tree: Path, git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hanging = tmp_path / "bin" / "git"
    hanging.parent.mkdir()
    hanging.write_text(f"#!/bin/sh\necho $$ > '{tmp_path}/pid'\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(working_tree, "_SECONDS", 0.5)
    found = describe_tree(tree)
    assert found is not None
    assert "took longer" in found.problem
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_no_command_that_the_repository_names_is_run(tree: Path, git: Git, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\ncat\n")
    trap.chmod(0o755)
    git("config", "core.fsmonitor", str(trap))
    git("config", "diff.external", str(trap))
    git("config", "core.pager", str(trap))
    git("config", "diff.trapped.textconv", str(trap))
    (tree / ".gitattributes").write_text("*.py diff=trapped\n")
    for hook in ("post-index-change", "post-checkout"):
        (tree / ".git" / "hooks" / hook).parent.mkdir(exist_ok=True)
        (tree / ".git" / "hooks" / hook).symlink_to(trap)
    (tree / "train.py").write_text("print('two')\n")
    found = describe_tree(tree)
    assert found is not None
    assert b"print('two')" in found.diff
    assert not (tmp_path / "sprung").exists()


def test_packages_are_listed_again_after_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "brand-new" not in packages()
    (tmp_path / "brand_new-1.5.dist-info").mkdir()
    (tmp_path / "brand_new-1.5.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: brand-new\nVersion: 1.5\n")
    assert packages()["brand-new"] == "1.5"


def test_a_full_disk_leaves_no_half_capsule(run: RunDir, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_capsule(run, 1, a_record(tree), [])
    assert os.listdir(run.attempt(1)) == []
