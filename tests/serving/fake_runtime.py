"""An environment whose Python is no Python: it starts fake_server.py where llama.cpp's server is asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_SERVER = Path(__file__).with_name("fake_server.py")


class FakeRuntime:
    """`place` is what the settings name it by."""

    def __init__(self, place: Path, distribution: str = "xllamacpp", version: str = "1.0", *, gpu: bool = False) -> None:
        self.place = place
        (place / "bin").mkdir(parents=True)
        python = place / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -I {_SERVER} {place} "$@"\n')
        python.chmod(0o755)
        (place / "lib" / "python3.11" / "site-packages" / f"{distribution}-{version}.dist-info").mkdir(parents=True)
        self._moods: dict[str, dict[str, Any]] = {}
        if gpu:
            (place / "gpu").touch()

    def mood(self, model: str, **mood: Any) -> None:
        """How servers of a model (its file's stem) behave from now on; nothing: well."""
        self._moods[model] = mood
        beside = self.place / "moods.new"
        beside.write_text(json.dumps(self._moods))
        beside.replace(self.place / "moods.json")

    def starts(self, model: str = "") -> list[dict[str, Any]]:
        """What each server was started with, oldest first."""
        try:
            lines = (self.place / "starts.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [found for line in lines if (found := json.loads(line)) and (not model or found["model"] == model)]
