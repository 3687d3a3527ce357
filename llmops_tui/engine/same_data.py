"""Whether the rows of a run are still the ones it was submitted with: another attempt on other rows would be another run."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_tui.data.datasets import content_digest
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home

_DATASETS = ("dataset", "eval_dataset")


def changed_data(record: Mapping[str, Any], home: Home) -> str:
    """What is gone or differs, in words; empty when everything is as it was. Blocks: a file whose size or time differs is read.

    `record` is the content of spec.json, whose `prepared` names path, size, time and SHA-256 of each data set.
    """
    prepared = record.get("prepared")
    found = (prepared.get(name) for name in _DATASETS) if isinstance(prepared, dict) else ()
    return "; ".join(problem for one in found if isinstance(one, dict) and (problem := _changed(one, home)))


def _changed(dataset: Mapping[str, Any], home: Home) -> str:
    digest, path = dataset.get("sha256"), Path(str(dataset.get("path") or ""))
    if not digest or not path.name:
        return ""  # nobody noted what it was
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return f"{path} is no file any more"
        if stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (dataset.get("bytes"), dataset.get("mtime_ns")):
            return ""
        now = content_digest(home, path)
    except (OSError, LlmopsError) as error:
        return f"{path} cannot be read any more: {getattr(error, 'strerror', None) or error}"
    return "" if now == digest else f"{path} has changed since the run was submitted (SHA-256 {now[:12]}, was {str(digest)[:12]})"
