"""One quantized form of a run: where its files lie, and its card once it is made, measured and checked.

`artifacts/<form>/` holds the GGUF file, or the directory `model`, and beside it `candidate.json`, written last: a form that has one is
done, and an attempt that goes on takes it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import read_json, write_json
from llmops_tui.data.hashing import sha256_files
from llmops_tui.data.model_files import recognise
from llmops_tui.data.rundir import RunDir
from llmops_tui.specs.answers import ModelCheck
from llmops_tui.specs.quantize_types import GGUF_TYPES, slug

Card = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """`name`: under which it is registered."""

    run: RunDir
    word: str
    name: str

    @property
    def directory(self) -> Path:
        return self.run.artifacts / slug(self.word)

    @property
    def path(self) -> Path:
        """Its final place: what is not whole has another name."""
        return self.directory / (f"{self.name}.gguf" if self.word in GGUF_TYPES else "model")

    @property
    def staging(self) -> Path:
        return self.path.with_name(f".{self.path.name}.tmp")

    def finished(self) -> tuple[Card, list[ModelCheck]] | None:
        """Card and checks of an earlier attempt; None where it did not come so far or the files are not as they were."""
        try:
            value = read_json(self.directory / "candidate.json")
        except (OSError, ValueError):
            return None
        if not isinstance(value, dict) or recognise(self.path).bytes != value.get("card", {}).get("bytes"):
            return None
        return value["card"], value["checks"]

    def finish(self, card: Card, checks: list[ModelCheck]) -> None:
        """Durable when this returns."""
        write_json(self.directory / "candidate.json", {"card": card, "checks": checks})

    def digest(self) -> str:
        """As its version will have it."""
        found = recognise(self.path)
        return sha256_files(found.identity(), found.path if found.path.is_dir() else found.path.parent)
