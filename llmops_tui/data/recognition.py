"""What lies at a path, as a ModelInfo, remembered until a file there changes: a second look at 200 models costs their stats."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import cast

from llmops_tui.data.durable import write_bytes
from llmops_tui.data.hashing import locked
from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.specs.answers import ModelInfo


def describe(found: ModelFiles) -> ModelInfo:
    """The part of a ModelInfo that the files tell; name, version, source and lineage are the caller's."""
    return ModelInfo(
        name=found.path.name, version=None, aliases=[], format=found.format, path=str(found.path), bytes=found.bytes,
        complete=found.complete, source="", architecture=found.architecture, parameters=found.parameters, dtype=found.dtype,
        context_length=found.context_length, licence=found.licence, sha256="", base=found.base, run="", created_at=None,
        problems=found.problems, checks=[], card={},
    )  # fmt: skip


class Recogniser:
    """`look(path)` with a memory in `directory`; call `save()` after a round of looks."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "recognised.json"
        self._known = self._load()
        self._seen: dict[str, tuple[str, ModelInfo]] = {}

    def look(self, path: Path) -> ModelInfo:
        """The model at `path`; `format` is empty where there is none. The answer is the caller's to change."""
        stamp = _stamp(path)
        known = self._known.get(str(path))
        info = known[1] if known and known[0] == stamp else describe(recognise(path))
        self._seen[str(path)] = (stamp, info)
        return cast(ModelInfo, {**info, "problems": list(info["problems"])})

    def save(self) -> None:
        """Remember this round. A state directory that cannot be written only means that files are read again."""
        if any(self._known.get(key) != value for key, value in self._seen.items()):
            with suppress(OSError), locked(self._path.with_suffix(".lock")):
                merged = {key: value for key, value in {**self._load(), **self._seen}.items() if os.path.exists(key)}
                write_bytes(self._path, json.dumps(merged, separators=(",", ":")).encode())

    def _load(self) -> dict[str, tuple[str, ModelInfo]]:
        try:
            known = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {key: (value[0], value[1]) for key, value in known.items() if _is_entry(value)}


def _is_entry(value: object) -> bool:
    """Whether this version wrote it: another one's ModelInfo may have other keys."""
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict) and value[1].keys() == ModelInfo.__annotations__.keys()
    )


def _stamp(path: Path) -> str:
    """Changes with any name, size or time in the directory; for a GGUF file its own, or its directory's where it has shards."""
    lines = []
    with suppress(OSError):
        if path.is_file() and "-of-" not in path.name:
            stat = path.stat()
            return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        for entry in os.scandir(path if path.is_dir() else path.parent):
            with suppress(OSError):  # a dangling link has no target to ask
                stat = entry.stat()
                lines.append(f"{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n")
                continue
            lines.append(f"{entry.name}\0gone\n")
    return blake2b("".join(sorted(lines)).encode(errors="surrogateescape"), digest_size=12).hexdigest()
