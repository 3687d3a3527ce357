"""Every page as it stands on 80 × 24 and on 160 × 45 cells, with a fixed clock and a fixed engine.

`LLMOPS_SNAPSHOTS=write pytest tests/tui/test_snapshots.py` writes the pictures anew; read the diff before you commit it.
"""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from llmops_tui.screens.board import Board
from llmops_tui.screens.chat import ChatScreen
from llmops_tui.screens.command_line import CommandLine
from llmops_tui.screens.compare import CompareScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.linked_page import LinkedScreen
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.quantized import QuantizedScreen
from llmops_tui.screens.rendered import RenderedScreen
from llmops_tui.screens.requests import RequestsScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.screens.serve import ServeScreen
from llmops_tui.screens.sql import SqlScreen
from llmops_tui.screens.sweep import SweepScreen
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine
from tests.tui.fake_quantized import QUANTIZED, with_quantized
from tests.tui.fake_serving import replica
from tests.tui.fake_sweep import SWEEP
from tests.tui.still import MOMENT, at_rest, still_app, still_engine

PICTURES = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (160, 45))
_PATIENCE_SECONDS = 20.0

Go = Callable[[Pilot[None]], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """How to come to what is pictured. `sizes` where not both tell something; `styled`: the colours are part of the picture."""

    go: Go
    gpus: int = 0
    sizes: tuple[tuple[int, int], ...] = SIZES
    styled: bool = False
    ascii_only: bool = False
    theme: str = ""
    lost: bool = False


def keys(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        await pilot.press(*pressed)

    return go


async def runs(pilot: Pilot[None]) -> None:
    await pilot.press("2")
    await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen) and pilot.app.screen.run_id())


async def filtered(pilot: Pilot[None]) -> None:
    await runs(pilot)
    await pilot.press("space", "space", "slash")
    pilot.app.screen.query_one("#filter").post_message(events.Paste("kind:train stae:failed"))


async def compared(pilot: Pilot[None]) -> None:
    await runs(pilot)
    pilot.app.screen.filter_by("kind:train state:succeeded id:1")  # type: ignore[attr-defined]
    await until(pilot, lambda: pilot.app.screen.run_id() == "train-support-1038")  # type: ignore[attr-defined]
    await pilot.press("space", "space", "space", "space", "o")
    await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and " 1038 " in words(pilot, "#chart"))


def swept(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        pilot.app.open_run(SWEEP)  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, SweepScreen) and "complete" in screen_text(pilot))
        await pilot.press(*pressed)

    return go


def run_page(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and "loss 1." in words(pilot, "#chart"))
        await pilot.press(*pressed)

    return go


async def watchers(pilot: Pilot[None]) -> None:
    pilot.app.client.alarmed = True  # type: ignore[attr-defined]
    await run_page("8")(pilot)
    await until(pilot, lambda: "call option" in words(pilot, "#watchers"))


def quantized(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        with_quantized(pilot.app.client)  # type: ignore[attr-defined]
        pilot.app.open_run(QUANTIZED)  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, QuantizedScreen) and "bnb-nf4" in screen_text(pilot))
        await pilot.press(*pressed)

    return go


async def linked(pilot: Pilot[None]) -> None:
    await run_page("p")(pilot)
    await until(pilot, lambda: isinstance(pilot.app.screen, LinkedScreen) and "host" in screen_text(pilot))


def new_run(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen) and "dataset.path" in words(pilot, "#fields"))
        await until(pilot, lambda: pilot.app.screen._offers._pages.get("model"))  # type: ignore[attr-defined]
        await until(pilot, lambda: "fits" in words(pilot, "#fit"))
        await pilot.press(*pressed)

    return go


def query(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        pilot.app.show_sql("SELECT step, value FROM metrics_long")  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, SqlScreen) and "train/loss" in screen_text(pilot))
        await pilot.press(*pressed)

    return go


async def confirming(pilot: Pilot[None]) -> None:
    await runs(pilot)
    pilot.app.screen.filter_by("fiqa-0002")  # type: ignore[attr-defined]
    await until(pilot, lambda: pilot.app.screen.run_id() == "train-fiqa-0002" and "1 match" in screen_text(pilot))  # type: ignore[attr-defined]
    await pilot.press("D")
    await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))


async def commanding(pilot: Pilot[None]) -> None:
    await pilot.press("colon")
    await until(pilot, lambda: isinstance(pilot.app.screen, CommandLine))
    await pilot.press("r", "e")


async def refused(pilot: Pilot[None]) -> None:
    await commanding(pilot)
    await pilot.press("x", "enter")
    await until(pilot, lambda: "there is no such command" in screen_text(pilot))


async def travelling(pilot: Pilot[None]) -> None:
    pilot.app.enter_past(MOMENT - 450.0)  # type: ignore[attr-defined]
    await until(pilot, lambda: "PAST" in screen_text(pilot) and "train/loss" in screen_text(pilot))


async def losing(pilot: Pilot[None]) -> None:
    pilot.app.client.lost = True  # type: ignore[attr-defined]
    pilot.app.hurry()  # type: ignore[attr-defined]
    await until(pilot, lambda: "RECONNECTING" in screen_text(pilot))


async def side_by_side(pilot: Pilot[None]) -> None:
    pilot.app.show_hosts(["here", "gpubox"])  # type: ignore[attr-defined]
    await until(pilot, lambda: screen_text(pilot).count("train-fiqa-0003") >= 2)


async def rendered(pilot: Pilot[None]) -> None:
    await new_run("p")(pilot)
    await until(pilot, lambda: isinstance(pilot.app.screen, RenderedScreen) and "[[Yes" in screen_text(pilot))


def served(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        await pilot.press("6")
        await until(pilot, lambda: isinstance(pilot.app.screen, ServeScreen) and "as fast as" in screen_text(pilot))
        await until(pilot, lambda: pilot.app.screen.history and "support" in pilot.app.screen.details)  # type: ignore[attr-defined]
        await pilot.press(*pressed)

    return go


async def swapping(pilot: Pilot[None]) -> None:
    serving = pilot.app.client.serving  # type: ignore[attr-defined]
    serving.swap("support", "support@v5")
    serving.kept[0]["replicas"].append(
        replica("serve-support-0077", "v5", 9009, MOMENT, state="starting", cause="loads the model: 62 %", started_at=MOMENT - 9)
    )
    await served("tab")(pilot)


async def slower(pilot: Pilot[None]) -> None:
    pilot.app.client.serving.slow = 1.4  # type: ignore[attr-defined]
    await pilot.press("6")
    await until(pilot, lambda: "is slower" in screen_text(pilot))
    await until(pilot, lambda: pilot.app.screen.history and "support" in pilot.app.screen.details)  # type: ignore[attr-defined]


async def starting(pilot: Pilot[None]) -> None:
    await served("a")(pilot)
    await until(pilot, lambda: "qwen3-4b@v2" in screen_text(pilot))
    await pilot.press("down", "enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))


async def nothing_served(pilot: Pilot[None]) -> None:
    pilot.app.client.serving.kept = []  # type: ignore[attr-defined]
    await pilot.press("6")
    await until(pilot, lambda: "nothing is served yet" in screen_text(pilot))


def requested(*pressed: str) -> Go:
    async def go(pilot: Pilot[None]) -> None:
        await served("b")(pilot)
        await until(pilot, lambda: isinstance(pilot.app.screen, RequestsScreen) and "208 match" in screen_text(pilot))
        await pilot.press(*pressed)

    return go


async def one_request(pilot: Pilot[None]) -> None:
    await requested("j", "j", "enter")(pilot)
    await until(pilot, lambda: "together" in screen_text(pilot))


def chatting(*versions: str, version: str = "", lost: bool = False) -> Go:
    """A question answered; by two versions where another is named."""

    async def go(pilot: Pilot[None]) -> None:
        app = pilot.app
        app.open_chat("support", version)  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(app.screen, ChatScreen) and app.screen.ready and "ready" in words(pilot, "#title"))
        app.screen.conversation.versions += versions  # type: ignore[attr-defined]
        app.screen.conversation.settings = {"temperature": 0.2}  # type: ignore[attr-defined]
        app.client.lost = lost  # type: ignore[attr-defined]
        app.screen.query_one("#prompt").put("How do I reset my password?")  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.conversation.turns and app.screen.conversation.turns[-1].over)  # type: ignore[attr-defined]
        if not lost:
            await pilot.press("escape", "plus")
            await until(pilot, lambda: app.screen.conversation.turns[-1].answers[0].rating)  # type: ignore[attr-defined]
            await pilot.press("i", *"And if the link is old?")

    return go


async def chat_begun(pilot: Pilot[None]) -> None:
    pilot.app.open_chat("support")  # type: ignore[attr-defined]
    await until(pilot, lambda: "ready" in screen_text(pilot) and "Ask support" in screen_text(pilot))
    await pilot.press("escape")


NARROW, WIDE = SIZES[:1], SIZES[1:]
SCENES: dict[str, Scene] = {
    "pulse": Scene(keys()),
    "pulse-gpus": Scene(keys(), gpus=4),
    "pulse-colours": Scene(keys(), gpus=4, sizes=NARROW, styled=True),
    "pulse-sixteen": Scene(keys(), gpus=4, sizes=NARROW, styled=True, theme="sixteen"),
    "pulse-ascii": Scene(keys(), gpus=4, ascii_only=True),
    "pulse-slow-line": Scene(keys("ctrl+b"), gpus=4, sizes=NARROW),
    "pulse-lost": Scene(losing, sizes=NARROW),
    "pulse-no-engine": Scene(keys(), lost=True, sizes=NARROW),
    "runs": Scene(runs),
    "runs-filter": Scene(filtered),
    "compare": Scene(compared),
    "sweep": Scene(swept()),
    "sweep-slice": Scene(swept("2", "m")),
    "sweep-matters": Scene(swept("3"), sizes=((80, 24),)),
    "sweep-ascii": Scene(swept("2", "m"), ascii_only=True, sizes=((160, 45),)),
    "run-chart": Scene(run_page("left", "left")),
    "run-metrics": Scene(run_page("2"), sizes=NARROW),
    "run-log": Scene(run_page("3"), sizes=NARROW),
    "run-samples": Scene(run_page("4")),
    "run-checkpoints": Scene(run_page("5"), sizes=NARROW),
    "run-facts": Scene(run_page("6"), sizes=NARROW),
    "run-capsule": Scene(run_page("7"), sizes=NARROW),
    "run-watchers": Scene(watchers),
    "run-memory": Scene(run_page("9")),
    "quantized": Scene(quantized("j")),
    "quantized-card": Scene(quantized("9"), sizes=NARROW),
    "quantized-ascii": Scene(quantized("j"), ascii_only=True, sizes=WIDE),
    "quantized-pick": Scene(quantized("j", "enter"), sizes=NARROW),
    "linked": Scene(linked, gpus=4),
    "new-run": Scene(new_run()),
    "new-run-field": Scene(new_run("j", "j", "enter", "down")),
    "rendered": Scene(rendered),
    "queue": Scene(keys("3")),
    "gpus": Scene(keys("4"), gpus=4),
    "gpus-none": Scene(keys("4"), sizes=NARROW),
    "inbox": Scene(keys("5")),
    "serve": Scene(served()),
    "serve-ascii": Scene(served(), ascii_only=True),
    "serve-split": Scene(served("tab", "j", "j", "j", "plus")),
    "serve-swap": Scene(swapping),
    "serve-slower": Scene(slower, sizes=NARROW),
    "serve-now": Scene(served("tab", "tab", "tab"), sizes=NARROW),
    "serve-versions": Scene(served("m"), sizes=WIDE),
    "serve-rollback": Scene(served("U"), sizes=NARROW),
    "serve-start": Scene(starting, sizes=NARROW),
    "serve-nothing": Scene(nothing_served, sizes=NARROW),
    "requests": Scene(requested()),
    "request": Scene(one_request, sizes=NARROW),
    "sql-table": Scene(query()),
    "sql-chart": Scene(query("c")),
    "help": Scene(keys("question_mark")),
    "palette": Scene(keys("ctrl+p")),
    "command-line": Scene(commanding),
    "command-refused": Scene(refused, sizes=NARROW),
    "jump": Scene(keys("apostrophe"), sizes=NARROW),
    "stop": Scene(keys("x")),
    "steer": Scene(run_page("P")),
    "reproduce": Scene(run_page("E"), sizes=NARROW),
    "confirm": Scene(confirming),
    "choose": Scene(keys("ctrl+s")),
    "choose-run": Scene(run_page("ctrl+s"), sizes=NARROW),
    "travel": Scene(travelling, gpus=4),
    "hosts": Scene(side_by_side),
    "chat": Scene(chatting("v4", version="v3")),
    "chat-begun": Scene(chat_begun, sizes=NARROW),
    "chat-lost": Scene(chatting(lost=True), sizes=NARROW),
    "chat-ascii": Scene(chatting("v4", version="v3"), ascii_only=True, sizes=WIDE),
    "tiny": Scene(keys(), sizes=((40, 10),)),
}


@asynccontextmanager
async def shown(scene: Scene, size: tuple[int, int]) -> AsyncIterator[Pilot[None]]:
    engine: FakeEngine = still_engine(scene.gpus)
    engine.lost = scene.lost
    app = still_app(engine)
    async with app.run_test(size=size) as pilot:
        app.ascii_only = scene.ascii_only
        app.set_class(scene.ascii_only, "-ascii")
        if scene.theme:
            app.wear(scene.theme)
        if scene.lost:
            await until(pilot, lambda: "no engine runs" in screen_text(pilot))
        else:
            await until(pilot, lambda: app.state.live and app.state.events and app.state.selected)
        await scene.go(pilot)
        yield pilot


def picture(pilot: Pilot[None], styled: bool) -> str:
    if not styled:
        return "\n".join(line.rstrip() for line in screen_text(pilot).splitlines()) + "\n"
    lines: list[str] = []
    for row, strip in enumerate(pilot.app.screen._compositor.render_strips()):
        lines.append(f"--- {row}")
        lines += [f"{segment.style!s:<34} |{segment.text.rstrip()}" for segment in strip.simplify() if segment.text.strip()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "size"),
    [pytest.param(name, size, id=f"{name}-{size[0]}x{size[1]}") for name, scene in SCENES.items() for size in scene.sizes],
)
async def test_a_page_looks_as_pictured(no_time_passes: None, name: str, size: tuple[int, int]) -> None:
    scene = SCENES[name]
    file = PICTURES / f"{name}-{size[0]}x{size[1]}.txt"
    async with shown(scene, size) as pilot:
        if os.environ.get("LLMOPS_SNAPSHOTS") == "write":
            await at_rest(pilot)
            file.parent.mkdir(exist_ok=True)
            file.write_text(picture(pilot, scene.styled))
        wanted = file.read_text()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (seen := picture(pilot, scene.styled)) != wanted and time.monotonic() < deadline:
            await pilot.pause(0.02)
        told = "\n".join(difflib.unified_diff(wanted.splitlines(), seen.splitlines(), f"{file.name} (pictured)", "now", lineterm="", n=0))
        assert seen == wanted, f"{told}\n\nif that is meant: LLMOPS_SNAPSHOTS=write pytest {__file__} -k '{name}'"


def test_every_picture_belongs_to_a_page() -> None:
    wanted = {f"{name}-{size[0]}x{size[1]}.txt" for name, scene in SCENES.items() for size in scene.sizes}
    assert {file.name for file in PICTURES.iterdir()} == wanted


def test_every_page_has_a_picture_of_both_sizes() -> None:
    """A new page without one is found here: each class of pages is named by the scenes that show it."""
    pages = {page.PAGE for page in Board.__subclasses__() if page.PAGE} | {"run", "runs", "compare"}
    pictured = {name.split("-")[0] for name, scene in SCENES.items() if scene.sizes == SIZES}
    assert pages - {"new"} <= pictured
    assert "new-run" in SCENES
