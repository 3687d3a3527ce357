"""Where a load test may go without being told that it may leave the box, and what it is compared with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.annotation import Annotation
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.endpoints.loadtest_target import _is_this_box, baseline_of
from llmops_tui.engine.jobs.loadtest import load_of
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.specs.loadtest import LoadtestSpec
from llmops_tui.specs.parse import parse_spec


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_box_is_known_by_its_numbers_and_its_name(host: str) -> None:
    assert _is_this_box(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.org", "127.example.org", "localhost.example.org", "localhosts", "::10", "10.0.0.1", "0.0.0.0", ""]
)
def test_a_name_that_only_begins_like_it_is_another_box(host: str) -> None:
    assert not _is_this_box(host)


SPEC = {"kind": "loadtest", "url": "http://127.0.0.1:9/v1", "model": "m"}


def marked(tmp_path: Path, name: str, submitted_at: float) -> LiveRun:
    record = {"id": name, "spec": SPEC, "submitted_at": submitted_at}
    run = LiveRun(RunDir(tmp_path / name), record, parse_spec(SPEC), priority=0, order=submitted_at)
    run.written = Annotation(baseline=True)
    run.dir.artifacts.mkdir(parents=True)
    return run


@pytest.mark.parametrize("what", ["pipe", "link", "deep", "list", "strange"])
def test_what_a_user_put_in_a_reports_place_is_passed_over(tmp_path: Path, what: str) -> None:
    spec = parse_spec(SPEC)
    assert isinstance(spec, LoadtestSpec)
    target: Any = {"url": spec.url, "model": "m", "endpoint": spec.url}
    good, strange = marked(tmp_path, "good", 1.0), marked(tmp_path, "strange", 2.0)
    (good.dir.artifacts / "report.json").write_text(json.dumps({"load": load_of(spec), "target": {"endpoint": spec.url}}))
    place = strange.dir.artifacts / "report.json"
    match what:
        case "pipe":
            os.mkfifo(place)
        case "link":
            place.symlink_to("/dev/zero")
        case "deep":
            place.write_text("[" * 100_000)
        case "list":
            place.write_text("[]")
        case _:
            place.write_text(json.dumps({"load": load_of(spec), "target": "none"}))
    found = baseline_of(spec, target, [good, strange])
    assert found is not None
    assert found["run"] == "good"
