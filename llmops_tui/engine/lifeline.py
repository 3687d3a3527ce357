"""One engine a state directory: the lock, the socket and the note that says where the engine is."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import llmops_tui
from llmops_tui.data.durable import read_json, write_json
from llmops_tui.errors import ConflictError, EngineUnavailableError, LlmopsError, PermissionDeniedError
from llmops_tui.paths import Home

_BACKLOG = 128


class AnotherEngineError(ConflictError):
    """The lock is held: an engine already serves this state directory."""


def take_lock(home: Home) -> int:
    """Make the state directory and hold its lock; the descriptor keeps it until this process ends, however it ends.

    Raises AnotherEngineError, PermissionDeniedError, or EngineUnavailableError for a directory that cannot be written.
    """
    try:
        home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = home.root.stat().st_uid
        if owner != os.geteuid():
            raise PermissionDeniedError(f"the state directory {home.root} belongs to uid {owner}", "use one of your own: --home DIR")
        descriptor = os.open(home.engine_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # A file system that is mounted read-only, or full, may still open an old lock file.
        probe = home.root / f".writable.{os.getpid()}"
        try:
            probe.write_bytes(b"1")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(home, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        pid = _noted_pid(home)
        who = f"another engine (pid {pid})" if pid else "another engine"
        raise AnotherEngineError(f"{who} already serves {home.root}", "use it, or stop it with `llmops-tui engine stop`") from None
    return descriptor


def unwritable(home: Home, error: OSError) -> LlmopsError:
    """What to tell when the state directory refuses: read-only, no directory, no room, another user's."""
    step = "free some space" if error.errno == errno.ENOSPC else "choose another with --home DIR or $LLMOPS_HOME"
    return EngineUnavailableError(f"the state directory {home.root} cannot be written: {error.strerror}", step)


def listen(path: Path, gid: int | None = None) -> socket.socket:
    """A listening socket of mode 0600 in a directory of mode 0700 that is ours. Hold the lock: a file left there is stale.

    For the group `gid` the socket has mode 0660 in a directory of mode 2750, both the group's.

    Raises PermissionDeniedError when the directory is a symbolic link or another user's.
    """
    directory = path.parent
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionDeniedError(
            f"{directory}, where the engine's socket belongs, is not a directory of uid {os.geteuid()}",
            "remove it, or set XDG_RUNTIME_DIR to a directory of your own",
        )
    mode = 0o700 if gid is None else 0o2750
    if gid is not None:
        os.chown(directory, -1, gid)
    if stat.S_IMODE(directory.lstat().st_mode) != mode:
        directory.chmod(mode)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        if gid is not None:
            os.chown(path, -1, gid)
            path.chmod(0o660)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def write_note(home: Home, socket_path: Path) -> None:
    """engine.json: clients find the socket by it even where their environment differs."""
    write_json(
        home.engine_json,
        {
            "pid": os.getpid(),
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "start_ticks": _start_ticks(),
            "socket": os.fspath(socket_path),
            "version": llmops_tui.__version__,
            "started_at": time.time(),
        },
    )


def remove_traces(home: Home, socket_path: Path) -> None:
    """Take away the socket and the note at a clean stop, before the lock goes."""
    socket_path.unlink(missing_ok=True)
    home.engine_json.unlink(missing_ok=True)


def _noted_pid(home: Home) -> int | None:
    try:
        note: Any = read_json(home.engine_json)
    except (OSError, ValueError):
        return None
    pid = note.get("pid") if isinstance(note, dict) else None
    return pid if isinstance(pid, int) else None


def _start_ticks() -> int:
    """Field 22 of /proc/self/stat: clock ticks after boot at which this process began (man 5 proc)."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
