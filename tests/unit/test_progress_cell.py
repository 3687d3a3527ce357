"""What the progress cell of a run says."""

from __future__ import annotations

import pytest

from llmops_tui.screens.widgets.panels import progress_run
from llmops_tui.specs.answers import Progress
from tests.tui.fake import summary


@pytest.mark.parametrize(
    ("state", "done", "total", "said"),
    [
        ("running", 0.0, None, "loading"),
        ("running", 120.0, None, "120 rows"),
        ("running", 3.0, 4.0, "75%"),
        ("failed", 3.0, 4.0, "75%"),
        ("succeeded", 0.0, None, ""),
        ("queued", 0.0, None, ""),
    ],
)
def test_the_cell_names_the_phase_until_there_is_something_to_count(state: str, done: float, total: float | None, said: str) -> None:
    progress = Progress(phase="loading", done=done, total=total, unit="rows", eta_seconds=None)
    text, _ = progress_run(summary("train-a-0001", state, progress=progress), 12, True)
    assert text.endswith(said)
    assert bool(text) == bool(said)
