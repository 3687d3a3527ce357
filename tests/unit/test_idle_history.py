"""Since when a GPU idles, asked of the stored samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from llmops_tui.data.idle_history import idle_since
from llmops_tui.data.store import Store
from llmops_tui.specs.settings import EngineSettings

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "db", EngineSettings())
    yield store
    store.close()


def asked(store: Store, samples: Sequence[tuple[float, float]], index: int = 0) -> float | None:
    """The answer over samples of (seconds before now, use), one a second."""

    def put(con) -> None:  # type: ignore[no-untyped-def]
        con.execute("INSERT INTO sample_series VALUES (1, 'gpu/0/utilisation'), (2, 'gpu/1/utilisation')")
        con.executemany("INSERT INTO samples VALUES (?, 1, ?)", [(int((NOW - before) * 1000), use) for before, use in samples])

    store.write(put).result()
    return store.read(lambda con: idle_since(con, index, 0.05, 1.0, NOW))


def test_it_idles_since_it_was_used_last(store: Store) -> None:
    assert asked(store, [(500, 0.9), *((n, 0.01) for n in range(300, 0, -1)), (301, 0.05)]) == NOW - 301


def test_one_that_was_never_used_idles_since_it_was_looked_at(store: Store) -> None:
    assert asked(store, [(n, 0.0) for n in range(120, 0, -1)]) == NOW - 120


def test_what_was_not_looked_at_is_not_known(store: Store) -> None:
    assert asked(store, [(1000, 0.9), *((n, 0.0) for n in range(100, 0, -1))]) is None  # a hole of 15 minutes
    assert store.read(lambda con: idle_since(con, 1, 0.05, 1.0, NOW)) is None  # no sample at all


def test_samples_that_end_long_ago_say_nothing_about_now(store: Store) -> None:
    assert asked(store, [(n, 0.0) for n in range(1000, 100, -1)]) is None
