"""The chat: answers as they come, two versions beside each other, what breaks, what is kept, what goes out of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from textual import events
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.screens.chat import ChatScreen
from llmops_tui.screens.chat_session import Turn
from llmops_tui.screens.possible import deeds
from llmops_tui.screens.view_file import ViewFile
from llmops_tui.screens.widgets.chat_pane import ChatPane
from llmops_tui.screens.widgets.prompt_area import PromptArea
from llmops_tui.specs.chat_answer import BROKE_OFF
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine
from tests.tui.fake_chat import FakeChat
from tests.tui.fake_serving import served
from tests.tui.still import MOMENT, still_engine


class Talk:
    """A viewer on the chat page."""

    def __init__(self, pilot: Pilot[None], engine: FakeEngine) -> None:
        self.pilot, self.engine = pilot, engine

    @property
    def app(self) -> LlmopsApp:
        return cast("LlmopsApp", self.pilot.app)

    @property
    def screen(self) -> ChatScreen:
        assert isinstance(self.app.screen, ChatScreen), screen_text(self.pilot)
        return self.app.screen

    @property
    def chats(self) -> FakeChat:
        return self.engine.serving.chats

    @property
    def last(self) -> Turn:
        return self.screen.conversation.turns[-1]

    @property
    def area(self) -> PromptArea:
        return self.screen.query_one(PromptArea)

    async def until(self, condition: Callable[[], object]) -> None:
        await until(self.pilot, condition)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def write(self, text: str) -> None:
        self.area.focus()
        self.area.post_message(events.Paste(text))
        await self.until(lambda: self.area.text.endswith(text))

    async def send(self, text: str) -> None:
        """Write and send; the answer may still be on its way."""
        before = len(self.screen.conversation.turns)
        await self.write(text)
        await self.press("enter")
        await self.until(lambda: len(self.screen.conversation.turns) == before + 1)

    async def ask(self, text: str) -> None:
        """Send and have the end of it, whatever that is."""
        await self.send(text)
        await self.until(lambda: self.last.over)

    async def choose(self, key: str, by: int) -> None:
        """A version by its place in the list."""
        await self.press("escape", key)
        await self.until(lambda: self.app.screen.query("#choices") and self.app.screen.query_one("#choices").total)  # type: ignore[attr-defined]
        await self.press(*["j"] * by, "enter")
        await self.until(lambda: isinstance(self.app.screen, ChatScreen))

    def foot(self) -> str:
        return words(self.pilot, "#foot")

    def shown(self) -> str:
        return words(self.pilot, "#conversation")


@asynccontextmanager
async def talking(
    size: tuple[int, int] = (80, 24), endpoint: str = "support", view: Path | None = None, version: str = ""
) -> AsyncIterator[Talk]:
    engine = still_engine()
    engine.serving.kept = served(MOMENT)
    app = LlmopsApp(engine, status_seconds=3600.0, view=ViewFile(view))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.live)
        if endpoint:
            app.open_chat(endpoint, version)
            await until(pilot, lambda: isinstance(app.screen, ChatScreen) and app.screen.ready and not app.screen.query("#choices"))
        yield Talk(pilot, engine)


async def test_an_answer_is_read_while_it_comes_and_its_figures_follow(no_time_passes: None) -> None:
    async with talking() as talk:
        talk.chats.gate.clear()
        await talk.send("How do I reset it?")
        await talk.until(lambda: "> How do I reset it?" in talk.shown() and "To" in talk.shown())
        assert "30 minutes" not in talk.shown()
        talk.chats.gate.set()
        await talk.until(lambda: "It is good for 30 minutes." in talk.shown())
        await talk.until(lambda: "v3: 21 tokens in" in talk.shown() and "24/31 prompt tokens cached" in " ".join(talk.shown().split()))
        assert talk.area.text == ""
        assert isinstance(talk.app.focused, PromptArea)  # the next question can be typed at once


async def test_two_versions_answer_the_same_question_each_going_on_from_its_own_answers(no_time_passes: None) -> None:
    async with talking(size=(160, 45), version="v3") as talk:
        await talk.choose("b", 2)  # none, v3, v4
        assert talk.screen.conversation.versions == ["v3", "v4"]
        await talk.ask("one")
        talk.chats.says = "something else"
        await talk.ask("two")
        first, second = (body for _, body in talk.chats.bodies[-2:])
        assert {first["version"], second["version"]} == {"v3", "v4"}
        assert [each["content"] for each in first["messages"]] == ["one", talk.screen.conversation.turns[0].answers[0].answer.text, "two"]
        await talk.until(lambda: any(line.count("To reset it:") == 2 for line in talk.shown().splitlines()))
        assert any("v3" in line and "v4" in line for line in talk.shown().splitlines())


async def test_on_a_narrow_page_the_second_answer_stands_under_the_first(no_time_passes: None) -> None:
    async with talking() as talk:
        await talk.choose("b", 2)
        await talk.ask("one")
        await talk.press("escape")
        await talk.until(lambda: "v4: 21 tokens" in talk.shown())
        assert all(line.count("To reset it:") < 2 for line in talk.shown().splitlines())
        pane = talk.screen.query_one(ChatPane)
        await talk.press("l")
        await talk.until(lambda: pane.chosen == (0, 1))
        await talk.press("plus")
        await talk.until(lambda: talk.last.answers[1].rating == "up")
        assert talk.last.answers[0].rating == ""
        assert talk.engine.serving.wishes[-1][1] == talk.last.answers[1].answer.request_id


async def test_a_lost_engine_is_seen_the_question_stays_and_is_asked_again_by_a_key(no_time_passes: None) -> None:
    async with talking() as talk:
        talk.engine.lost = True
        await talk.ask("Where is my parcel?")
        await talk.until(lambda: talk.last.answers[0].answer.error.split(";")[0] in " ".join(talk.shown().split()))
        assert "> Where is my parcel?" in talk.shown()
        talk.engine.lost = False
        await talk.press("escape", "R")
        await talk.until(lambda: talk.last.over and talk.last.answers[0].answer.whole)
        assert [turn.prompt for turn in talk.screen.conversation.turns] == ["Where is my parcel?"]  # in its own place


@pytest.mark.parametrize(("breaks", "told"), [("silently", BROKE_OFF), ("error", "the server of v3 ended: killed for memory")])
async def test_an_answer_that_breaks_off_says_so_under_what_came(no_time_passes: None, breaks: str, told: str) -> None:
    async with talking() as talk:
        talk.chats.breaks = breaks
        await talk.ask("How?")
        await talk.until(lambda: told in " ".join(talk.shown().split()))
        assert "To reset" in talk.shown()
        talk.chats.breaks = ""
        await talk.ask("And now?")
        assert [each["content"] for each in talk.chats.bodies[-1][1]["messages"]] == ["And now?"]  # half an answer is no context
        await talk.press("escape", "g")
        await talk.until(lambda: told in " ".join(talk.shown().split()))


async def test_what_is_refused_is_told_in_the_engines_words(no_time_passes: None) -> None:
    async with talking() as talk:
        talk.engine.serving.refuses = "no server of support is ready"
        await talk.ask("How?")
        await talk.until(lambda: "no server of support is ready" in talk.shown())


async def test_while_an_answer_comes_another_question_waits_in_its_line(no_time_passes: None) -> None:
    async with talking() as talk:
        talk.chats.gate.clear()
        await talk.send("one")
        await talk.write("two")
        await talk.press("enter")
        await talk.until(lambda: "an answer is on its way" in talk.foot())
        assert talk.area.text == "two"
        await talk.press("escape", "N")
        assert len(talk.screen.conversation.turns) == 1
        await talk.press("x")
        await talk.until(lambda: talk.last.over)
        talk.chats.gate.set()
        assert talk.chats.streams[-1].closed


async def test_leaving_gives_up_what_is_on_its_way_and_keeps_what_came(no_time_passes: None, tmp_path: Path) -> None:
    async with talking(view=tmp_path / "view.json") as talk:
        talk.chats.gate.clear()
        await talk.send("one")
        await talk.until(lambda: talk.last.answers[0].answer.text)
        await talk.press("escape", "escape")
        await talk.until(lambda: not isinstance(talk.app.screen, ChatScreen) and talk.chats.streams[-1].closed)
        lines = (tmp_path / "view-chats.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["turns"][0]["answers"][0]["text"]


async def test_what_is_being_written_stands_again_after_leaving_and_after_a_lost_connection(no_time_passes: None, tmp_path: Path) -> None:
    view = tmp_path / "view.json"
    async with talking(view=view) as talk:
        await talk.ask("sent")
        await talk.write("half a question\nin two lines")
        await talk.press("escape", "s")
        await talk.write("Be brief.")
        await talk.press("enter", "escape")
        await talk.until(lambda: not isinstance(talk.app.screen, ChatScreen))
        talk.app.open_chat("support")
        await talk.until(lambda: isinstance(talk.app.screen, ChatScreen) and talk.app.screen.ready)
        await talk.until(lambda: talk.area.text == "half a question\nin two lines")
        assert talk.screen.conversation.system == "Be brief."
    async with talking(view=view, endpoint="") as talk:  # it was open when the viewer went
        await talk.until(lambda: isinstance(talk.app.screen, ChatScreen) and talk.app.screen.ready)
        await talk.until(lambda: talk.area.text == "half a question\nin two lines")
        await talk.press("end")
        talk.area.put("")
        await talk.press("up")
        await talk.until(lambda: talk.area.text == "sent")


async def test_earlier_conversations_are_found_by_words_and_gone_on_with(no_time_passes: None, tmp_path: Path) -> None:
    view = tmp_path / "view.json"
    async with talking(view=view) as talk:
        for text in ("Where is my parcel?", "How do I pay?"):
            await talk.ask(text)
            await talk.press("escape", "N")
    async with talking(view=view) as talk:
        await talk.until(lambda: list(talk.area.asked) == ["Where is my parcel?", "How do I pay?"])
        await talk.press("escape", "slash")
        await talk.until(lambda: talk.app.screen.query("#matching") and talk.app.screen.query_one("#matching").total == 2)  # type: ignore[attr-defined]
        await talk.press(*"parcel")
        await talk.until(lambda: talk.app.screen.query_one("#matching").total == 1)  # type: ignore[attr-defined]
        await talk.press("enter")
        await talk.until(lambda: isinstance(talk.app.screen, ChatScreen) and "> Where is my parcel?" in talk.shown())
        await talk.ask("And now?")
        assert talk.chats.bodies[-1][1]["messages"][0]["content"] == "Where is my parcel?"


async def test_a_correction_is_feedback_and_the_conversation_goes_on_from_it(no_time_passes: None) -> None:
    async with talking() as talk:
        await talk.ask("How?")
        await talk.press("escape", "e")
        assert talk.area.text == talk.last.answers[0].answer.text
        talk.area.put("Call us.")
        await talk.press("enter")
        await talk.until(lambda: talk.last.answers[0].correction == "Call us.")
        assert talk.engine.serving.wishes[-1] == ("feedback", talk.last.answers[0].answer.request_id, (None, "", "Call us."))
        await talk.ask("When?")
        assert [each["content"] for each in talk.chats.bodies[-1][1]["messages"]] == ["How?", "Call us.", "When?"]


async def test_feedback_that_is_refused_changes_nothing_here(no_time_passes: None) -> None:
    async with talking() as talk:
        await talk.press("escape", "plus")
        await talk.until(lambda: "there is no answer yet" in talk.foot())
        await talk.ask("How?")
        talk.engine.serving.refuses = "the disk is full"
        await talk.press("escape", "plus")
        await talk.until(lambda: "the disk is full" in talk.foot())
        assert talk.last.answers[0].rating == ""


async def test_options_that_are_none_are_refused_and_stay_to_be_mended(no_time_passes: None) -> None:
    async with talking() as talk:
        await talk.press("escape", "o")
        await talk.write("temperature")
        await talk.press("enter")
        await talk.until(lambda: "is not KEY=VALUE" in talk.foot())
        assert talk.area.text == "temperature"
        talk.area.put("temperature=0.5 seed=7")
        await talk.press("enter")
        await talk.until(lambda: talk.screen.conversation.settings == {"temperature": 0.5, "seed": 7})
        await talk.ask("How?")
        assert (talk.chats.bodies[-1][1]["temperature"], talk.chats.bodies[-1][1]["seed"]) == (0.5, 7)
        assert "temperature=0.5 seed=7" in words(talk.pilot, "#title")


async def test_an_endpoint_that_is_not_there_is_told_and_nothing_typed_is_lost(no_time_passes: None) -> None:
    async with talking(endpoint="nobody") as talk:
        await talk.until(lambda: "there is no endpoint 'nobody'" in words(talk.pilot, "#title"))
        await talk.ask("How?")
        await talk.until(lambda: "there is no endpoint 'nobody'" in talk.shown())
        await talk.press("escape", "v")
        await talk.until(lambda: "there is no endpoint 'nobody'" in talk.foot())
        await talk.press("y")
        await talk.until(lambda: "the endpoint's address is not known" in talk.foot())


async def test_nothing_is_sent_from_the_past_nor_where_nothing_is_written(no_time_passes: None) -> None:
    async with talking() as talk:
        await talk.press("enter")
        await talk.until(lambda: "nothing is written yet" in talk.foot())
        talk.app.state.moment = MOMENT - 60
        await talk.write("How?")
        await talk.press("enter")
        await talk.until(lambda: "this is the past" in talk.foot())
        assert talk.area.text == "How?"
        assert talk.chats.bodies == []


async def test_a_models_words_cannot_steer_the_terminal(no_time_passes: None) -> None:
    async with talking() as talk:
        talk.chats.says = "red \x1b[31m \x1b]52;c;aGk=\x07 [bold]no markup[/]"
        await talk.ask("\x1b[2J [red]How?[/]")
        await talk.until(lambda: "[bold]no markup[/]" in talk.shown() and "[red]How?[/]" in talk.shown())
        assert "\x1b" not in screen_text(talk.pilot)


async def test_the_conversation_is_written_as_markdown_and_as_rows(
    no_time_passes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with talking() as talk:
        await talk.ask("How do I reset it?")
        for form, file in (("markdown", "talk.md"), ("json", "talk.json")):
            talk.app.export(form, file)
            await talk.until(lambda file=file: (tmp_path / file).exists())
        page = (tmp_path / "talk.md").read_text()
        assert "## How do I reset it?" in page
        assert "curl -X POST" in page
        rows = json.loads((tmp_path / "talk.json").read_text())
        assert [(row["prompt"], row["version"], row["completion_tokens"]) for row in rows] == [("How do I reset it?", "v3", 21)]


async def test_a_command_opens_it_and_the_palette_has_its_keys(no_time_passes: None) -> None:
    async with talking(endpoint="") as talk:
        await talk.press("colon", *"chat support v4", "enter")
        await talk.until(lambda: isinstance(talk.app.screen, ChatScreen) and talk.app.screen.ready)
        assert talk.screen.conversation.versions == ["v4"]
        await talk.press("escape")
        assert "the system prompt" in [deed.words for deed in deeds(talk.app)]
        await talk.ask("How?")
        assert talk.chats.bodies[-1][1]["version"] == "v4"


async def test_a_long_answer_is_followed_until_one_scrolls_away_from_its_end(no_time_passes: None) -> None:
    async with talking() as talk:
        talk.chats.says = "\n\n".join(f"Paragraph {number}." for number in range(60))
        talk.chats.gate.clear()
        await talk.send("much")
        await talk.press("escape", "g")
        talk.chats.gate.set()
        await talk.until(lambda: talk.last.over)
        assert "> much" in talk.shown()
        await talk.press("G")
        await talk.until(lambda: "Paragraph 59." in talk.shown())
        await talk.press("pageup")
        await talk.until(lambda: "Paragraph 59." not in talk.shown())
