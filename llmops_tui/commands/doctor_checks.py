"""The checks of `doctor`. Each looks, never changes anything, and says what to do; none imports torch into this process."""

from __future__ import annotations

import glob
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from llmops_tui.client import Client
from llmops_tui.commands.output import size
from llmops_tui.errors import EngineUnavailableError, LlmopsError
from llmops_tui.place import foreign_owner, user_name

_CORE = ("duckdb", "fastapi", "uvicorn", "pydantic", "textual", "psutil", "numpy", "nvidia-ml-py")
_TRAINING = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors")
_LEAST_FREE_BYTES = 5 << 30
_TORCH_SECONDS = 120
# Locks and DuckDB's file need a local file system.
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre", "beegfs", "ceph"})
_ENVIRONMENT = (
    "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
)  # fmt: skip
_TORCH_QUESTION = (
    "import json, torch; c = torch.cuda.is_available();"
    "print(json.dumps([torch.__version__, torch.version.cuda, c, [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]"
    " if c else []]))"
)


class Check(NamedTuple):
    """One finding. `state` is "ok", "warning" or "failed"; `fix` is empty when there is nothing to do."""

    name: str
    state: str
    found: str
    fix: str = ""


def all_checks(client: Client) -> Iterator[Check]:
    """Every check, one after the other, slow ones last."""
    yield python()
    yield from packages()
    yield from state_directory(client)
    yield engine(client)
    yield from database(client)
    yield from logout()
    yield from environment()
    driver = nvidia_driver()
    yield driver
    yield torch(driver.found if driver.state == "ok" and not driver.found.startswith("none") else "")


def python() -> Check:
    """Which one: pip has already refused one that is too old."""
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def packages() -> Iterator[Check]:
    """What is installed, by its metadata: nothing is imported."""
    for name, wanted, fix, state in (
        ("packages", _CORE, "pip install -c constraints.txt .", "failed"),
        ("training packages", _TRAINING, "pip install -c constraints.txt '.[train]'; without them only commands can be run", "warning"),
    ):
        versions = {package: _version(package) for package in wanted}
        missing = [package for package, version in versions.items() if version is None]
        if missing:
            yield Check(name, state, f"missing: {', '.join(missing)}", fix)
        else:
            yield Check(name, "ok", ", ".join(f"{package} {version}" for package, version in versions.items()))


def state_directory(client: Client) -> Iterator[Check]:
    """Is it there, writable, on a local disk with room?"""
    root = client.home.root
    existing = root
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        yield Check("state directory", "failed", f"{existing} is no directory", "choose another with --home DIR")
        return
    if (owner := foreign_owner(root)) is not None:
        yield Check("state directory", "ok", f"{root} is {user_name(owner)}'s, whose engine alone works in it")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Check("state directory", "failed", f"{root} cannot be written", "choose another with --home DIR or repair its permissions")
        return
    kind = _file_system(str(existing))
    if kind in _NETWORK_FILE_SYSTEMS:
        yield Check("state directory", "warning", f"{root} is on {kind}", "locks need a local disk: choose another with --home DIR")
    else:
        yield Check("state directory", "ok", f"{root}" + ("" if root.exists() else " (made at the first start)"))
    free = shutil.disk_usage(existing).free
    if free < _LEAST_FREE_BYTES:
        fix = "free some: `llmops-tui runs rm RUN` deletes ended runs; under 1 GiB nothing is stored or started"
        yield Check("disk", "failed" if free < 1 << 30 else "warning", f"{size(free)} free", fix)
    else:
        yield Check("disk", "ok", f"{size(free)} free")


def engine(client: Client) -> Check:
    """Does one answer; if not, is a dead one's socket left?"""
    try:
        info = client.engine(timeout=5.0)
    except EngineUnavailableError as error:
        path = client.home.socket
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            return Check("engine", "failed", f"{path} is no socket", f"move it away: mv {path} {path}.old")
        if "did not answer" in error.message:
            return Check("engine", "failed", error.message, error.next_step)
        left = "; the socket of a dead one is left, its next start replaces it" if path.exists() else ""
        return Check("engine", "ok", f"not running (the first command starts it){left}")
    except LlmopsError as error:
        return Check("engine", "failed", error.message, error.next_step)
    if info["warnings"] or info["ingest"] != "ok":
        return Check("engine", "warning", "; ".join([f"ingest {info['ingest']}", *info["warnings"]]), f"see {client.home.engine_log}")
    return Check("engine", "ok", f"runs, version {info['version']}, pid {info['pid']}")


def database(client: Client) -> Iterator[Check]:
    """Is the file DuckDB's at all? Only its mark is read: this process has no lock on it that closing the file could drop."""
    path = client.home.database
    if foreign_owner(client.home.root) is not None:
        return
    try:
        with open(path, "rb") as file:
            mark = file.read(12)[8:]
    except FileNotFoundError:
        return
    except IsADirectoryError:
        yield Check("database", "failed", f"{path} is a directory, not a database", "move it away; `llmops-tui doctor --rebuild` makes one")
        return
    except OSError as error:
        yield Check("database", "failed", f"{path}: {error.strerror}", "repair its permissions, or choose another --home")
        return
    if mark == b"DUCK":
        yield Check("database", "ok", f"{path}, {size(path.stat().st_size)}")
    else:
        yield Check("database", "failed", f"{path} is damaged", "`llmops-tui doctor --rebuild` makes it anew from the run directories")


def logout(
    linger: str = "/var/lib/systemd/linger", booted: str = "/run/systemd/system", configuration: str = "/etc/systemd"
) -> Iterator[Check]:
    """Would systemd end the jobs with the last session (man 5 logind.conf, KillUserProcesses)?"""
    if not os.path.isdir(booted):
        yield Check("logout", "ok", "systemd does not run this box: nothing ends the jobs at logout")
        return
    user = _user()
    lingers = os.path.exists(os.path.join(linger, user))
    kills = kills_user_processes(configuration)
    if kills and not lingers and os.getuid() != 0:
        fix = f"loginctl enable-linger {user}, then `llmops-tui engine service install`"
        yield Check("logout", "failed", "KillUserProcesses=yes and linger is off: systemd ends the engine and all jobs at logout", fix)
    else:
        found = f"KillUserProcesses={'yes' if kills else 'no'}, linger {'on' if lingers else 'off'}: jobs go on after logout"
        fix = "" if lingers else f"to start the engine at boot too: loginctl enable-linger {user}"
        yield Check("logout", "ok", found, fix)


def kills_user_processes(configuration: str) -> bool:
    """The last assignment in logind.conf and its drop-ins wins."""
    value = False
    for path in [f"{configuration}/logind.conf", *sorted(glob.glob(f"{configuration}/logind.conf.d/*.conf"))]:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, setting = line.strip().partition("=")
            if name.strip() == "KillUserProcesses":
                value = setting.strip().lower() in ("yes", "true", "1", "on")
    return value


def environment() -> Iterator[Check]:
    """What of the user's environment reaches the jobs."""
    given = [f"{name}={os.environ[name]}" for name in _ENVIRONMENT if os.environ.get(name)]
    found = ", ".join(given) if given else "no HF_* or GPU variable is set"
    yield Check("environment", "ok", f"{found}; jobs run with HF_HUB_OFFLINE=1 and without telemetry unless allow_network is set")
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        found = "is set here; the engine gives each run its GPUs by UUID instead"
        yield Check("CUDA_VISIBLE_DEVICES", "warning", found, "unset CUDA_VISIBLE_DEVICES")


def nvidia_driver(version_file: str = "/proc/driver/nvidia/version") -> Check:
    """The kernel's driver and the library NVML is read through."""
    import ctypes

    try:
        with open(version_file, encoding="utf-8", errors="replace") as file:
            driver = file.readline().strip()
    except OSError:
        driver = ""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
        library = True
    except OSError:
        library = False
    amd = glob.glob("/sys/class/drm/card*/device/gpu_busy_percent")
    if driver and not library:
        return Check("GPU driver", "failed", f"{driver}, but libnvidia-ml.so.1 is missing", "install the driver's user-space libraries")
    if driver or library:
        return Check("GPU driver", "ok", driver or "libnvidia-ml.so.1")
    if amd:
        return Check("GPU driver", "ok", f"amdgpu, {len(amd)} cards")
    return Check("GPU driver", "ok", "none: runs take CPU slots")


def torch(driver: str) -> Check:
    """Can the training process see what the box has? Asked in a process of its own, with a bound."""
    if _version("torch") is None:
        return Check("torch", "warning", "not installed", "pip install -c constraints.txt '.[train]'")
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", _TORCH_QUESTION], capture_output=True, text=True, timeout=_TORCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("torch", "failed", f"importing it took longer than {_TORCH_SECONDS} s", "look for a hanging driver: nvidia-smi")
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        return Check("torch", "failed", f"cannot be imported: {last}", "pip install --force-reinstall -c constraints.txt '.[train]'")
    version, cuda, sees, names = json.loads(answer.stdout.strip().splitlines()[-1])
    if sees:
        return Check("torch", "ok", f"{version} with CUDA {cuda}: {', '.join(names)}")
    if driver.startswith(("NVRM", "libnvidia")):
        why = "this build has no CUDA" if cuda is None else f"CUDA {cuda} does not start with this driver"
        return Check("torch", "warning", f"{version} does not see the GPU: {why}", "install the torch build for your driver")
    return Check("torch", "ok", f"{version}, CPU")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _file_system(path: str) -> str:
    """The type of the file system a path lies on (man 5 proc, /proc/self/mounts); empty where it cannot be told."""
    path = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _, mount, found, *_ = line.split(" ")
                mount = mount.replace("\\040", " ")
                if (path == mount or path.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
                    best, kind = mount, found
    except OSError:
        return ""
    return kind
