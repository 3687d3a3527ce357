"""What `loadtest` needs of the user's files before it starts: rows that can be asked, every one of them read.

Where requests go is the engine's to say (endpoints/loadtest_target.py), which knows what is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.data import datasets
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.jobs.loadtesting.prompts import read_recorded
from llmops_tui.engine.preflight_checks import field_error, not_found
from llmops_tui.errors import NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.loadtest import LoadtestSpec

# A request's times in report.json and in guidellm.json, measured generously.
_REQUEST_BYTES = 2048


def prepare_loadtest(spec: LoadtestSpec, home: Home, cwd: Path) -> tuple[dict[str, Any], int]:
    """`prepared` and the bytes it will write. Raises UsageError or NotFoundError at a field."""
    stages = 1 if spec.prompts.replay_speed else max(1, len(spec.rate) or len(spec.concurrency) or 3)
    dataset, warnings = None, []
    if spec.prompts.dataset:
        try:
            located = datasets.resolve(home, spec.prompts.dataset, cwd)
        except NotFoundError as error:
            raise not_found("prompts.dataset", error.message, error.next_step) from None
        row_format = located.format if spec.prompts.format == "auto" and located.format else spec.prompts.format
        rows = read_recorded(located.path, row_format, spec.requests * stages, timed=spec.prompts.replay_speed > 0)
        if not spec.prompts.replay_speed and len(rows) < spec.requests * stages:
            warnings.append(
                f"{len(rows)} rows for {spec.requests * stages} requests: they are asked again and again, and a cache may know them"
            )
        if spec.prompts.replay_speed and not rows[-1].t > rows[0].t:
            raise field_error("prompts.replay_speed", "all rows have the same time", "give a rate instead: --set rate=2")
        dataset = {"path": str(located.path), "format": row_format}
    return {"dataset": dataset, "warnings": warnings}, disk_forecast.RECORDS_BYTES + spec.requests * stages * _REQUEST_BYTES
