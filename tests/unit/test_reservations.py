"""How many reservations there may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.engine.people import Person
from llmops_tui.engine.reservations import ReservationBook
from llmops_tui.errors import ConflictError
from llmops_tui.specs.answers import GpuSample
from tests.tui.fake import gpu


async def test_one_user_has_no_end_of_reservations_and_others_have_theirs(tmp_path: Path) -> None:
    book, ada, bob = ReservationBook(tmp_path / "reservations.json"), Person("ada", 1001, "operator"), Person("bob", 1002, "operator")
    gpus: list[GpuSample] = [gpu(0), gpu(1)]
    for _ in range(50):
        made = await book.reserve(ada, [0], 60.0, "", gpus)
    with pytest.raises(ConflictError, match="the most for one user"):
        await book.reserve(ada, [0], 60.0, "", gpus)
    await book.reserve(bob, [1], 60.0, "", gpus)
    await book.release(made["id"])
    await book.reserve(ada, [0], 60.0, "", gpus)
    assert len(ReservationBook(tmp_path / "reservations.json").current()) == 51
