"""The viewer on a terminal of 80 × 24 cells with an engine made of memory."""

from __future__ import annotations

import pytest

from tests.tui.fake import FakeEngine
from tests.tui.still import no_time_passes

__all__ = ["no_time_passes"]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine with two running, two waiting and three ended runs."""
    monkeypatch.setenv("LLMOPS_ASCII", "0")
    return FakeEngine()
