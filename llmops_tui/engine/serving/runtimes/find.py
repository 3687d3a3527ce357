"""Where a runtime is: the place named in the settings, the environment made for it, or the project's own. Nothing is run to find it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmops_tui.engine.serving.runtimes.table import RUNTIMES, Runtime
from llmops_tui.errors import NotFoundError
from llmops_tui.paths import Home

Source = Literal["settings", "made", "project"]


@dataclass(frozen=True)
class Found:
    """An interpreter that has the runtime. `version` as its package says, empty where it does not."""

    name: str
    python: Path
    source: Source
    version: str


def find(name: str, home: Home, places: Mapping[str, str]) -> Found | None:
    """The first of settings, HOME/runtimes and the project's own environment; `places` are the settings'. None: it is in none of them.

    Raises NotFoundError for a name that is no runtime's, or a place in the settings where there is none.
    """
    runtime = known(name)
    if place := places.get(name):
        python = python_of(Path(place).expanduser())
        if python is None:
            raise NotFoundError(f"runtimes.{name}: no Python in {place}", "name an environment (its directory) or its interpreter")
        return Found(name, python, "settings", version_of(python, runtime.distribution))
    # The link's target: what runs from an environment goes on with it when a newer one takes its place.
    made = python_of(Path(os.path.realpath(home.runtimes / name)))
    if made is not None and (version := version_of(made, runtime.distribution)):
        return Found(name, made, "made", version)
    own = Path(sys.executable)
    version = version_of(own, runtime.distribution)
    return Found(name, own, "project", version) if version else None


def known(name: str) -> Runtime:
    """Raises NotFoundError for a name that is no runtime's."""
    runtime = RUNTIMES.get(name)
    if runtime is None:
        raise NotFoundError(f"unknown runtime {name!r}", f"use one of: {', '.join(RUNTIMES)}")
    return runtime


def python_of(place: Path) -> Path | None:
    """The interpreter of an environment, or the one named itself. Never resolved: a venv's python is a link whose place counts."""
    for path in (place, place / "bin" / "python", place / "bin" / "python3"):
        if path.is_file() and os.access(path, os.X_OK):
            return path.absolute()
    return None


def version_of(python: Path, distribution: str) -> str:
    """What `pip` would say is installed beside this interpreter, from the names in its site-packages; empty where nothing is."""
    wanted = re.sub(r"[-_.]+", "_", distribution).lower()
    for packages in python.parent.parent.glob("lib*/python3*/site-packages"):
        for entry in packages.glob("*.dist-info"):
            name, _, version = entry.name.removesuffix(".dist-info").rpartition("-")
            if re.sub(r"[-_.]+", "_", name).lower() == wanted:
                return version
    return ""
