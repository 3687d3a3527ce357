"""What the viewer remembers of itself, so that it stands again as it was after a lost SSH: page, selection, filters, marks, what was read.

Only the viewer's own convenience: a file that is damaged, of another version or cannot be written costs nothing but the memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

_VERSION = 1
_LARGEST_BYTES = 1 << 20


class ViewFile:
    """`pages` holds what each page remembers, by its name; `save` writes only what changed, and never half."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.mode = "pulse"
        self.run: str | None = None
        self.pages: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, int] = {}
        self.drafts: dict[str, Any] = {}
        self._written = ""
        self._load()

    def beside(self, name: str) -> Path | None:
        """Where another file of this viewer lies; None where it remembers nothing."""
        return None if self._path is None else self._path.with_name(f"{self._path.stem}-{name}")

    def text(self) -> str:
        """The file's content."""
        told = {"version": _VERSION, "mode": self.mode, "run": self.run, "pages": self.pages, "seen": self.seen, "drafts": self.drafts}
        return json.dumps(told, separators=(",", ":"))

    def save(self) -> None:
        """Write what changed. Blocks for a small file; a disk that refuses it is tried again with the next change."""
        text = self.text()
        if self._path is None or text == self._written or len(text) > _LARGEST_BYTES:
            return
        if self._read_elsewhere():
            text = self.text()
        self._written = text
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".view-")
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(text)
                os.replace(name, self._path)
            except OSError:
                os.unlink(name)
                raise

    def _read_elsewhere(self) -> bool:
        """Whether another console of the same home read further: what is read there is read here too."""
        there = {name: number for name, number in _table(self._raw().get("seen")).items() if isinstance(number, int)}
        further = {name: number for name, number in there.items() if number > self.seen.get(name, -1)}
        self.seen.update(further)
        return bool(further)

    def _raw(self) -> dict[str, Any]:
        try:
            raw = json.loads(self._path.read_text()) if self._path is not None else None
        except (OSError, ValueError):
            return {}
        return raw if isinstance(raw, dict) and raw.get("version") == _VERSION else {}

    def _load(self) -> None:
        raw = self._raw()
        if not raw:
            return
        self.mode = raw["mode"] if isinstance(raw.get("mode"), str) else self.mode
        self.run = raw["run"] if isinstance(raw.get("run"), str) else None
        self.pages = {name: page for name, page in _table(raw.get("pages")).items() if isinstance(page, dict)}
        self.seen = {name: number for name, number in _table(raw.get("seen")).items() if isinstance(number, int)}
        self.drafts = _table(raw.get("drafts"))
        self._written = self.text()


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
