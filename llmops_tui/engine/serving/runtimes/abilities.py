"""Whether each runtime's build can use a GPU, asked once for each installed version. For any thread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from llmops_tui.engine.serving.runtimes.check import Check, check
from llmops_tui.engine.serving.runtimes.find import Found


class Abilities:
    """Asking imports whole engines: the answer holds until the package's version or its place changes."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, bool], Check] = {}
        self._lock = Lock()

    def use_gpu(self, runtimes: Mapping[str, Mapping[str, Any]], *, box_has_gpu: bool) -> dict[str, bool]:
        """By name, for `serving_facts["runtimes"]`. Without a GPU nobody is asked."""
        if not box_has_gpu:
            return dict.fromkeys(runtimes, False)
        return {name: self.of(_found(name, place), box_has_gpu=True).gpu for name, place in runtimes.items()}

    def known(self, found: Found, *, box_has_gpu: bool) -> Check | None:
        """What it said when it was asked; None where it never was. Nothing is run."""
        return self._known.get((found.name, str(found.python), found.version, box_has_gpu))

    def of(self, found: Found, *, box_has_gpu: bool, afresh: bool = False) -> Check:
        """One runtime's. A failed look is never remembered."""
        key = (found.name, str(found.python), found.version, box_has_gpu)
        with self._lock:
            if not afresh and (known := self._known.get(key)) is not None:
                return known
            seen = check(found, box_has_gpu=box_has_gpu)
            if not seen.problem:
                self._known[key] = seen
            return seen


def _found(name: str, place: Mapping[str, Any]) -> Found:
    return Found(name, Path(str(place["python"])), "made", str(place["version"]))
