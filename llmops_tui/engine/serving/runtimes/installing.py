"""How a runtime's environment is made: with which tool, from which packages, in which order. Refused where that cannot go well.

An environment is made beside the others (`runtimes/.made/NAME-…`), checked there, and only then found, by a link of the runtime's
name that is put in place whole: one that is half made is never found, and one that is in use is never changed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops_tui.engine.serving.runtimes.table import Runtime
from llmops_tui.errors import LlmopsError, NotFoundError, UsageError

_NEEDED_MODULES = ("venv", "ensurepip")
_USUAL_UV = ("~/.local/bin/uv", "~/.cargo/bin/uv")
_OUR_WAYS = {
    # Nothing is asked of a person, no other Python is fetched, and a user's configured package index stays what it is.
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_NO_PROGRESS": "1",
}


@dataclass(frozen=True)
class Step:
    """One program to run; `phase` is what it is at, `what` the packages it is about."""

    phase: str
    argv: list[str]
    what: str = ""


@dataclass(frozen=True)
class Source:
    """Where packages come from: the package index, or a directory of wheels alone. `pins`: what is installed, the runtime's own first."""

    pins: tuple[str, ...]
    wheels: Path | None = None


def find_uv(environment: Mapping[str, str]) -> str:
    """uv's path; empty where it is not there."""
    found = shutil.which("uv", path=environment.get("PATH"))
    return found or next((path for name in _USUAL_UV if os.access(path := os.path.expanduser(name), os.X_OK)), "")


def require_python(uv: str) -> None:
    """Whether this Python can make environments. Raises UsageError."""
    missing = [name for name in _NEEDED_MODULES if importlib.util.find_spec(name) is None]
    if missing and not uv:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UsageError(
            f"{sys.executable} cannot make environments: it has no module {missing[0]}",
            f"install uv, or the package that has it (Debian: python{version}-venv)",
        )


def source_of(runtime: Runtime, wheels: str) -> Source:
    """What to install, and from where. `wheels` empty: the package index. Raises NotFoundError, UsageError at `wheels`.

    A directory may have another version than the pinned one (builds for GPUs are numbered apart): then the newest there is meant.
    """
    if not wheels:
        return Source(runtime.requirements)
    directory = Path(wheels)
    if not directory.is_dir():
        raise NotFoundError(f"wheels: {wheels}: no such directory", "name a directory of wheels", _field("no such directory"))
    versions = wheel_versions(directory, runtime.distribution)
    wanted = runtime.requirements[0]
    if not versions:
        raise UsageError(
            f"wheels: {wheels} has no wheel of {runtime.distribution}",
            f"where there is a network: pip download {' '.join(runtime.requirements)} -d {wheels}",
            _field(f"no wheel of {runtime.distribution}"),
        )
    pinned = wanted.partition("==")[2]
    if runtime.hashes and pinned not in versions:
        raise UsageError(
            f"wheels: {wheels} has {runtime.distribution} {versions[-1]}, and only {pinned} is known by its hash",
            f"where there is a network: pip download {wanted} -d {wheels}",
            _field(f"{pinned} is not among them"),
        )
    if any(version.partition("+")[0] == pinned for version in versions):
        return Source(runtime.requirements, directory)
    return Source((f"{wanted.partition('==')[0]}=={versions[-1]}", *runtime.requirements[1:]), directory)


def wheel_versions(directory: Path, distribution: str) -> list[str]:
    """The versions of a distribution among the wheels of a directory, oldest first (PEP 427 file names)."""
    wanted = _normal(distribution)
    found = set()
    for path in directory.glob("*.whl"):
        name, _, rest = path.name.partition("-")
        if _normal(name) == wanted:
            found.add(rest.partition("-")[0])
    return sorted(found, key=lambda version: [int(part) if part.isdigit() else -1 for part in re.split(r"[.+_]", version)])


def steps_of(runtime: Runtime, source: Source, target: Path, uv: str) -> list[Step]:
    """The programs that make the environment in `target`, in order."""
    python = str(target / "bin" / "python")
    if uv:
        make = [uv, "venv", "--no-project", "--python", sys.executable, str(target)]
        install = [uv, "pip", "install", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", str(target)]
        install = [python, "-m", "pip", "install"]
    if source.wheels is not None:
        install += ["--no-index", "--find-links", str(source.wheels)]
    steps = [Step("making the environment", make)]
    if runtime.hashes:
        steps.append(Step("installing", [*install, "--no-deps", "--require-hashes", "-r", str(_hashed(target))], source.pins[0]))
    return [*steps, Step("installing", [*install, *source.pins], " ".join(source.pins))]


def write_hashes(runtime: Runtime, source: Source, target: Path) -> None:
    """The file that names the package whose hash is checked, for `steps_of`. Raises OSError."""
    if runtime.hashes:
        hashes = " ".join(f"--hash={one}" for one in runtime.hashes)
        _hashed(target).write_text(f"{source.pins[0]} {hashes}\n")


def tool_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the tools run with: the caller's environment without what would lead them into another one."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "LLMOPS_"))}
    return {**kept, **_OUR_WAYS}


def index_for_uv(listed: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The package index that pip is configured with, as uv is told of one: uv reads no pip.conf. Empty where uv has its own.

    `listed` is what `pip config list` prints; of several places that name one, the last (the environment) counts.
    """
    if any(name.startswith(("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX", "UV_FIND_LINKS")) for name in environment):
        return {}
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS", "cert": "SSL_CERT_FILE"}
    found = {}
    for key, value in re.findall(r"^(?:global|install|site|user|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if key in names and (key != "cert" or "SSL_CERT_FILE" not in environment):
            joint = "," if key == "find-links" else " "
            found[names[key]] = joint.join(value.replace("\\n", " ").split())
    return found


def reason_of(output: str) -> str:
    """Why a tool failed, from what it said: pip's and uv's own last word."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if full := next((line for line in lines if "No space left on device" in line), ""):
        return full
    for mark in ("ERROR: Could not find", "ERROR: No matching", "ERROR: THESE PACKAGES DO NOT MATCH", "ERROR:", "error:", "× ", "Error:"):
        if found := next((line for line in reversed(lines) if line.startswith(mark)), ""):
            return found.removeprefix("ERROR:").removeprefix("error:").removeprefix("×").strip()[:300]
    return lines[-1][:300] if lines else "it said nothing"


def put_in_place(link: Path, target: Path) -> None:
    """Have the runtime's name lead to this environment, in one rename. Raises LlmopsError where somebody's own directory is there."""
    if link.exists() and not link.is_symlink():
        raise LlmopsError(
            f"{link} is a directory that was not made here", f"move it away, or name it in the settings: runtimes.{link.name}"
        )
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(target, link.parent))
    new.replace(link)


def environments(made: Path, name: str) -> list[Path]:
    """Those made for a runtime, whole or not."""
    return [path for path in made.glob(f"{name}-*") if re.fullmatch(r"\d+-\d+", path.name.removeprefix(f"{name}-"))]


def _hashed(target: Path) -> Path:
    return target.with_name(f"{target.name}.txt")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _field(message: str) -> list[dict[str, str]]:
    return [{"field": "wheels", "message": message}]
