"""Every key of the key table is pressed wherever it is offered, and does what it says; a new key or place without this fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.keys import KEYS, PLACES, keys_of
from tests.tui import desk_chat, desk_serve  # noqa: F401  # put their stages and effects on the tables
from tests.tui.desk import STAGES, at, claims, places_now, written_in
from tests.tui.driving import screen_text
from tests.tui.key_effects import EFFECTS

SHADOWED: dict[tuple[str, str], str] = {
    ("panels", "p"): "chart_linked",  # the same
    ("run_log_y", "y"): "chart_log_y",  # the same
    ("linked_back", "p"): "chart_linked",  # the same
    ("new_run", "n"): "log_next",
    ("runs_note", "N"): "log_previous",
    ("runs_clone", "C"): "log_context",
    ("back", "escape"): "log_back",  # only while there is a search or a filter
    ("quit", "ctrl+c"): "copy",  # only while text is selected
    ("command_leave", "ctrl+c"): "copy",  # only while text is selected
    ("command_next", "down"): "scroll_down",  # a line of one row cannot scroll, and passes it on
    ("command_previous", "up"): "scroll_up",
    ("sql_edit", "e"): "chart_clip",  # i edits there too
    ("travel", "t"): "travel_live",  # the same
    ("serve_apply", "enter"): "open",  # which applies a new split too
    ("serve_more", "plus"): "zoom_in",
    ("serve_less", "minus"): "zoom_out",
    ("serve_copy", "y"): "chart_log_y",
    ("serve_log", "L"): "pan_right",
    ("open", "l"): "travel_on",
    ("open", "right"): "travel_on",
    ("first", "home"): "travel_first",
    ("last", "end"): "travel_live",
}
"""`(key id, pressed)` and the key of a nearer part that has it on purpose."""
PLACE_OF = {key.id: key.where for key in KEYS}
LINE_KEYS = {key.id for key in KEYS if key.where in ("edit", "field", "prompt")}
"""A line that is written in has every key it needs; what it leaves goes on to the page."""


def test_every_key_has_an_effect_that_is_looked_at() -> None:
    assert set(EFFECTS) == {key.id for key in KEYS}


def test_every_place_is_on_a_stage() -> None:
    assert set().union(*(stage.pressed for stage in STAGES.values())) == set(PLACES)


@pytest.mark.parametrize("name", STAGES)
async def test_every_key_does_what_it_says(no_time_passes: None, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    stage = STAGES[name]
    async with at(name, monkeypatch) as desk:
        offered = keys_of(*stage.places)
        meant = claims(desk.app)
        here = {key.where for key in offered if any(not written_in(desk.app, pressed) for pressed in key.keys)}
        assert set(places_now(desk.app)) == here
        taken = [
            f"{key.id} {pressed}: {meant[pressed]}"
            for key in offered
            for pressed in key.keys
            if not written_in(desk.app, pressed)
            and meant[pressed] not in (key.id, SHADOWED.get((key.id, pressed)))
            and not (meant[pressed] in LINE_KEYS and key.where != PLACE_OF[meant[pressed]])
        ]
        assert not taken, "keys that a nearer part has taken:\n" + "\n".join(taken)
        for key in keys_of(*stage.pressed):
            await desk.enter()
            meant = claims(desk.app)
            mine = [pressed for pressed in key.keys if meant.get(pressed) == key.id]
            if mine:
                desk.key = mine[0]
                try:
                    await EFFECTS[key.id](desk)
                except AssertionError as error:
                    raise AssertionError(f"{key.id} ({desk.key}) on {name}: {error}\n{screen_text(desk.pilot)}") from error
