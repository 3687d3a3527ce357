"""Which engine of this box has which GPU: a file a GPU in a directory that all engines share, held by `flock`.

Engines of different users, and several of one user, do not know of each other. Before a run is started its engine holds
the GPU's file; the run's shim and job inherit the descriptor, so the file stays held for as long as the job uses the GPU,
whatever becomes of the engine. All runs of one engine hold a file together (a shared lock each), and nobody else can have it.
What the file says (whose engine, which run) is only for people to read, and everybody may write it: believed is the lock.

The one who looks or takes holds the directory itself for a moment, so that looking is never mistaken for holding.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmops_tui.engine.people import user_name

_OPEN_TO_ALL = 0o1777
_GUARD_SECONDS = 1.0
_NOTE_BYTES = 4096
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]")
log = logging.getLogger(__name__)


class GpuTakenError(Exception):
    """Another engine holds one of the GPUs: `uuid`, and `holder` in words."""

    def __init__(self, uuid: str, holder: str) -> None:
        super().__init__(f"held by {holder}")
        self.uuid = uuid
        self.holder = holder


class GpuLocks:
    """The locks as one engine sees them. Every call may wait for the disk, and up to a second for another engine."""

    def __init__(self, directory: Path, home: Path, group: str = "") -> None:
        self._directory = directory
        self._home = os.path.realpath(home)
        self._group = group
        self.problem = ""

    def take(self, uuids: Sequence[str], run: str, owner: str) -> list[int]:
        """Hold these GPUs for one run of this engine; the descriptors keep them until the last copy is closed.

        Raises GpuTakenError, with nothing held then. Where the directory cannot be used nothing is held, and `problem` says so.
        """
        taken: list[int] = []
        try:
            with self._guarded() as directory:
                for uuid in sorted(uuids):
                    taken.append(self._take(directory, uuid, run, owner))
        except OSError as error:
            _close(taken)
            self._complain(error)
            return []
        except GpuTakenError:
            _close(taken)
            raise
        self.problem = ""
        return taken

    def held_by_others(self, uuids: Sequence[str]) -> dict[str, str]:
        """The GPUs that another engine holds now, and who that is in words."""
        found: dict[str, str] = {}
        if not self._directory.is_dir():  # nobody ever held one here
            return found
        try:
            with self._guarded() as directory:
                for uuid in uuids:
                    try:
                        descriptor = os.open(_name(uuid), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
                    except FileNotFoundError:
                        continue
                    try:
                        if not _lock(descriptor, fcntl.LOCK_EX) and not self._is_ours(note := _read_note(descriptor)):
                            found[uuid] = _words(note)
                    finally:
                        os.close(descriptor)
        except OSError as error:
            self._complain(error)
        return found

    def _take(self, directory: int, uuid: str, run: str, owner: str) -> int:
        descriptor = _open_or_make(_name(uuid), directory)
        try:
            if _lock(descriptor, fcntl.LOCK_EX):
                _write_note(descriptor, self._note(run, owner))
                # Let go and held again in one breath: whoever wants it would first have to hold the directory.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return descriptor
            note = _read_note(descriptor)
            if self._is_ours(note) and _lock(descriptor, fcntl.LOCK_SH):
                return descriptor
            raise GpuTakenError(uuid, _words(note))
        except BaseException:
            os.close(descriptor)
            raise

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[int]:
        """Alone in the directory, whose descriptor this is: what its maker puts in its place meanwhile is not followed.

        Raises OSError where it cannot be used, or where somebody holds it for too long.
        """
        self._make_directory()
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            deadline = time.monotonic() + _GUARD_SECONDS
            while not _lock(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise OSError(f"{self._directory} is held by another process")
                time.sleep(0.005)
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_directory(self) -> None:
        try:
            os.mkdir(self._directory, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(self._directory).st_mode):
                raise NotADirectoryError(20, "is not a directory", str(self._directory)) from None
            return
        os.chmod(self._directory, _OPEN_TO_ALL)  # past the umask

    def _note(self, run: str, owner: str) -> dict[str, Any]:
        uid = os.geteuid()
        return {
            "user": user_name(uid), "uid": uid, "home": self._home, "group": self._group, "run": run, "owner": owner, "since": time.time(),
            "pid": os.getpid(),
        }  # fmt: skip

    def _is_ours(self, note: dict[str, Any]) -> bool:
        return note.get("uid") == os.geteuid() and note.get("home") == self._home

    def _complain(self, error: OSError) -> None:
        problem = f"GPUs are not locked against other engines of this box: {error.strerror or error}: {error.filename or self._directory}"
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem


def lock_directory(chosen: str) -> Path:
    """The directory all engines of the box agree upon: the setting, else what follows from the box alone."""
    if chosen:
        return Path(chosen)
    with contextlib.suppress(OSError):
        if os.stat("/run/lock").st_mode & stat.S_IWOTH:
            return Path("/run/lock/llmops-tui")
    return Path("/tmp/llmops-tui-locks")


def _name(uuid: str) -> str:
    return f"{_UNUSUAL.sub('_', uuid)}.lock"


def _open_or_make(name: str, directory: int) -> int:
    """Opened without O_CREAT first: fs.protected_regular forbids that for another user's file in a sticky directory."""
    try:
        return os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        os.fchmod(descriptor, 0o666)  # past the umask: the next holder writes its own name
        return descriptor


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_note(descriptor: int) -> dict[str, Any]:
    try:
        value = json.loads(os.pread(descriptor, _NOTE_BYTES, 0))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_note(descriptor: int, note: dict[str, Any]) -> None:
    if os.fstat(descriptor).st_nlink > 1:  # somebody linked another file here, which is not to be written over; its lock counts
        return
    with contextlib.suppress(OSError):  # a full disk: the lock is what counts
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode()[:_NOTE_BYTES], 0)


def _words(note: dict[str, Any]) -> str:
    """`ada (private engine)`; what it says is another's word, so it is cut and cleaned."""
    user, group = (_plain(note.get(key)) for key in ("user", "group"))
    if not user:
        return "another engine"
    return f"{_plain(note.get('owner')) or user} (shared engine of {group})" if group else f"{user} (private engine)"


def _plain(value: object) -> str:
    return "".join(character for character in value if character.isprintable())[:40] if isinstance(value, str) else ""


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
