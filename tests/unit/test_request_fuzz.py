"""Whatever stands in the spool, the ingest takes it or counts it: nothing stops it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops_tui.data.request_lines import FEEDBACK, REQUEST, TEXT, parse
from llmops_tui.data.request_store import SpoolPosition, Stretch, write_requests
from llmops_tui.data.store import Store
from llmops_tui.specs.settings import EngineSettings

NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none())
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.one_of(NUMBERS, WORDS), lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3))
)
RECORDS = st.fixed_dictionaries(
    {"type": st.sampled_from(["request", "feedback", None, "novelty"])},
    optional={name: st.one_of(VALUES, NUMBERS, WORDS) for name in {*REQUEST, *FEEDBACK, *TEXT, "messages"}},
)
LINES = st.one_of(RECORDS.map(orjson.dumps), st.binary(max_size=60).filter(lambda raw: b"\n" not in raw))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(Path(tmp_path_factory.mktemp("fuzz")) / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=st.lists(LINES, max_size=6), spool=st.sampled_from(["requests", "texts"]), final=st.booleans())
def test_any_lines_are_taken_or_counted(store: Store, lines: list[bytes], spool: str, final: bool) -> None:
    data = b"\n".join(lines) + (b"" if final else b"\n")
    batch = parse(data, 0, spool, final=final)
    assert batch.end == len(data)
    taken = len(batch.requests) + len(batch.feedback) + len(batch.texts)
    assert taken + batch.broken + batch.unknown == batch.lines
    assert batch.lines == sum(bool(line.strip()) for line in lines)

    def write_and_forget(con: object) -> None:
        write_requests(con, [Stretch(SpoolPosition(spool, 1, "head"), batch)])  # type: ignore[arg-type]
        for table in ("requests", "request_texts", "feedback", "spool_offsets"):
            con.execute(f"DELETE FROM {table}")  # type: ignore[attr-defined]

    store.write(write_and_forget).result()
