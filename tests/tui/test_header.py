"""The header says where one is, what one may do there, and what is not as it should be."""

from __future__ import annotations

import pytest

from llmops_tui.screens.state import ViewState
from llmops_tui.screens.widgets.panels import header
from tests.tui.fake import FakeEngine


def _words(engine: FakeEngine, **changes: object) -> str:
    state = ViewState(host="box")
    status = engine.status()
    status["engine"].update(changes)  # type: ignore[typeddict-item]
    state.take_status(status)
    return "".join(text for text, _ in header(state, 200))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shared": True, "group": "ml", "you": {"user": "ada", "uid": 7, "role": "viewer", "read_only": False}}, "@ml, you are viewer"),
        ({"you": {"user": "ada", "uid": 7, "role": "admin", "read_only": True}}, "read only"),
        ({"version": "9.9.9"}, "engine 9.9.9, console"),
        ({"ingest": "paused: 12 MiB free"}, "paused: 12 MiB free"),
        ({"warnings": ["sampling failed"]}, "sampling failed"),
    ],
)
def test_what_matters_about_the_engine_is_in_the_header(engine: FakeEngine, changes: dict[str, object], told: str) -> None:
    assert told in _words(engine, **changes)


def test_ones_own_engine_is_not_explained(engine: FakeEngine) -> None:
    assert "you are" not in _words(engine)
    assert "read only" not in _words(engine)


def test_where_there_is_little_room_the_version_gives_way_to_what_is_unread(engine: FakeEngine) -> None:
    state = ViewState(host="box")
    state.take_status(engine.status())
    state.take_events([{"seq": 1, "t": 1.0, "type": "run.state", "run": "train-a-0001", "data": {"state": "failed"}}])
    state.travel(1.8e9)
    state.past_events = list(state.events)
    narrow, wide = ("".join(text for text, _ in header(state, width)) for width in (80, 120))
    assert "1 unread" in narrow
    assert "PAST" in narrow
    assert "engine" not in narrow
    assert "1 unread" in wide
    assert "engine" in wide
