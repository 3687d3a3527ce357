"""A job run within the tests' process: prepared as the engine would, told from its events, the process left as it was."""

from __future__ import annotations

import importlib
import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.preflight import prepare
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.engine.tiny_model import read_events


@dataclass(frozen=True)
class Ended:
    """What a job left."""

    code: int
    run: Path
    events: list[dict[str, Any]]

    @property
    def end(self) -> dict[str, Any]:
        assert self.events[-1]["type"] == "end"
        return self.events[-1]

    @property
    def summary(self) -> dict[str, Any]:
        assert isinstance(self.end["summary"], dict)
        return self.end["summary"]

    def models(self) -> list[dict[str, Any]]:
        """The artifact events that name models."""
        return [event for event in self.events if event["type"] == "artifact" and event["artifact"] == "model"]


def run_in_process(monkeypatch: pytest.MonkeyPatch, place: Path, raw: Mapping[str, Any], number: int = 1) -> Ended:
    """Prepare the wish in `place` (relative paths start there) and run its job to the end."""
    import torch

    from llmops_tui.engine.jobs.outcome import run_job

    spec = parse_spec({"threads": 1, "resources": {"gpus": 0}, **raw})
    home = Home(place / "home", explicit=True)
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}})
    prepared = prepare(spec, home, settings, place)
    run = home.runs / f"{spec.kind}-tiny-{number:04d}"
    (run / "artifacts").mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps({"id": run.name, "schema": 1, "spec": spec.model_dump(), "prepared": prepared}))
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(run))
    monkeypatch.setenv("LLMOPS_ATTEMPT", "1")
    module = importlib.import_module(f"llmops_tui.engine.jobs.{spec.kind}")
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    try:
        code = run_job(getattr(module, spec.kind), module.OUT_OF_MEMORY_ADVICE)
    finally:
        torch.set_num_threads(threads)
        signal.signal(signal.SIGTERM, handler)
    return Ended(code, run, read_events(run))
