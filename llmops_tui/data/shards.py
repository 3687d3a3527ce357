"""The files a dataset consists of: a file is its own, a directory's lie in it in the order their rows are read. Standard library only.

Three kinds of directories: what `datasets.save_to_disk` writes (Arrow shards named by `state.json`), several of them under
`dataset_dict.json`, and plain shards of one kind (Parquet, JSON lines, …) directly inside or in `data/`, as hubs lay them out.
Where a directory holds several splits, `train` is meant; another is named by its own path (`corpus/test`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from llmops_tui.errors import NotFoundError, UsageError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")

_STATE, _SPLITS = "state.json", "dataset_dict.json"
# Descriptions that lie beside the rows and are none.
_ABOUT = {_STATE, _SPLITS, "dataset_info.json", "dataset_infos.json", "croissant.json", "metadata.json"}
_NOTICE = re.compile(r"(readme|licen[sc]e|notice|requirements)", re.IGNORECASE)
# train-00000-of-00002.parquet, train.jsonl, test_0.csv: the split is what stands before the first digit or the end.
_SPLIT = re.compile(r"(train|training|test|validation|valid|val|dev|eval)(?=[-_.\d]|$)", re.IGNORECASE)


def file_kind(path: Path) -> str:
    """The suffix that says how a file is read, without `.gz`. Raises UsageError for one we do not read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = bool(suffixes) and suffixes[-1] == ".gz"
    if zipped:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in SUFFIXES or (zipped and suffixes[-1] in (".parquet", ".arrow")):
        raise UsageError(f"{path}: not a dataset file this version reads", f"use one of: {' '.join(SUFFIXES)} (text ones also with .gz)")
    return suffixes[-1]


def files_of(path: Path) -> list[Path]:
    """The files with the rows of `path`, in reading order. Raises NotFoundError or UsageError where there are none, or too many kinds."""
    if not path.is_dir():
        return [path]
    try:
        if (path / _SPLITS).is_file():
            return files_of(_chosen_split(path))
        if (path / _STATE).is_file():
            return _saved(path)
        found = _shards(path)
        if not found and (path / "data").is_dir():
            found = _shards(path / "data")
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "check the directory's permissions") from None
    if not found:
        raise UsageError(f"{path}: no dataset files lie in this directory", f"name a directory or a file with rows: {' '.join(SUFFIXES)}")
    kinds = {file_kind(file): file.name for file in reversed(found)}
    if len(kinds) > 1:
        raise UsageError(f"{path}: holds files of several kinds ({', '.join(sorted(kinds.values()))})", "name one of the files")
    return found


def _chosen_split(path: Path) -> Path:
    splits = _json_names(path / _SPLITS, "splits")
    name = "train" if "train" in splits else splits[0] if len(splits) == 1 else ""
    if not name:
        raise UsageError(f"{path}: holds the splits {', '.join(splits) or 'none'}", "name one of them, as DIRECTORY/SPLIT")
    if not (path / name).is_dir():
        raise NotFoundError(f"{path}: the split {name} is not there", "save or copy the dataset again")
    return path / name


def _saved(path: Path) -> list[Path]:
    """Arrow shards in the order `state.json` gives them; one that is missing makes the whole unreadable."""
    names = _json_names(path / _STATE, "_data_files")
    for name in names:
        if not (path / name).is_file():
            raise NotFoundError(f"{path}: {_STATE} names {name}, which is not there", "save or copy the dataset again")
    return [path / name for name in names]


def _json_names(path: Path, key: str) -> list[str]:
    """Plain file names of a list in a description: texts, or objects with a `filename`."""
    try:
        found = json.loads(path.read_bytes())[key]
        names = [entry["filename"] if isinstance(entry, dict) else entry for entry in found]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{path}: does not say what lies beside it", "save or copy the dataset again") from None
    if not all(isinstance(name, str) and name and name == Path(name).name for name in names):
        raise UsageError(f"{path}: names a file outside its directory", "save the dataset again")
    return names


def _shards(path: Path) -> list[Path]:
    files = [
        file
        for file in sorted(path.iterdir(), key=lambda file: file.name)
        if file.is_file() and not file.name.startswith(".") and file.name not in _ABOUT and _is_readable(file)
    ]
    # Texts beside rows tell about them (a README, a licence).
    files = [file for file in files if file_kind(file) != ".txt"] or [file for file in files if not _NOTICE.match(file.name)]
    splits: dict[str, list[Path]] = {}
    for file in files:
        match = _SPLIT.match(file.name)
        splits.setdefault(match[1].lower() if match else "", []).append(file)
    if len(splits) < 2:
        return files
    for name in ("train", "training"):
        if name in splits:
            return splits[name]
    if file_kind(files[0]) == ".txt":
        return files  # a text may well be called eval.txt
    named = ", ".join(sorted(name or "others" for name in splits))
    raise UsageError(f"{path}: holds the splits {named}", "name one of the files")


def _is_readable(file: Path) -> bool:
    try:
        file_kind(file)
    except UsageError:
        return False
    return True
