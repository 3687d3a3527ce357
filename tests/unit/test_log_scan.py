"""Finding text in a log file: the same hits from both ends, whatever the bytes are, and never past the time there is."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from llmops_tui.engine import log_scan
from llmops_tui.engine.log_rotation import kept_ranges, rotate
from llmops_tui.engine.log_scan import Bounds, Hit, Needle, scan
from llmops_tui.engine.log_search import filter_log, search_log
from llmops_tui.errors import UsageError
from llmops_tui.specs.log_text import PIECE_BYTES

EVERYTHING = Bounds(0, -1, most=10**6, seconds=60)
TEXTS = ["ab", "é", "(", "step 50"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.log"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 4 KiB: every edge is met in a small file."""
    monkeypatch.setattr(log_scan, "CHUNK_BYTES", 4096)


def hits(log: Path, needle: Needle, bounds: Bounds = EVERYTHING) -> list[Hit]:
    """All of them, in this process also where the needle is a regular expression."""
    descriptor = os.open(log, os.O_RDONLY)
    try:
        until = log.stat().st_size if bounds.until < 0 else bounds.until
        return scan(descriptor, kept_ranges(log), needle, bounds._replace(until=until)).hits
    finally:
        os.close(descriptor)


def found(log: Path, needle: Needle, bounds: Bounds = EVERYTHING) -> list[bytes]:
    """What stands where the hits are said to be."""
    data = log.read_bytes()
    return [data[hit.hit_start : hit.hit_end] for hit in hits(log, needle, bounds)]


def noise(seed: int) -> bytes:
    """Lines of every length, colours, overwritten lines, bytes that are no text."""
    rng, data = random.Random(seed), bytearray()
    while len(data) < 150_000:
        kind = rng.random()
        if kind < 0.02:
            data += b"xab" * rng.randrange(6000) + b"\n"
        elif kind < 0.2:
            data += b"\x1b[31ma\x1b[0mb \xff\xc3\xa9 \r 50%\r 60%\n"
        else:
            data += b"-" * rng.randrange(300) + b"abab\n"
    return bytes(data)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "needle", [Needle("ab"), Needle("AB", ignore_case=True), Needle("É", ignore_case=True), Needle("a.?b", True), Needle("[^x]b", True)]
)
def test_every_hit_is_found_from_both_ends_and_in_pages(log: Path, needle: Needle, seed: int) -> None:
    log.write_bytes(noise(seed))
    forward = hits(log, needle)
    assert len(forward) > 20
    assert hits(log, needle, EVERYTHING._replace(backward=True)) == forward[::-1]
    for backward in (False, True):
        paged: list[Hit] = []
        low, high, more = 0, log.stat().st_size, True
        while more:
            descriptor = os.open(log, os.O_RDONLY)
            page = scan(descriptor, kept_ranges(log), needle, Bounds(low, high, backward, 97, seconds=60))
            os.close(descriptor)
            paged += page.hits
            low, high, more = (low, page.scanned_to, page.more) if backward else (page.scanned_to, high, page.more)
        assert paged == (forward[::-1] if backward else forward)


def test_a_hit_says_where_its_line_begins(log: Path) -> None:
    log.write_bytes(b"first\nsecond word\nthird\n")
    assert hits(log, Needle("word")) == [Hit(6, 13, 17)]


def test_colours_inside_of_a_word_do_not_hide_it(log: Path) -> None:
    log.write_bytes(b"a\n\x1b[31mer\x1b[1;32mror\x1b[0m\n\x1b]8;;http://error\x07link\x1b]8;;\x07\n")
    assert found(log, Needle("error")) == [b"er\x1b[1;32mror"]


def test_an_unfinished_escape_sequence_hides_its_own_line_at_most(log: Path) -> None:
    log.write_bytes(b"\x1b]0;a title without end\nerror\x07\n\x1bP also\nerror\n")
    assert found(log, Needle("error")) == [b"error", b"error"]


def test_every_update_of_a_progress_bar_is_a_line_to_a_regular_expression(log: Path) -> None:
    log.write_bytes(b"\r 10%|# |\r 50%|## |\r100%|###|\n")
    assert found(log, Needle(r"^ 50%.*$", True)) == [b" 50%|## |"]


def test_bytes_that_are_no_text_do_not_move_the_hits(log: Path) -> None:
    log.write_bytes("\u6f22\u5b57 ".encode() + b"\xff\xfe caf\xc3\xa9 na\xefve error\n")
    assert found(log, Needle("error", True)) == [b"error"]
    assert found(log, Needle("caf\u00e9")) == ["caf\u00e9".encode()]
    assert found(log, Needle("CAF\u00c9", ignore_case=True)) == ["caf\u00e9".encode()]


def test_a_line_of_ten_megabytes_is_searched_to_its_end(log: Path) -> None:
    log.write_bytes(b"x" * (10 << 20) + b"needle" + b"y" * 1000 + b"\nneedle\n")
    first, second = hits(log, Needle("needle"))
    assert (first.hit_start, second.hit_start) == (10 << 20, (10 << 20) + 1007)
    assert 0 <= first.hit_start - first.offset <= log_scan.CHUNK_BYTES * 2


def test_no_hit_spans_lines_and_an_empty_one_is_none(log: Path) -> None:
    log.write_bytes(b"one\ntwo\n")
    for pattern in (r"one\s+two", r"[^x]+two", r"(?s)one.two", "x*", "^"):
        assert b"\n" not in b"".join(found(log, Needle(pattern, True)))
    assert found(log, Needle(r"\w+", True)) == [b"one", b"two"]


def test_the_hole_of_a_rotation_holds_no_hits(log: Path) -> None:
    log.write_bytes(b"".join(b"line %07d of the output\n" % number for number in range(200_000)))
    if rotate(log, 1 << 20) == 0:
        pytest.skip("this file system cannot punch holes")
    texts = found(log, Needle("of the"), EVERYTHING)
    kept = sum(end - begin for begin, end in kept_ranges(log))
    assert len(texts) == kept // 27
    assert set(texts) == {b"of the"}
    assert hits(log, Needle("of the"), EVERYTHING._replace(backward=True)) == hits(log, Needle("of the"))[::-1]


def test_counting_counts_what_begins_in_the_range(log: Path) -> None:
    log.write_bytes(b"ab\n" * 1000)
    answer = search_log(log, Needle("ab"), Bounds(300, 600, most=0))
    assert (answer["hits"], answer["count"], answer["more"], answer["scanned_to"]) == ([], 100, False, 600)


def test_a_search_ends_early_and_goes_on_where_it_ended(log: Path) -> None:
    log.write_bytes(b"-" * 99 + b"\n" + (b"." * 99 + b"\n") * 50_000 + b"end\n")
    answer = search_log(log, Needle("end"), Bounds(0, -1, most_bytes=1 << 20))
    assert answer["more"]
    assert not answer["hits"]
    assert 0 < answer["scanned_to"] < log.stat().st_size
    assert search_log(log, Needle("end"), Bounds(answer["scanned_to"], -1))["hits"]


def test_a_log_that_is_not_there_or_shrank_has_no_hits(log: Path) -> None:
    assert search_log(log, Needle("x"), Bounds(0, -1)) == {"hits": [], "count": 0, "scanned_to": 0, "more": False, "size": 0}
    log.write_bytes(b"x\n")
    assert search_log(log, Needle("x"), Bounds(10**9, -1))["hits"] == []
    assert filter_log(log, Needle("x"), Bounds(10**9, 10**12, line_bytes=PIECE_BYTES), 2)["lines"] == []


def test_an_expression_that_never_ends_is_stopped_and_refused(log: Path) -> None:
    log.write_bytes(b"fine\n" + b"a" * 64 + b"!\n")
    with pytest.raises(UsageError, match="goes back and forth without end") as caught:
        search_log(log, Needle("(a+)+$", True), Bounds(0, -1))
    assert caught.value.fields[0]["field"] == "pattern"


@pytest.mark.parametrize(("pattern", "where"), [("(a", "character 1"), ("a)", "character 2"), ("*", "character 1"), ("a\nb", "line break")])
def test_what_is_no_expression_is_refused_at_its_character(log: Path, pattern: str, where: str) -> None:
    with pytest.raises(UsageError, match=where):
        search_log(log, Needle(pattern, True), Bounds(0, -1))


def test_filtered_lines_come_with_their_neighbours_once(log: Path) -> None:
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(10)) + b"hit\nhit\nafter\n")
    answer = filter_log(log, Needle("hit"), Bounds(0, -1, line_bytes=PIECE_BYTES), 2)
    assert [(line["text"], line["matched"]) for line in answer["lines"]] == [
        ("line 8\n", False), ("line 9\n", False), ("hit\n", True), ("hit\n", True), ("after\n", False),
    ]  # fmt: skip
    assert answer["lines"][2]["span"] == [0, 3]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("context", [0, 2, 5])
def test_pages_of_filtered_lines_meet_without_a_gap(log: Path, backward: bool, context: int) -> None:
    rng = random.Random(context)
    lines = [b"hit %d\n" % n if rng.random() < 0.1 else b"line %d\n" % n for n in range(2000)]
    log.write_bytes(b"".join(lines))
    got: dict[int, tuple[str, bool]] = {}
    low, high, more = 0, log.stat().st_size, True
    while more:
        page = filter_log(log, Needle("hit"), Bounds(low, high, backward, 7, PIECE_BYTES), context)
        for line in page["lines"]:
            if line["matched"] or line["offset"] not in got:
                got[line["offset"]] = (line["text"], line["matched"])
        low, high, more = (low, page["scanned_to"], page["more"]) if backward else (page["scanned_to"], high, page["more"])
    near = {m for n, line in enumerate(lines) if line.startswith(b"hit") for m in range(n - context, n + context + 1)}
    expected = [(line.decode(), line.startswith(b"hit")) for n, line in enumerate(lines) if n in near]
    assert [got[at] for at in sorted(got)] == expected


def test_of_a_long_line_the_pieces_with_hits_are_told(log: Path) -> None:
    log.write_bytes(b"x" * 10_000 + b"hit" + b"y" * 10_000 + b"hit\n")
    answer = filter_log(log, Needle("hit"), Bounds(0, -1, line_bytes=PIECE_BYTES), 0)
    assert [line["offset"] for line in answer["lines"]] == [8192, 16384]
    assert all(line["text"][slice(*line["span"])] == "hit" for line in answer["lines"])
