"""The viewer on a terminal of 80 × 24 cells with an engine made of memory."""

from __future__ import annotations

import pytest

from tests.tui.fake import FakeEngine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine with two running, two waiting and three ended runs."""
    monkeypatch.setenv("LLMOPS_ASCII", "0")
    return FakeEngine()
