"""Every key of the log on a run's page, and logs that mean harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.events import Key, MouseScrollUp
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.keys import keys_of
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.log_lines import CURRENT_HIT, HIT
from llmops_tui.screens.widgets.log_pane import LogPane
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine

RUN = "train-fiqa-0003"
PLAIN = b"".join(b"step %5d  loss %.4f%s\n" % (n, 1.5 + n / 1000, b" ERROR" if n % 1000 == 500 else b"") for n in range(4000))
NASTY = (
    b"\x1b[31;1mred\x1b[0m er\x1b[32mror\x1b[0m one\n"
    + b"".join(b"\r %3d%% step %d" % (n, n) for n in range(101))
    + b"\n\xff\xfe bad \xc3\x28 error two\n"
    + "wide \u6f22\u5b57 error three\n".encode()
    + b"x" * 9000
    + b"error"
    + b"y" * 20_000
    + b"\n\x1b[2J\x1b[H\x1b[?1049h\x1b]0;a title without end\n\x07\x00\x08last Error\n"
)


@asynccontextmanager
async def opened(log: bytes, size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[Pilot[None], LogPane, FakeEngine]]:
    """The log of a running run, at its end, with the keys."""
    engine = FakeEngine(log_bytes=log)
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.selected)
        app.open_run(RUN)
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.ready)
        await pilot.press("3")
        pane = app.screen.query_one(LogPane)
        await until(pilot, lambda: app.focused is pane and "following" in pane.plain and len(pane.plain.splitlines()) > 1)
        yield pilot, pane, engine


def marked(pane: LogPane, role: str) -> list[str]:
    """The texts on the screen that have a role."""
    return [text for line in pane._lines[1:] for text, told in line if told == role]


def signed(pane: LogPane) -> str:
    """The line with the sign of the present hit or cursor."""
    return next((line for line in pane.plain.splitlines()[1:] if line.startswith("▸")), "")


async def write(pilot: Pilot[None], text: str) -> None:
    """Type into the line, character by character."""
    line = pilot.app.screen.query_one(LogPane).query_one(EditLine)
    await until(pilot, lambda: pilot.app.focused is line)
    for character in text:
        await pilot.press("space" if character == " " else character)
    await until(pilot, lambda: line.text.endswith(text))


def test_every_key_of_the_log_is_pressed_here() -> None:
    here = Path(__file__).read_text()
    for key in keys_of("log"):
        assert any(f'"{name}"' in here for name in key.keys), key.id


async def test_arrows_pages_and_ends_scroll(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("k")
        assert "f follows" in pane.plain
        assert "step  3998" in pane.plain.splitlines()[-1]
        await pilot.press("j")
        assert "step  3999" in pane.plain
        await pilot.press("pageup", "pagedown", "j")
        await until(pilot, lambda: "following" in pane.plain)
        await pilot.press("g")
        await until(pilot, lambda: "step     0" in pane.plain)
        await pilot.press("G")
        await until(pilot, lambda: "step  3999" in pane.plain and "following" in pane.plain)


async def test_a_search_shows_hits_while_it_is_typed_newest_first_where_the_end_is_followed(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("slash")
        await write(pilot, "error")
        await until(pilot, lambda: "hit 4 of 4" in words(pilot, "LogPane EditLine"))
        assert "step  3500" in signed(pane)
        assert marked(pane, CURRENT_HIT) == ["ERROR"]
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.focused is pane)
        assert "/error  hit 4 of 4 at 87 %" in pane.plain
        await pilot.press("n")
        await until(pilot, lambda: "hit 1 of 4 at 12 %, from the other end" in pane.plain and "step   500" in signed(pane))
        await pilot.press("n")
        await until(pilot, lambda: "hit 2 of 4" in pane.plain and "step  1500" in signed(pane))
        await pilot.press("N")
        await until(pilot, lambda: "hit 1 of 4" in pane.plain and "step   500" in signed(pane))
        await pilot.press("escape")
        await until(pilot, lambda: "/error" not in pane.plain)
        assert not marked(pane, CURRENT_HIT)
        assert isinstance(pilot.app.screen, RunScreen)


async def test_the_next_hit_is_looked_for_from_where_one_went(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("slash")
        await write(pilot, "error")
        await pilot.press("enter")
        await until(pilot, lambda: "hit 4 of 4" in pane.plain)
        await pilot.press("g")
        await until(pilot, lambda: "step     0" in pane.plain)
        await pilot.press("n")
        await until(pilot, lambda: "hit 1 of 4" in pane.plain and "step   500" in signed(pane))


async def test_escape_in_the_search_line_brings_back_where_one_was(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("g")
        await until(pilot, lambda: "step     0" in pane.plain)
        await pilot.press("slash")
        await write(pilot, "step  3500")
        await until(pilot, lambda: "step  3500" in signed(pane))
        await pilot.press("escape")
        await until(pilot, lambda: "step     0" in pane.plain and pilot.app.focused is pane)
        assert not marked(pane, HIT)


async def test_every_visible_hit_is_marked_and_capitals_count_where_there_are_any(engine: FakeEngine) -> None:
    async with opened(b"Loss loss LOSS\n" * 5) as (pilot, pane, _):
        await pilot.press("slash")
        await write(pilot, "Loss")
        await pilot.press("enter")
        await until(pilot, lambda: len(marked(pane, HIT)) == 4 and marked(pane, CURRENT_HIT) == ["Loss"])
        await pilot.press("slash")
        await pilot.press("ctrl+u")
        await write(pilot, "loss")
        await pilot.press("enter")
        await until(pilot, lambda: len(marked(pane, HIT)) == 14)


async def test_a_regular_expression_is_searched_by_enter_and_a_wrong_one_is_told_at_its_character(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("g", "slash")
        await write(pilot, "re:(500 .*ERR")
        await pilot.press("enter")
        line = pane.query_one(EditLine)
        await until(pilot, lambda: "unterminated" in line.plain)
        under = line.plain.splitlines()
        assert under[1].index("^") == under[0].index("(")
        assert pilot.app.focused is line
        await pilot.press("home", "right", "right", "right", "delete", "end")
        await pilot.press("enter")
        await until(pilot, lambda: "step   500" in signed(pane))
        await until(pilot, lambda: marked(pane, CURRENT_HIT) == ["500  loss 2.0000 ERR"])


async def test_nothing_found_and_nothing_searched_are_said(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("n")
        assert "nothing is searched for" in pane.plain
        await pilot.press("slash")
        await write(pilot, "nowhere")
        await pilot.press("enter")
        await until(pilot, lambda: "no hit" in pane.plain)


async def test_hits_in_what_arrives_are_marked_and_counted(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, fake):
        await pilot.press("slash")
        await write(pilot, "error")
        await pilot.press("enter")
        await until(pilot, lambda: "of 4" in pane.plain)
        await pilot.press("f")
        await until(pilot, lambda: "following" in pane.plain)
        assert fake.log_bytes is not None
        fake.log_bytes += b"a new error\n"
        fake.log_size = len(fake.log_bytes)
        await until(pilot, lambda: marked(pane, HIT) == ["error"] and "of 5" in pane.plain)


async def test_a_filter_shows_matching_lines_with_context_and_enter_finds_them_again(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("ampersand")
        await write(pilot, "error")
        await pilot.press("enter")
        await until(pilot, lambda: "&error  4 matches" in pane.plain)
        assert [line.split()[-1] for line in pane.plain.splitlines()[1:]] == ["ERROR"] * 4
        await until(pilot, lambda: "step  3500" in signed(pane))
        await pilot.press("k")
        await until(pilot, lambda: "step  2500" in signed(pane))
        await pilot.press("N")
        await until(pilot, lambda: "step  1500" in signed(pane))
        await pilot.press("C")
        await until(pilot, lambda: "±2" in pane.plain and "step  1498" in pane.plain and "step  1502" in pane.plain)
        await until(pilot, lambda: "step  1500" in signed(pane))
        await pilot.press("n")
        await until(pilot, lambda: "step  2500" in signed(pane))
        await pilot.press("enter")
        await until(pilot, lambda: "&error" not in pane.plain and "step  2494" in pane.plain and "step  2507" in pane.plain)


async def test_an_empty_line_or_escape_ends_a_filter(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        for end in (("ampersand", "ctrl+u", "enter"), ("escape",)):
            await pilot.press("ampersand")
            await write(pilot, "error")
            await pilot.press("enter")
            await until(pilot, lambda: "4 matches" in pane.plain)
            await pilot.press(*end)
            await until(pilot, lambda: "&error" not in pane.plain and pilot.app.focused is pane)
            await pilot.press("G")


async def test_long_lines_are_shifted_or_wrapped(engine: FakeEngine) -> None:
    async with opened(b"first\n" + b"0123456789" * 20 + b"\nlast\n") as (pilot, pane, _):
        assert pane.plain.splitlines()[2].endswith("…")
        await pilot.press("l")
        assert pane.plain.splitlines()[2].startswith(" 89012345")
        await pilot.press("h")
        assert pane.plain.splitlines()[2].startswith(" 01234567")
        await pilot.press("w")
        assert len(pane.plain.splitlines()) == 6
        assert pane.plain.replace("\n ", "").count("0123456789") == 20
        await pilot.press("w")
        assert len(pane.plain.splitlines()) == 4


async def test_a_hit_far_to_the_right_is_brought_into_view(engine: FakeEngine) -> None:
    async with opened(b"-" * 300 + b"needle" + b"-" * 50 + b"\nshort\n") as (pilot, pane, _):
        await pilot.press("slash")
        await write(pilot, "needle")
        await pilot.press("enter")
        await until(pilot, lambda: marked(pane, CURRENT_HIT) == ["needle"])
        await pilot.press("w")
        await until(pilot, lambda: marked(pane, CURRENT_HIT) == ["needle"] and "needle" in signed(pane))


async def test_no_log_can_harm_the_screen(engine: FakeEngine) -> None:
    async with opened(NASTY) as (pilot, pane, _):
        await pilot.press("g", "slash")
        await write(pilot, "error")
        await pilot.press("enter")
        await until(pilot, lambda: "hit 1 of 5" in pane.plain and marked(pane, CURRENT_HIT) == ["error"])
        for number in range(2, 6):
            await pilot.press("n")
            await until(
                pilot, lambda number=number: f"hit {number} of 5" in pane.plain and marked(pane, CURRENT_HIT) in (["error"], ["Error"])
            )
        assert "\x1b" not in screen_text(pilot)
        await pilot.press("g", "slash", "ctrl+u")
        await write(pilot, "step 50")
        await until(pilot, lambda: "step 50" in signed(pane))


async def test_a_log_of_one_endless_line_is_scrolled_in_pieces(engine: FakeEngine) -> None:
    async with opened(b"#" * (10 << 20)) as (pilot, pane, fake):
        await pilot.press("w", "k", "pageup", "g", "w", "pagedown")
        await until(pilot, lambda: "####" in pane.plain)
        assert sum(limit for _, limit in fake.log_reads if limit > 1) < 4 << 20


async def test_what_an_engine_that_is_lost_cannot_search_is_said(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, fake):
        fake.lost = True
        await pilot.press("slash")
        await write(pilot, "error")
        await pilot.press("enter")
        await until(pilot, lambda: "no engine runs" in pane.plain)
        fake.lost = False
        await pilot.press("n")
        await until(pilot, lambda: "hit 1 of 4" in pane.plain)


async def test_the_past_ends_the_log_where_it_ended_then(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        pane.limit_bytes = PLAIN.index(b"step  2000")
        await until(pilot, lambda: "step  1999" in pane.plain and "its end then" in pane.plain)
        await pilot.press("slash")
        await write(pilot, "error")
        await until(pilot, lambda: "hit 2 of 2" in words(pilot, "LogPane EditLine"))
        await pilot.press("enter")
        pane.limit_bytes = None
        await pilot.press("G")
        await until(pilot, lambda: "step  3999" in pane.plain and "of 4" in pane.plain)


async def test_place_search_filter_and_wrap_are_remembered(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot.press("g", "slash")
        await write(pilot, "error")
        await pilot.press("enter", "w", "C")
        await until(pilot, lambda: "hit 1 of 4" in pane.plain and "step   500" in signed(pane))
        remembered = pane.remember()
    async with opened(PLAIN) as (pilot, pane, _):
        pane.recall(remembered)
        pane.draw()
        await until(pilot, lambda: "step   500" in pane.plain and "wrap" in pane.plain and marked(pane, HIT) == ["ERROR"])
        assert pane.remember() == remembered


@pytest.mark.parametrize(
    "rubbish", [None, [], {"top": "x", "context": 3, "search": 4, "filter": None}, {"top": -5, "follow": False}, {"top": 10**12}]
)
async def test_a_memory_that_is_none_is_left_out(engine: FakeEngine, rubbish: object) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        pane.recall(rubbish)
        pane.draw()
        await until(pilot, lambda: "step  3999" in pane.plain)


async def test_the_foot_tells_the_logs_keys_while_it_has_them(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, _, __):
        await until(pilot, lambda: "search" in words(pilot, "#foot") and "filter" in words(pilot, "#foot"))
        assert pilot.app.screen.query_one("#foot", LineWidget).plain.count(" n ") == 1


async def test_the_wheel_scrolls(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        await pilot._post_mouse_events([MouseScrollUp], pane, button=0)
        await until(pilot, lambda: "step  3996" in pane.plain.splitlines()[-1])


async def test_what_is_typed_at_once_behind_a_key_goes_into_the_line_and_what_follows_enter_to_the_log(engine: FakeEngine) -> None:
    async with opened(PLAIN) as (pilot, pane, _):
        app = pilot.app
        for key in ("slash", "E", "R", "R", "O", "R", "enter", "n"):
            app.post_message(Key(key, key if len(key) == 1 else "/" if key == "slash" else None))
        await until(pilot, lambda: "/ERROR" in pane.plain and "hit 1 of 4" in pane.plain)
        assert app.focused is pane
