"""What the console keeps of the engine's events."""

from __future__ import annotations

from llmops_tui.screens.state import ViewState
from llmops_tui.specs.answers import EngineEvent


def event(seq: int, kind: str, **data: object) -> EngineEvent:
    return {"seq": seq, "t": float(seq), "type": kind, "run": "command-a-0001", "data": dict(data)}


FAILED = event(1, "run.state", state="failed")


def test_a_chatty_job_pushes_neither_the_events_nor_what_is_unread_out() -> None:
    state = ViewState(host="box")
    state.take_event(FAILED)
    for seq in range(2, 1000):
        state.take_event(event(seq, "run.progress"))
    assert list(state.events) == [FAILED]
    assert [told for told, _ in state.notices()] == [FAILED]


def test_daily_life_pushes_old_events_out_but_nothing_somebody_should_hear_of() -> None:
    state = ViewState(host="box")
    state.take_event(FAILED)
    for seq in range(2, 1000):
        state.take_event(event(seq, "run.checkpoint"))
    assert FAILED not in state.events
    assert state.unread() == 1


def test_what_the_stream_tells_again_is_kept_once_and_in_order() -> None:
    state = ViewState(host="box")
    state.take_event(event(7, "run.state", state="succeeded"))
    state.take_event(event(7, "run.state", state="succeeded"))
    state.take_events([FAILED, event(5, "run.submitted")])
    assert [told["seq"] for told in state.events] == [1, 5, 7]
    assert [told["seq"] for told, _ in state.notices()] == [1, 7]


def test_a_rebuilt_database_begins_anew() -> None:
    state = ViewState(host="box")
    state.take_event(event(900, "run.state", state="failed"))
    state.take_event(event(0, "stream.reset"))
    state.take_event(FAILED)
    assert list(state.events) == [FAILED]
    assert [told for told, _ in state.notices()] == [FAILED]
