"""A real engine in a state directory of the test's own, killed at the end whatever happened."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from llmops_tui.client import Client
from llmops_tui.paths import Home
from tests.waiting import wait_for


def make_home(root: Path) -> Home:
    """A state directory without GPUs, whatever the box has."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.toml").write_text('[gpus]\nprobe = "none"\n[engine]\npause_ingest_free_bytes = 0\nrefuse_start_free_bytes = 0\n')
    return Home(root, explicit=True)


@contextlib.contextmanager
def running_engine(root: Path) -> Iterator[Client]:
    """A client of an engine that runs; no engine of this directory is left afterwards."""
    client = Client(make_home(root))
    try:
        client.ensure_engine()
        yield client
    finally:
        kill_engine(client.home)


def engine_pid(home: Home) -> int:
    """The engine's process, from the note it wrote."""
    return int(json.loads(home.engine_json.read_bytes())["pid"])


def kill_engine(home: Home, number: int = signal.SIGKILL) -> None:
    """End the engine by a signal and wait until it is gone; none running is fine."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = engine_pid(home)
        if _is_engine(pid):
            os.kill(pid, number)
            wait_for(lambda: not _is_engine(pid), what=f"engine {pid} to be gone")


def _is_engine(pid: int) -> bool:
    """Whether that process is an engine that has not ended (a zombie's command line is empty)."""
    try:
        return b"llmops_tui.engine.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
