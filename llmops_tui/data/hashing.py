"""SHA-256 of the files that make a model or a dataset what it is, read once: digests are remembered by size, time and inode."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from llmops_tui.data.durable import write_bytes

# Called with the bytes read since the last call.
Progress = Callable[[int], None]

_CHUNK_BYTES = 4 << 20
_HUB_BLOB = re.compile(r"[0-9a-f]{64}")
# A file changed twice within its time stamp's grain looks unchanged; a digest is only remembered once this old.
_SETTLED_NS = 1_000_000_000


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `flock` on a file: one process or thread at a time, and a killed holder lets go by itself. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sha256_file(path: Path, progress: Progress | None = None) -> str:
    """The digest of a file's content. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(_CHUNK_BYTES)
        view = memoryview(buffer)
        while count := file.readinto(buffer):
            digest.update(view[:count])
            if progress:
                progress(count)
    return digest.hexdigest()


def sha256_files(paths: Sequence[Path], root: Path, digest: Callable[[Path], str] = sha256_file) -> str:
    """One digest for several files and their names below `root`; that of the file itself where there is one. Raises OSError."""
    if len(paths) == 1:
        return digest(paths[0])
    lines = sorted(f"{path.relative_to(root).as_posix()}\0{digest(path)}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class HashCache:
    """Digests kept in one JSON file of the state directory; losing it costs time, nothing else."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "hashes.json"

    def file(self, path: Path, progress: Progress | None = None) -> str:
        """The digest of one file. A blob of a model hub's cache is named by its digest and not read again."""
        real = path.resolve()
        if real.parent.name == "blobs" and _HUB_BLOB.fullmatch(name := real.name.removeprefix("sha256-")):
            return name
        stat = real.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._load().get(str(real))
        if isinstance(known, list) and known[:3] == stamp and len(known) == 4:
            return str(known[3])
        digest = sha256_file(real, progress)
        if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
            self._remember(str(real), [*stamp, digest])
        return digest

    def files(self, paths: Sequence[Path], root: Path, progress: Progress | None = None) -> str:
        """`sha256_files` with what is remembered."""
        return sha256_files(paths, root, lambda path: self.file(path, progress))

    def _load(self) -> dict[str, list[int | str]]:
        try:
            known = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, key: str, entry: list[int | str]) -> None:
        # A read-only or full state directory only means that the file is read again next time.
        with suppress(OSError), locked(self._path.with_suffix(".lock")):
            known = {path: value for path, value in self._load().items() if os.path.exists(path)}
            known[key] = entry
            write_bytes(self._path, json.dumps(known, separators=(",", ":")).encode())
