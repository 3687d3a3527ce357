"""A state directory that a group may come to: who owns what, and which mode it has.

The group may walk through the directory and reach the socket, and read engine.json, which says where that is. Nothing else
of it is theirs to read, except, where the engine is root's, what their jobs need: registered models and datasets.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.paths import Home

_WALK_THROUGH = 0o710
_GROUP_READS = 0o2750
# Files the engine makes are its own; root's group is nobody's else, and the copies it keeps of data are for the group.
UMASK_OF_ROOT, UMASK = 0o027, 0o077
_usual_umask: int | None = None


def open_to_group(home: Home, gid: int, group: str) -> None:
    """Let the group walk to the socket. Raises UsageError for a place that the group cannot reach, LlmopsError for one not ours."""
    global _usual_umask
    _check_reachable(home.root, gid, group)
    _usual_umask = os.umask(UMASK_OF_ROOT if os.geteuid() == 0 else UMASK)
    try:
        _close_what_was_private(home)
        _give(home.root, gid, _WALK_THROUGH)
        if os.geteuid() == 0:
            home.runs.mkdir(exist_ok=True)
            _give(home.runs, gid, _WALK_THROUGH)
            for directory in (home.models, home.datasets):
                directory.mkdir(exist_ok=True)
                _give(directory, gid, _GROUP_READS)
            home.cache.mkdir(exist_ok=True)
            _give(home.cache, gid, _WALK_THROUGH)
    except OSError as error:
        raise LlmopsError(
            f"{home.root} cannot be given to the group {group!r}: {error.strerror}", "choose another with --home DIR"
        ) from error


def _close_what_was_private(home: Home) -> None:
    """Settings with a webhook, a log, root's own runs: made with a usual umask, all may read them once the directory is open."""
    shown = {home.runs.name, home.models.name, home.datasets.name, home.cache.name} if os.geteuid() == 0 else set()
    for entry in os.scandir(home.root):
        if entry.name not in shown | {home.shared_socket.parent.name}:
            _close(entry)
    if os.geteuid() == 0 and home.runs.is_dir():
        for entry in os.scandir(home.runs):
            if entry.stat(follow_symlinks=False).st_mode & stat.S_IROTH:  # a user's run can be walked through, but not listed
                _close(entry)


def _close(entry: os.DirEntry[str]) -> None:
    mode = entry.stat(follow_symlinks=False).st_mode
    if mode & 0o077 and not entry.is_symlink():
        os.chmod(entry.path, stat.S_IMODE(mode) & 0o700)


def usual_umask() -> int | None:
    """What the engine was started with, and its own user's jobs shall have; None where it still is so."""
    return _usual_umask


def show_note(home: Home, gid: int) -> None:
    """Let the group read where the engine listens."""
    _give(home.engine_json, gid, 0o640)


def _check_reachable(root: Path, gid: int, group: str) -> None:
    for directory in root.absolute().parents:
        status = directory.stat()
        by_group = status.st_gid == gid and status.st_mode & stat.S_IXGRP
        if not (by_group or status.st_mode & stat.S_IXOTH):
            raise UsageError(
                f"{directory} is closed to the group {group!r} (mode {stat.S_IMODE(status.st_mode):o}), so nobody of it could reach {root}",
                "name another place: --home /var/lib/llmops-tui",
            )


def _give(path: Path, gid: int, mode: int) -> None:
    os.chown(path, -1, gid)
    path.chmod(mode)
