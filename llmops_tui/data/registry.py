"""Names and versions on disk: `<root>/<name>/v<N>.json`, one file a version, added under a lock and never half-written.

Models and datasets share it. A version is found again by its content's digest: adding the same content twice gives the
same version. `aliases.json` beside the versions maps an alias to a version number.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import read_json, write_json
from llmops_tui.data.hashing import locked
from llmops_tui.errors import InsufficientResourcesError, LlmopsError, NotFoundError, UsageError

Record = dict[str, Any]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_VERSION_FILE = re.compile(r"v([1-9]\d*)\.json")
_REFERENCE = re.compile(r"([a-z0-9][a-z0-9._-]{0,39})(?:@(?:v([1-9]\d*)|([a-z][a-z0-9_-]*)))?")


@dataclass(frozen=True)
class Reference:
    """`name`, `name@v3` or `name@alias`."""

    name: str
    version: int | None
    alias: str


def parse_reference(text: str) -> Reference | None:
    """None for what cannot be a registered name: a path, or a name with capitals or slashes."""
    match = _REFERENCE.fullmatch(text)
    return Reference(match[1], int(match[2]) if match[2] else None, match[3] or "") if match else None


def is_path_like(text: str) -> bool:
    """Whether the user plainly meant a path: `./x`, `../x`, `~/x`, `/x`."""
    return text.startswith(("/", "./", "../", "~")) or text in (".", "..")


def check_name(name: str) -> str:
    """Raises UsageError for a name that fits no path and no reference."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a model or dataset", "use 1 to 40 of a-z 0-9 . _ - and begin with a letter or digit")
    return name


def name_from(text: str, otherwise: str) -> str:
    """A valid name made from free text, such as a file's stem."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:40] or otherwise


def names(root: Path) -> list[str]:
    """Every registered name, sorted."""
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and _NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def versions(root: Path, name: str) -> list[Record]:
    """Every version of a name, oldest first; empty where the name is unknown."""
    try:
        files = os.listdir(root / name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = sorted(int(match[1]) for file in files if (match := _VERSION_FILE.fullmatch(file)))
    return [_read(root / name / f"v{number}.json", number) for number in numbers]


def aliases(root: Path, name: str) -> dict[str, int]:
    """Alias → version number."""
    known = _read_object(root / name / "aliases.json")
    return {alias: number for alias, number in known.items() if isinstance(number, int)}


def find(root: Path, reference: Reference, noun: str) -> Record:
    """The version meant; the newest where none is named. Raises NotFoundError naming what there is instead."""
    known = versions(root, reference.name)
    listing = f"see `llmops-tui {noun}s list`"
    if not known:
        raise NotFoundError(f"no {noun} is called {reference.name!r}", listing)
    number = reference.version
    if reference.alias:
        number = aliases(root, reference.name).get(reference.alias)
        if number is None:
            raise NotFoundError(f"{noun} {reference.name} has no alias {reference.alias!r}", listing)
    if number is None:
        return known[-1]
    for record in known:
        if record["version"] == number:
            return record
    there = ", ".join(f"v{record['version']}" for record in known)
    raise NotFoundError(f"{noun} {reference.name} has no version v{number}", f"there is {there}")


def add(root: Path, name: str, sha256: str, make: Callable[[int], Record], *, follow: bool = False) -> Record:
    """The version with this content; a new one from `make(number)` where there is none. Durable when this returns.

    Where the known version's files have gone and the same content lies elsewhere now, the version follows it; with `follow` always.
    Raises UsageError for a bad name, and what `writing` raises with nothing changed.
    """
    check_name(name)
    with writing(root), locked(root / name / ".lock"):
        known = versions(root, name)
        for record in known:
            if record["sha256"] == sha256:
                path = make(record["version"])["path"]
                if record["path"] != path and (follow or not os.path.exists(record["path"])):
                    moved = {**record, "path": path}
                    write_json(root / name / f"v{record['version']}.json", moved)
                    return moved
                return record
        number = known[-1]["version"] + 1 if known else 1
        record = {"schema": 1, **make(number), "version": number, "sha256": sha256}
        write_json(root / name / f"v{number}.json", record)
        return record


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """A full disk becomes InsufficientResourcesError and a read-only place LlmopsError, each with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientResourcesError(f"{root}: the disk is full", "free some space, then try again") from error
        raise LlmopsError(f"{root}: cannot be written: {error.strerror}", "check its permissions, or choose another --home") from error


def _read(path: Path, number: int) -> Record:
    record = _read_object(path)
    if not isinstance(record.get("path"), str) or not isinstance(record.get("sha256"), str):
        raise LlmopsError(f"{path}: the record is damaged", "restore it from a copy, or remove the file to forget this version")
    return {**record, "version": number}


def _read_object(path: Path) -> Record:
    try:
        value = read_json(path)
    except ValueError:
        value = []
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise LlmopsError(f"{path}: the record is damaged", "restore it from a copy, or remove the file to forget this version")
    return value
