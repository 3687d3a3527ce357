"""The state of a search and of a filter, answered by the engine's own functions over a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.engine.log_scan import Bounds, Needle
from llmops_tui.engine.log_search import filter_log, search_log
from llmops_tui.screens.widgets.log_filter import FilterWindow
from llmops_tui.screens.widgets.log_search import Ask, Search, Sought
from llmops_tui.specs.log_text import PIECE_BYTES


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.log"


def begun(log: Path, typed: str, origin: int = 0) -> Search:
    sought = Sought.of(typed)
    assert sought is not None
    search = Search(sought, typed, origin, log.stat().st_size)
    settle(search, log, search.begin())
    return search


def settle(search: Search, log: Path, asks: list[Ask], most_bytes: int = 1 << 20) -> None:
    """Answer until nothing is asked any more."""
    while asks:
        ask = asks.pop(0)
        bounds = Bounds(ask.offset, ask.until, ask.backward, ask.limit, most_bytes=most_bytes, seconds=60)
        asks += search.take(ask, search_log(log, Needle(ask.sought.pattern, ask.sought.regex, ask.sought.ignore_case), bounds))


def filtered(log: Path, typed: str, context: int, place: int) -> FilterWindow:
    sought = Sought.of(typed)
    assert sought is not None
    return FilterWindow(sought, typed, context, place, log.stat().st_size)


def answer(window: FilterWindow, log: Path) -> bool:
    """Answer one question of a filter; whether there was one."""
    ask = window.pop_wanted()
    if ask is None:
        return False
    bounds = Bounds(ask.offset, ask.until, ask.backward, ask.limit, PIECE_BYTES, seconds=60)
    needle = Needle(ask.sought.pattern, ask.sought.regex, ask.sought.ignore_case)
    assert window.take(ask, filter_log(log, needle, bounds, ask.context))
    return True


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", None),
        ("re:", None),
        ("error", Sought("error", False, True)),
        ("Error", Sought("Error", False, False)),
        ("re:err.*", Sought("err.*", True, True)),
        (r"re:\S+", Sought(r"\S+", True, True)),
        ("re:[A-Z]", Sought("[A-Z]", True, False)),
    ],
)
def test_a_capital_letter_makes_case_matter_and_a_prefix_an_expression(typed: str, expected: Sought | None) -> None:
    assert Sought.of(typed) == expected


def test_hits_are_numbered_from_the_files_first_and_wrap_at_both_ends(log: Path) -> None:
    log.write_bytes(b"".join(b"line %d%s\n" % (n, b" hit" if n % 10 == 5 else b"") for n in range(100)))
    search = begun(log, "hit", origin=log.read_bytes().index(b"line 50"))
    assert (search.number, search.total) == (6, 10)
    for expected in (7, 8, 9, 10, 1, 2):
        settle(search, log, search.step(1))
        assert search.number == expected
    assert not search.wrapped
    for expected in (1, 10, 9):
        settle(search, log, search.step(-1))
        assert search.number == expected
    assert search.words().startswith("hit 9 of 10 at ")


def test_a_step_taken_while_hits_are_counted_is_counted_too(log: Path) -> None:
    log.write_bytes(b"hit\n" * 50)
    search = Search(Sought("hit", False, True), "hit", 80, log.stat().st_size)
    jump = search.begin()[0]
    counts = search.take(jump, search_log(log, Needle("hit"), Bounds(jump.offset, jump.until, most=1)))
    settle(search, log, search.step(1))
    assert search.number is None
    settle(search, log, counts)
    assert (search.number, search.total) == (22, 50)


def test_what_was_counted_in_either_order_is_not_counted_again(log: Path) -> None:
    log.write_bytes(b"hit\n" * 10)
    search = Search(Sought("hit", False, True), "hit", 20, 40)
    jump = search.begin()[0]
    before, behind = search.take(jump, search_log(log, Needle("hit"), Bounds(jump.offset, jump.until, most=1)))
    settle(search, log, [behind])
    settle(search, log, [before])
    with open(log, "ab") as file:
        file.write(b"hit\n")
    settle(search, log, search.grew(44))
    assert (search.number, search.total) == (6, 11)


def test_what_came_is_counted_while_one_stands_on_the_last_hit(log: Path) -> None:
    log.write_bytes(b"hit\n" * 3)
    search = begun(log, "hit")
    settle(search, log, search.step(-1))
    assert search.number == 3
    with open(log, "ab") as file:
        file.write(b"no\nhit\nhit\n")
    settle(search, log, search.grew(log.stat().st_size))
    assert (search.number, search.total) == (3, 5)
    settle(search, log, search.step(1))
    assert search.number == 4


def test_a_hit_that_came_after_a_search_in_vain_is_told(log: Path) -> None:
    log.write_bytes(b"nothing\n")
    search = begun(log, "hit")
    assert search.words() == "no hit"
    with open(log, "ab") as file:
        file.write(b"hit\n")
    settle(search, log, search.grew(log.stat().st_size))
    assert search.words() == "1 in what came, n goes there"
    settle(search, log, search.step(1))
    assert search.hit == (8, 11)


def test_a_search_that_was_cancelled_takes_no_answer(log: Path) -> None:
    log.write_bytes(b"hit\n")
    search = Search(Sought("hit", False, True), "hit", 0, 4)
    jump = search.begin()[0]
    assert "Esc cancels" in search.words()
    search.cancel()
    assert search.take(jump, search_log(log, Needle("hit"), Bounds(0, 4, most=1))) == []
    assert search.hit is None


def test_a_log_that_shrank_is_another_log(log: Path) -> None:
    log.write_bytes(b"hit\n" * 9)
    search = begun(log, "hit")
    assert search.grew(4) == []
    assert (search.hit, search.total) == (None, 0)


def test_marks_are_asked_for_by_block_once_and_again_when_the_block_grew(log: Path) -> None:
    log.write_bytes(b"hit\n" * 10)
    search = begun(log, "hit")
    asks = search.wanted_marks(8, 20)
    assert [(ask.offset, ask.until) for ask in asks] == [(0, 40)]
    assert search.wanted_marks(8, 20) == []
    settle(search, log, asks)
    assert search.marks(8, 20) == [(8, 11), (12, 15), (16, 19)]
    with open(log, "ab") as file:
        file.write(b"hit\n")
    settle(search, log, search.grew(44))
    settle(search, log, search.wanted_marks(8, 44))
    assert search.marks(36, 44) == [(36, 39), (40, 43)]


@pytest.mark.parametrize("place", [0, 30_000, 10**9])
@pytest.mark.parametrize("context", [0, 2])
def test_a_filter_grows_at_both_ends_until_it_is_whole(log: Path, place: int, context: int) -> None:
    lines = [b"hit %d\n" % n if n % 7 == 0 else b"line %d\n" % n for n in range(9000)]
    log.write_bytes(b"".join(lines))
    window = filtered(log, "hit", context, place)
    while True:
        window.lines(0, 10**6)
        forward = answer(window, log)
        window.back(10**9, 10**6)
        if not answer(window, log) and not forward:
            break
    near = {m for n in range(0, 9000, 7) for m in range(n - context, n + context + 1)}
    expected = [line.decode() for n, line in enumerate(lines) if n in near]
    assert [line.text for line in window.lines(0, 10**6)] == expected
    assert window.words() == "1,286 matches"


def test_a_filter_that_was_stopped_asks_no_more_until_one_goes_on(log: Path) -> None:
    log.write_bytes(b"hit\n" * 10)
    window = filtered(log, "hit", 0, 0)
    window.lines(0, 5)
    ask = window.pop_wanted()
    assert ask is not None
    window.pause()
    assert not window.take(ask, filter_log(log, Needle("hit"), Bounds(0, 40, line_bytes=PIECE_BYTES), 0))
    window.lines(0, 5)
    assert window.pop_wanted() is None
    assert window.words().endswith("stopped")
    window.pause(False)
    assert answer(window, log)
    assert window.matches == 10
