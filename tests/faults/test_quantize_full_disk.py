"""A disk that fills up while a form is written: one line says so, nothing half-written is left, and the next attempt makes it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_tui.data.model_files import recognise
from llmops_tui.engine.preflight import prepare
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from tests.engine.wide_model import save_wide
from tests.faults.small_disk import fill

_LONG = 240.0
# Of the 2.4 MB that the file takes as F16: its header and the first tensors go in.
_ROOM_BYTES = 1 << 20


def attempt(run: Path, number: int) -> tuple[int, str, dict[str, object]]:
    """Its exit code, what it wrote to its log (which is not on the full disk), and how it says it ended."""
    environment = {**os.environ, "LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": str(number), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "llmops_tui.engine.jobs.quantize"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LONG, check=False)
    end = json.loads((run / "events.jsonl").read_text().splitlines()[-1])
    return done.returncode, done.stdout + done.stderr, end


@pytest.mark.parametrize("word", ["F16", "Q8_0"])
@pytest.mark.timeout(600)
def test_a_disk_that_fills_while_a_gguf_is_written_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, disk: Path, word: str) -> None:
    if word != "F16" and importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    save_wide(tmp_path / "model")
    measure = {"quality": False, "speed": False}
    spec = parse_spec({"kind": "quantize", "model": "./model", "types": word, "measure": measure, "output": "tiny", "threads": 1})
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}})
    prepared = prepare(spec, Home(tmp_path / "home", explicit=True), settings, tmp_path)
    run = disk / "runs" / "quantize-tiny-0001"
    (run / "artifacts").mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps({"id": run.name, "schema": 1, "spec": spec.model_dump(), "prepared": prepared}))
    ballast = fill(disk)
    os.truncate(ballast, ballast.stat().st_size - _ROOM_BYTES)

    code, log, end = attempt(run, 1)
    assert (code, end["status"]) == (1, "failed")
    assert str(end["error"]).endswith(": No space left on device; make room there, then `llmops-tui runs retry quantize-tiny-0001`")
    assert "\n" not in str(end["error"])
    assert [line for line in log.splitlines() if line.startswith("error: ")] == [f"error: {end['error']}"]
    assert "Traceback" not in log
    assert [path for path in (run / "artifacts").rglob("*") if path.is_file()] == []
    assert not (run / "scratch").exists()

    ballast.unlink()
    code, _, end = attempt(run, 2)
    assert (code, end["status"]) == (0, "succeeded")
    (made,) = (run / "artifacts").rglob("*.gguf")
    assert recognise(made).complete
    assert made.stat().st_size > _ROOM_BYTES
