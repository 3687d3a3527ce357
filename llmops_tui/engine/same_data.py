"""Whether what a run reads is still what it was submitted with: another attempt on other rows would be another run."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmops_tui.data.datasets import content_digest
from llmops_tui.data.hashing import sha256_file
from llmops_tui.data.models import model_digest
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home

_DATASETS = ("dataset", "eval_dataset", "probe")
_MODELS = ("model", "teacher")


class _Part(NamedTuple):
    """A file or directory as it was: its record, and how its content is told from another."""

    noted: Mapping[str, Any]
    digest: Callable[[Path], str]


def changed_data(record: Mapping[str, Any], home: Home, *, by_content: bool = False) -> str:
    """What is gone or differs, in words; empty when everything is as it was. Blocks: a file whose size or time differs is read, or
    any (`by_content`: on another box the time of a file says nothing).

    `record` is the content of spec.json, whose `prepared` names path and SHA-256 of each data set (learnt, held out, rehearsed,
    probed), of the model and the teacher, and of the user's reward functions.
    """
    prepared = record.get("prepared")
    if not isinstance(prepared, dict):
        return ""
    return "; ".join(problem for part in _parts(prepared, home) if (problem := _changed(part, by_content)))


def _parts(prepared: Mapping[str, Any], home: Home) -> Iterator[_Part]:
    def of_rows(path: Path) -> str:
        return content_digest(home, path)

    def of_model(path: Path) -> str:
        return model_digest(home, path)

    rehearsed = prepared.get("rehearsal")
    for noted in [*(prepared.get(name) for name in _DATASETS), *(rehearsed if isinstance(rehearsed, list) else [])]:
        if isinstance(noted, dict):
            yield _Part(noted, of_rows)
    for noted in (prepared.get(name) for name in _MODELS):
        if isinstance(noted, dict):
            yield _Part(noted, of_model)
            yield _Part({"path": noted.get("base_path"), "sha256": noted.get("base_sha256")}, of_model)
    rewards = prepared.get("rewards")
    for noted in rewards if isinstance(rewards, list) else []:
        if isinstance(noted, dict):
            yield _Part(noted, sha256_file)


def _changed(part: _Part, by_content: bool) -> str:
    noted = part.noted
    digest, path = noted.get("sha256"), Path(str(noted.get("path") or ""))
    if not digest or not path.name:
        return ""  # nobody noted what it was
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return f"{path} is no file any more"
        as_it_was = (status.st_size, status.st_mtime_ns) == (noted.get("bytes"), noted.get("mtime_ns"))
        if stat.S_ISREG(status.st_mode) and as_it_was and not by_content:
            return ""
        now = part.digest(path)
    except (OSError, LlmopsError) as error:
        return f"{path} cannot be read any more: {getattr(error, 'strerror', None) or error}"
    return "" if now == digest else f"{path} has changed since the run was submitted (SHA-256 {now[:12]}, was {str(digest)[:12]})"
