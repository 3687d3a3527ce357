"""Names and references as a person types them."""

from __future__ import annotations

import os
import re

from llmops_tui.errors import UsageError

_LONGEST = 40


def name_from_path(path: str) -> str:
    """A registered name made from a file's or directory's own. Raises UsageError when nothing is left of it."""
    stem, suffix = os.path.splitext(os.path.basename(path.rstrip(os.sep)))
    if suffix.lower() not in (".jsonl", ".json", ".csv", ".parquet", ".gguf", ".txt"):
        stem += suffix
    name = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:_LONGEST]
    if not name:
        raise UsageError(f"no name can be made of {path!r}", "give one with --name")
    return name


def reference_from(text: str) -> str:
    """A registered name as it is; a path made absolute, because the engine stands in another directory."""
    path = os.path.expanduser(text)
    return os.path.abspath(path) if path.startswith((".", os.sep)) or (os.sep in path and os.path.exists(path)) else text
