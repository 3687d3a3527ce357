"""The page of a quantize run: its forms as a table, the card of the one under the cursor, and the pick."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.quantized import QuantizedScreen
from llmops_tui.screens.run import RunScreen
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine
from tests.tui.fake_quantized import QUANTIZED, with_quantized


class QuantizedEngine(FakeEngine):
    """An engine with one quantize run that has ended."""

    def run(self, run_id: str, /) -> Any:
        detail: dict[str, Any] = dict(super().run(run_id))
        if run_id == QUANTIZED:
            detail["journal"] = [*detail["journal"], *self.journal]
        return detail

    journal: list[dict[str, Any]] = []  # noqa: RUF012 - set anew for each engine
    picked: list[tuple[str, str, bool]] = []  # noqa: RUF012

    def pick(self, run_id: str, word: str, /, remove_others: bool = False) -> Any:
        self.picked = [*self.picked, (run_id, word, remove_others)]
        data = {"type": word, "model": f"smollm2-{word.lower()}@v1", "removed": ["F16", "bnb-nf4"] if remove_others else []}
        self.journal = [{"t": self.now, "entry": "pick", "state": None, "attempt": 1, "reason": "", "data": data}]
        return {"name": "smollm2", "version": 1}


@pytest.fixture
def quantized() -> QuantizedEngine:
    engine = QuantizedEngine()
    with_quantized(engine)
    return engine


@asynccontextmanager
async def opened(engine: QuantizedEngine, size: tuple[int, int]) -> AsyncIterator[Pilot[None]]:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.selected)
        app.open_run(QUANTIZED)
        await until(pilot, lambda: isinstance(app.screen, QuantizedScreen) and "Q8_0" in screen_text(pilot))
        yield pilot


async def test_a_narrow_page_shows_the_forms_first_with_what_they_cost(quantized: QuantizedEngine) -> None:
    async with opened(quantized, (80, 24)) as pilot:
        lines = [line.split() for line in words(pilot, "#metrics").splitlines()]
        assert ["▸*", "F16", "258.3", "MiB", "22.105", "+0.00", "%", "50.2"] in [line[:8] for line in lines]
        assert any(line[:2] == ["bnb-nf4", "104.9"] for line in lines)
        assert "* is beaten by no other; Enter picks" in screen_text(pilot)


async def test_a_wide_page_has_the_card_of_the_form_under_the_cursor_beside(quantized: QuantizedEngine) -> None:
    async with opened(quantized, (160, 45)) as pilot:
        await until(pilot, lambda: "22.104 before, 22.105 after" in screen_text(pilot))
        await pilot.press("j")
        await until(pilot, lambda: "22.104 before, 22.310 after (+0.93 %)" in screen_text(pilot))
        text = screen_text(pilot)
        for part in (
            "card of Q8_0",
            "rows of fiqa.jsonl",
            "llama.cpp itself (xllamacpp 2026.10)",
            "token_embd",
            "<|im_end|> (2), as its source's",
            "step  3999",
        ):
            assert part in text


async def test_enter_asks_whether_the_others_stay_and_picks(quantized: QuantizedEngine) -> None:
    async with opened(quantized, (80, 24)) as pilot:
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen) and "register Q8_0 as smollm2-q8_0" in screen_text(pilot))
        assert "delete the others' files" in screen_text(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert quantized.picked == []
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("j", "enter")
        await until(pilot, lambda: quantized.picked == [(QUANTIZED, "Q8_0", True)])
    async with opened(quantized, (160, 45)) as pilot:
        await until(pilot, lambda: "smollm2-q8_0@v1" in words(pilot, "#metrics") and "removed" in words(pilot, "#metrics"))
