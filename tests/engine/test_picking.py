"""One of several quantized forms is picked: it becomes a version with its card, the others stay or go, and only what may go goes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data import models, registry
from llmops_tui.data.rundir import RunDir, create_run
from llmops_tui.engine.on_behalf import OnBehalf
from llmops_tui.engine.picking import pick
from llmops_tui.engine.scheduler import Scheduler
from llmops_tui.errors import ConflictError, LlmopsError, NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.catalog_files import write_gguf
from tests.engine.scheduling import engine


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", explicit=True)


def ended_run(home: Home, *words: str, state: str = "succeeded", kind: str = "quantize") -> RunDir:
    """A run as its job and the engine left it."""
    wish: dict[str, Any] = {"kind": "quantize", "model": "./model", "types": list(words)} if kind == "quantize" else {"argv": ["true"]}
    spec = parse_spec({**wish, "kind": kind})
    record = {"schema": 1, "spec": spec.model_dump(mode="json"), "prepared": {}, "owner": "me", "uid": 0, "submitted_at": time.time()}
    run = create_run(home.runs, kind, "tiny", record)
    lines = []
    for number, word in enumerate(words):
        path = run.artifacts / word.lower() / f"tiny-{word.lower()}.gguf"
        path.parent.mkdir(parents=True)
        write_gguf(path, seed=number)
        (path.parent / "candidate.json").write_text("{}")
        lines.append(
            {
                "type": "artifact", "artifact": "candidate", "attempt": 1, "name": f"tiny-{word.lower()}", "format": "gguf",
                "path": str(path.relative_to(run.path)), "base": "/models/tiny", "licence": "mit", "checks": [],
                "card": {"type": word, "perplexity": 20.5 + number, "bytes": path.stat().st_size},
                "lineage": {"how": f"quantize to {word}", "parents": [{"role": "model", "path": "/models/tiny"}]},
            }
        )  # fmt: skip
    run.events.write_text("".join(json.dumps({"t": 1.0, "seq": n, **line}) + "\n" for n, line in enumerate(lines)))
    run.append_journal({"t": time.time(), "entry": "state", "state": state, "attempt": 1, "reason": "", "data": {"ended_at": time.time()}})
    return run


async def picked(home: Home, scheduler: Scheduler, run: RunDir, word: str, *, remove_others: bool = False) -> ModelInfo:
    return await pick(home, scheduler.table, OnBehalf(home, Settings()), run.id, word, remove_others=remove_others)


async def test_what_is_picked_is_a_version_with_its_card_and_lineage_and_the_others_stay(home: Home) -> None:
    run = ended_run(home, "F16", "Q8_0")
    async with engine(home) as scheduler:
        assert models.list_models(home) == []
        info = await picked(home, scheduler, run, "Q8_0")
        assert (info["name"], info["version"], info["licence"], info["run"]) == ("tiny-q8_0", 1, "mit", run.id)
        assert info["card"]["perplexity"] == 21.5
        (record,) = registry.versions(home.models, "tiny-q8_0")
        assert record["lineage"]["how"] == "quantize to Q8_0"
        assert (await picked(home, scheduler, run, "Q8_0"))["version"] == 1
        assert (await picked(home, scheduler, run, "F16"))["name"] == "tiny-f16"
        entries = [entry for entry in scheduler.detail(run.id)["journal"] if entry["entry"] == "pick"]
        assert [entry["data"]["model"] for entry in entries] == ["tiny-q8_0@v1", "tiny-q8_0@v1", "tiny-f16@v1"]


async def test_the_others_go_where_that_is_asked_for_but_never_one_that_has_a_name(home: Home) -> None:
    run = ended_run(home, "F16", "Q8_0", "Q4_K_M")
    async with engine(home) as scheduler:
        await picked(home, scheduler, run, "F16")
        await picked(home, scheduler, run, "Q4_K_M", remove_others=True)
        assert sorted(path.name for path in run.artifacts.iterdir()) == ["f16", "q4_k_m"]
        entry = scheduler.detail(run.id)["journal"][-1]
        assert entry["data"]["removed"] == ["Q8_0"]
        assert "the files of Q8_0 were removed" in entry["reason"]
        with pytest.raises(ConflictError, match="the files of Q8_0 have gone"):
            await picked(home, scheduler, run, "Q8_0")


async def test_an_event_that_names_another_place_removes_nothing_there(home: Home, tmp_path: Path) -> None:
    run = ended_run(home, "F16", "Q8_0")
    victim = tmp_path / "victim"
    (victim / "inner").mkdir(parents=True)
    for path in ("../../../victim/inner", "artifacts", "events.jsonl", str(victim / "inner")):
        event = {"type": "artifact", "artifact": "candidate", "attempt": 1, "path": path, "card": {"type": "Q6_K"}}
        with open(run.events, "a") as file:
            file.write(json.dumps({"t": 2.0, "seq": 9, **event}) + "\n")
        async with engine(home) as scheduler:
            await picked(home, scheduler, run, "F16", remove_others=True)
        assert (victim / "inner").is_dir()
        assert run.events.exists()
        assert run.artifacts.is_dir()


@pytest.mark.parametrize(
    ("kind", "state", "word", "error", "words"),
    [
        ("quantize", "succeeded", "fp8", NotFoundError, "made no fp8"),
        ("quantize", "failed", "F16", ConflictError, "has not succeeded: failed"),
        ("command", "succeeded", "F16", ConflictError, "it has no forms"),
    ],
)
async def test_what_cannot_be_picked_is_said(home: Home, kind: str, state: str, word: str, error: type[LlmopsError], words: str) -> None:
    run = ended_run(home, "F16", state=state, kind=kind)
    async with engine(home) as scheduler:
        with pytest.raises(error, match=words) as caught:
            await picked(home, scheduler, run, word)
        assert caught.value.next_step
    assert models.list_models(home) == []


async def test_no_such_run(home: Home) -> None:
    async with engine(home) as scheduler:
        with pytest.raises(NotFoundError):
            await pick(home, scheduler.table, OnBehalf(home, Settings()), "quantize-none-0001", "F16", remove_others=False)
