"""Starting the engine from a client that found none. Many may try at once: one wins the lock, all get its answers."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable, Sequence

from llmops_tui.errors import EngineUnavailableError, from_json
from llmops_tui.paths import Home
from llmops_tui.place import foreign_owner, start_hint

_LOG_LIMIT_BYTES = 8 << 20
_LOG_KEEP_BYTES = 1 << 20
_RETRY_SECONDS = 2.0


def start_engine(home: Home, wait_seconds: float, answers: Callable[[], bool], options: Sequence[str] = ()) -> None:
    """Start the daemon, with these options, in a session of its own and return when it answers.

    Raises the daemon's own error when it refuses to start, EngineUnavailableError when it does not answer in time, or where
    the state directory is another user's, whose engine only that user can start.
    """
    if foreign_owner(home.root) is not None:
        raise EngineUnavailableError(f"no engine runs for {home.root}", start_hint(home))
    deadline = time.monotonic() + wait_seconds
    while True:
        report = _spawn(home, deadline, options)
        if report is not None and "error" in report:
            raise from_json(report)
        # Another engine that holds the lock may be one that starts, or one that is just stopping: then ours must start after all.
        elsewhere = report is not None and "elsewhere" in report
        if _wait(answers, min(deadline, time.monotonic() + _RETRY_SECONDS) if elsewhere else deadline):
            return
        if time.monotonic() >= deadline:
            who = "another engine holds" if elsewhere else "the new engine holds"
            raise EngineUnavailableError(
                f"{who} the lock of {home.root} and does not answer after {wait_seconds:g} s", f"see {home.engine_log}"
            )


def _wait(condition: Callable[[], bool], deadline: float) -> bool:
    pause = 0.01
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
    return True


def _spawn(home: Home, deadline: float, options: Sequence[str]) -> dict[str, object] | None:
    """Run the daemon; what it said on its report pipe before it detached, or None where it said nothing in time.

    Raises EngineUnavailableError when it died without a word.
    """
    import subprocess

    try:
        home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = os.open(home.engine_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineUnavailableError(
            f"the state directory {home.root} cannot be written: {error.strerror}", "choose another with --home DIR or $LLMOPS_HOME"
        ) from None
    read_end, write_end = os.pipe()
    try:
        _bound(log, home)
        # -P: the daemon works in "/"; nothing that lies there may be imported. --detach forks, so the daemon is no child of ours.
        command = [sys.executable, "-P", "-m", "llmops_tui.engine.daemon", "--home", str(home.root), "--config", str(home.config)]
        process = subprocess.Popen(
            [*command, *options, "--detach", "--report", str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=(write_end,),
        )
        os.close(write_end)
        write_end = -1
        process.wait()
        said = _read_report(read_end, deadline)
    finally:
        os.close(log)
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)
    if said is None:
        return None
    try:
        report = json.loads(said)
    except ValueError:
        raise EngineUnavailableError(f"the engine died while starting: {_last_line(home)}", f"see {home.engine_log}") from None
    return report if isinstance(report, dict) else None


def _read_report(read_end: int, deadline: float) -> bytes | None:
    """The one line the daemon writes; empty when it died first, None at the deadline."""
    said = b""
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([read_end], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(read_end, 65536)
        if not part:
            break
        said += part
    return said


def _bound(log: int, home: Home) -> None:
    """Keep the newest part of an engine.log that grew large; the file stays the same for whoever appends to it."""
    size = os.fstat(log).st_size
    if size <= _LOG_LIMIT_BYTES:
        return
    with open(home.engine_log, "rb") as file:
        file.seek(size - _LOG_KEEP_BYTES)
        kept = file.read().partition(b"\n")[2]
    os.ftruncate(log, 0)
    os.write(log, kept)


def _last_line(home: Home) -> str:
    with open(home.engine_log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
