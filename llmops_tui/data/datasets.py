"""The catalog of datasets: versions registered after every row was checked. The rows stay where they lie, unless copied in."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from llmops_tui.data import registry
from llmops_tui.data.durable import sync_directory
from llmops_tui.data.hashing import HashCache, sha256_files
from llmops_tui.data.scan import scan
from llmops_tui.data.shards import file_kind, files_of
from llmops_tui.errors import LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import DatasetInfo

_COPY_BYTES = 4 << 20


class Located(NamedTuple):
    """Where a dataset lies. `info` is its registered version, None for a plain file."""

    path: Path
    format: str
    info: DatasetInfo | None


def list_datasets(home: Home) -> list[DatasetInfo]:
    """Registered versions, newest of each name first."""
    return [_info(record) for name in registry.names(home.datasets) for record in reversed(registry.versions(home.datasets, name))]


def get_dataset(home: Home, ref: str, cwd: Path | None = None) -> DatasetInfo:
    """One dataset by `name`, `name@v3`, `name@alias` or the path of a file or directory, which is read through and checked.

    Raises NotFoundError; UsageError for a file with bad rows or one that changed since it was registered.
    """
    located = resolve(home, ref, cwd or Path.cwd())
    if located.info:
        return located.info
    found = scan(located.path)
    found.require_good()
    return DatasetInfo(
        name=located.path.name, version=None, path=str(located.path), format=found.format, rows=found.rows, bytes=found.size_bytes,
        sha256=content_digest(home, located.path), licence="", source="path", created_at=None,
    )  # fmt: skip


def content_digest(home: Home, path: Path) -> str:
    """SHA-256 of what the rows are read from: a file, or a directory's files and their names. Raises what `files_of` raises, OSError."""
    return HashCache(home.cache).files(files_of(path), path)


def resolve(home: Home, ref: str, cwd: Path) -> Located:
    """The file meant. A registered name comes before a file of that name: write `./name` for the file.

    Raises NotFoundError; UsageError when a registered version's content is no longer what was registered.
    """
    reference = None if registry.is_path_like(ref) else registry.parse_reference(ref)
    if reference and registry.versions(home.datasets, reference.name):
        info = _info(registry.find(home.datasets, reference, "dataset"))
        return Located(_check_content(home, info), info["format"], info)
    path = Path(os.path.abspath(cwd / Path(ref).expanduser()))
    if not path.exists():
        if reference and (reference.version or reference.alias):
            registry.find(home.datasets, reference, "dataset")
        raise NotFoundError(f"dataset {ref!r}: no registered name, and no file at {path}", "see `llmops-tui datasets list`")
    return Located(path, "auto", None)


def import_dataset(
    home: Home, path: Path, name: str = "", format: str = "auto", *, copy: bool = False, licence: str = "", cwd: Path | None = None
) -> DatasetInfo:
    """Check every row and register the file or directory under a name; the same content is the same version.

    `copy` keeps the rows in the state directory. Raises NotFoundError; UsageError with the first 20 bad rows in `fields`;
    InsufficientResourcesError (full disk) with nothing registered.
    """
    source = Path(os.path.abspath((cwd or Path.cwd()) / path.expanduser()))
    name = registry.check_name(name or registry.name_from(source.name.split(".")[0], "dataset"))
    found = scan(source, format)
    found.require_good()
    sha256 = content_digest(home, source)
    lies_at = _copy_in(source, home.datasets / name, sha256) if copy else source

    def make(number: int) -> registry.Record:
        return dict(
            DatasetInfo(
                name=name, version=number, path=str(lies_at), format=found.format, rows=found.rows, bytes=found.size_bytes, sha256=sha256,
                licence=licence, source=str(source), created_at=time.time(),
            )
        )  # fmt: skip

    return _info(registry.add(home.datasets, name, sha256, make, follow=copy))


def unchanged(prepared: Mapping[str, Any]) -> str | None:
    """Why the data a run was submitted with is not there any more; None when it is. For the job, at its start.

    Same size and time stamp count as the same content of a file; with another stamp, and for a directory, the content's digest
    decides. A part without a digest (a spec that went through no preflight) is not checked.
    """
    for part in ("dataset", "eval_dataset"):
        wanted = prepared.get(part)
        if not wanted or not wanted.get("sha256"):
            continue
        path = Path(wanted["path"])
        try:
            if _is_stamped(path, wanted) or sha256_files(files_of(path), path) == wanted["sha256"]:
                continue
        except OSError as error:
            return f"{path}: cannot be read any more: {error.strerror}"
        except LlmopsError as error:
            return error.message
        return f"{path}: the rows changed since the run was submitted"
    return None


def _is_stamped(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether a file looks untouched. A directory's one size and time could be the same after one of its files was exchanged."""
    stat = path.stat()
    return not path.is_dir() and (stat.st_size, stat.st_mtime_ns) == (wanted["bytes"], wanted["mtime_ns"])


def _check_content(home: Home, info: DatasetInfo) -> Path:
    path = Path(info["path"])
    again = "import it again for a new version"
    try:
        digest = content_digest(home, path)
    except OSError as error:
        raise NotFoundError(f"dataset {info['name']}@v{info['version']}: {path}: {error.strerror}", again) from None
    if digest != info["sha256"]:
        raise UsageError(f"dataset {info['name']}@v{info['version']}: {path} changed since it was registered", again)
    return path


def _copy_in(source: Path, directory: Path, sha256: str) -> Path:
    """Copy under a name made of the content; durable, and never seen half-written. A directory's files keep their names."""
    files = files_of(source)
    suffix = "" if source.is_dir() else "".join(source.suffixes[-2:]) if source.suffix.lower() == ".gz" else file_kind(source)
    target = directory / f"{sha256[:16]}{suffix}"
    if target.exists():
        return target
    temporary = directory / f".{sha256[:16]}.{os.getpid()}.{threading.get_ident()}.tmp"
    with registry.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            copies = [temporary / file.relative_to(source) for file in files] if source.is_dir() else [temporary]
            for file, copy in zip(files, copies, strict=True):
                copy.parent.mkdir(parents=True, exist_ok=True)
                _copy_file(file, copy)
            if sha256_files(copies, temporary) != sha256:
                raise UsageError(f"{source}: changed while it was copied", "wait until it is written, then try again")
            os.replace(temporary, target)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)
        sync_directory(directory)
    return target


def _copy_file(source: Path, target: Path) -> None:
    with open(source, "rb") as original, open(target, "wb") as copy:
        shutil.copyfileobj(original, copy, _COPY_BYTES)
        copy.flush()
        os.fsync(copy.fileno())
    sync_directory(target.parent)


def _info(record: registry.Record) -> DatasetInfo:
    return cast(DatasetInfo, {key: record.get(key) for key in DatasetInfo.__annotations__})
