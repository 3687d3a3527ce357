"""What a job is told about itself and its GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.launch import Launch, describe_launch
from llmops_tui.specs.parse import parse_spec

NVIDIA = "GPU-6f1c2d3e-0000-1111-2222-333344445555"
AMD = "GPU-62a1b2c3d4e5f601"
NUMBERS = {"PCI-0000:03:00.0": 0, AMD: 1, "PCI-0000:83:00.0": 2}


def launch(tmp_path: Path, *uuids: str, resume_from: Path | None = None, **spec: Any) -> Launch:
    values = parse_spec({"kind": "command", "argv": ["true"], **spec})
    return describe_launch(
        values,
        RunDir(tmp_path / "command-true-0001"),
        2,
        home=tmp_path,
        submitted_from="/somewhere",
        gpu_uuids=uuids,
        gpu_numbers=NUMBERS,
        threads=3,
        resume_from=resume_from,
    )


@pytest.mark.parametrize(
    ("uuids", "variable", "value"),
    [
        ([NVIDIA], "CUDA_VISIBLE_DEVICES", NVIDIA),
        ([], "CUDA_VISIBLE_DEVICES", ""),
        ([AMD], "ROCR_VISIBLE_DEVICES", AMD),
        (["PCI-0000:83:00.0"], "ROCR_VISIBLE_DEVICES", "2"),
        (["PCI-0000:03:00.0", AMD], "ROCR_VISIBLE_DEVICES", f"0,{AMD}"),
    ],
)
def test_a_job_sees_the_gpus_it_holds_and_no_other(tmp_path: Path, uuids: list[str], variable: str, value: str) -> None:
    assert launch(tmp_path, *uuids, env={variable: "7"})["env"][variable] == value


def test_a_job_reaches_no_hub_unless_the_user_allowed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert launch(tmp_path)["env"]["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in launch(tmp_path, allow_network=True)["env"]


def test_the_word_of_supervision_goes_over_the_users_and_what_the_engine_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_RESUME_FROM", "/of/another/run")
    told = launch(tmp_path, env={"LLMOPS_ATTEMPT": "9", "OMP_NUM_THREADS": "1", "MINE": "yes"})
    environment = told["env"]
    assert (environment["LLMOPS_ATTEMPT"], environment["OMP_NUM_THREADS"], environment["MINE"]) == ("2", "1", "yes")
    assert environment["LLMOPS_RUN_ID"] == "command-true-0001"
    assert "LLMOPS_RESUME_FROM" not in environment
    resumed = launch(tmp_path, resume_from=tmp_path / "checkpoint-3")
    assert resumed["env"]["LLMOPS_RESUME_FROM"] == str(tmp_path / "checkpoint-3")
    assert Path(told["cwd"]) == Path("/somewhere")


def test_our_jobs_wait_without_spinning_unless_the_user_says_so_and_a_command_keeps_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    def policy(**env: str) -> str | None:
        spec = parse_spec({"kind": "evaluate", "model": "m", "dataset": {"path": "d"}, "env": env})
        told = describe_launch(
            spec, RunDir(tmp_path), 1, home=tmp_path, submitted_from="/", gpu_uuids=(), gpu_numbers={}, threads=2, resume_from=None
        )
        return told["env"].get("OMP_WAIT_POLICY")

    assert policy() == "passive"
    assert policy(OMP_WAIT_POLICY="active") == "active"
    assert "OMP_WAIT_POLICY" not in launch(tmp_path)["env"]


def test_numbers_in_the_environment_are_text(tmp_path: Path) -> None:
    assert launch(tmp_path, env={"OMP_NUM_THREADS": 1, "SCALE": 0.5})["env"]["OMP_NUM_THREADS"] == "1"
