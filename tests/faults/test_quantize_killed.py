"""`kill -9` of a quantize job while a form is measured: what has its final name is whole, and the next attempt goes on from it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_tui.data.model_files import recognise
from llmops_tui.engine.preflight import prepare
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.engine.tiny_model import write_rows
from tests.engine.wide_model import save_wide
from tests.waiting import wait_for

_LONG = 240.0


def told(run: Path) -> str:
    events = run / "events.jsonl"
    return events.read_text() if events.exists() else ""


def start(run: Path, attempt: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": str(attempt), "HF_HUB_OFFLINE": "1"}
    with open(run / "stdout.log", "ab") as log:
        return subprocess.Popen([sys.executable, "-m", "llmops_tui.engine.jobs.quantize"], env=environment, stdout=log, stderr=log)


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
@pytest.mark.timeout(600)
def test_a_killed_job_leaves_no_half_file_and_its_next_attempt_keeps_what_was_done(tmp_path: Path) -> None:
    save_wide(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    measure = {"dataset": "rows.jsonl", "rows": 4, "max_length": 64, "prompts": 1, "answer_tokens": 8}
    spec = parse_spec({"kind": "quantize", "model": "./model", "types": "F16,Q8_0", "measure": measure, "output": "tiny", "threads": 1})
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}})
    prepared = prepare(spec, Home(tmp_path / "home", explicit=True), settings, tmp_path)
    run = tmp_path / "home" / "runs" / "quantize-tiny-0001"
    (run / "artifacts").mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps({"id": run.name, "schema": 1, "spec": spec.model_dump(), "prepared": prepared}))
    first = start(run, 1)
    try:
        wait_for(lambda: "letting Q8_0 answer" in told(run) or first.poll() is not None, _LONG, "the second form to be measured")
        first.send_signal(signal.SIGKILL)
    finally:
        first.kill()
        first.wait()
    files = [path for path in (run / "artifacts").rglob("*.gguf") if not path.name.startswith(".")]
    assert sorted(path.name for path in files) == ["tiny-f16.gguf", "tiny-q8_0.gguf"]
    assert all(recognise(path).complete for path in files)
    assert (run / "artifacts" / "f16" / "candidate.json").exists()
    assert not (run / "artifacts" / "q8_0" / "candidate.json").exists()
    before = {path: path.stat().st_mtime_ns for path in files}
    assert start(run, 2).wait(_LONG) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert "F16 was done by an earlier attempt" in told(run)
    end = json.loads(told(run).splitlines()[-1])
    assert [card["type"] for card in end["summary"]["candidates"]] == ["F16", "Q8_0"]
    assert not (run / "scratch").exists()
