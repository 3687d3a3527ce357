"""The chat on a stage: an answered question, and one being written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from llmops_tui.screens.chat import ChatScreen
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.widgets.chat_pane import ChatPane
from llmops_tui.screens.widgets.prompt_area import PromptArea
from tests.tui.desk import OVER_PAGES, Desk, stage
from tests.tui.driving import words
from tests.tui.fake_serving import served
from tests.tui.key_effects import effect, put
from tests.tui.still import MOMENT


async def opened(desk: Desk) -> None:
    desk.engine.serving.kept = served(MOMENT)
    desk.app.open_chat("support")
    await desk.until(lambda: isinstance(desk.screen, ChatScreen) and desk.screen.ready and "ready" in words(desk.pilot, "#title"))


async def asked(desk: Desk, text: str) -> None:
    """Ask and have the answer."""
    before = len(desk.screen.conversation.turns)
    area = desk.screen.query_one(PromptArea)
    area.focus()
    area.put(text)
    await desk.press("enter")
    await desk.until(lambda: len(desk.screen.conversation.turns) == before + 1 and desk.screen.conversation.turns[-1].over)


@stage("chat", "chat chat_pane", OVER_PAGES, "chat chat_pane")
async def answered(desk: Desk) -> None:
    await opened(desk)
    for number in range(3):
        await asked(desk, f"question {number}")
    await desk.press("escape")
    desk.focused(ChatPane).action_end(True)
    await desk.until(lambda: "21 tokens" in words(desk.pilot, "#conversation"))


@stage("chat-prompt", "prompt chat", OVER_PAGES, "prompt")
async def writing(desk: Desk) -> None:
    await opened(desk)
    desk.focused(PromptArea).asked = ["first", "second"]


def pane(desk: Desk) -> ChatPane:
    return desk.focused(ChatPane)


def scrolls(begin_last: bool, goes: Callable[[int, int], bool]) -> Callable[[Desk], Awaitable[None]]:
    async def press(desk: Desk) -> None:
        pane(desk).action_end(begin_last)
        before = pane(desk)._top
        assert before or not begin_last
        await desk.press()
        await desk.until(lambda: goes(before, pane(desk)._top))

    return press


put({
    "chat_down": scrolls(False, lambda before, after: after == 1),
    "chat_up": scrolls(True, lambda before, after: after == before - 1),
    "chat_page_down": scrolls(False, lambda before, after: after > 5),
    "chat_page_up": scrolls(True, lambda before, after: after < before - 5),
    "chat_first": scrolls(True, lambda before, after: after == 0),
    "chat_last": scrolls(False, lambda before, after: after > 5),
})  # fmt: skip


@effect("chat_next", "chat_previous")
async def another_answer(desk: Desk) -> None:
    by = 1 if desk.key in ("l", "right") else -1
    pane(desk).chosen = (1, 0)
    await desk.press()
    await desk.until(lambda: pane(desk).chosen == (1 + by, 0))


@effect("chat_write")
async def writes(desk: Desk) -> None:
    await desk.press()
    desk.focused(PromptArea)


@effect("chat_version", "chat_beside")
async def who_answers(desk: Desk) -> None:
    column = 0 if desk.key == "v" else 1
    await desk.press()
    await desk.until(lambda: isinstance(desk.screen, ChooseScreen) and desk.screen.query_one("#choices").total == 4)
    await desk.press("j", "j", "enter")
    await desk.until(lambda: isinstance(desk.screen, ChatScreen) and desk.screen.conversation.versions[column:] == ["v4"])


def written(text: str, holds: Callable[[Any], bool]) -> Callable[[Desk], Awaitable[None]]:
    """The key opens the area for something else than the question; what was written there is kept somewhere."""

    async def press(desk: Desk) -> None:
        desk.screen._draft = ""
        desk.screen.query_one(PromptArea).put("a question begun")
        await desk.press()
        area = desk.focused(PromptArea)
        area.put(text)
        await desk.press("enter")
        await desk.until(lambda: holds(desk.screen))
        pane(desk)
        assert area.text == "a question begun"

    return press


put({
    "chat_system": written("Be brief.", lambda screen: screen.conversation.system == "Be brief."),
    "chat_settings": written("temperature=0.5", lambda screen: screen.conversation.settings == {"temperature": 0.5}),
    "chat_edit": written("It should be this.", lambda screen: screen.conversation.turns[-1].answers[0].correction == "It should be this."),
})  # fmt: skip


@effect("chat_good", "chat_bad")
async def rates(desk: Desk) -> None:
    rating = "up" if desk.key == "plus" else "down"
    await desk.press()
    meant = pane(desk).answered()
    assert meant is not None
    await desk.until(lambda: meant[2].rating == rating)
    assert desk.engine.serving.wishes[-1] == ("feedback", meant[2].answer.request_id, (rating, "", ""))


@effect("chat_copy", "chat_copy_answer")
async def copies(desk: Desk) -> None:
    meant = pane(desk).answered()
    assert meant is not None
    desk.app.copy_to_clipboard("nothing yet")
    await desk.press()
    await desk.until(lambda: desk.app.clipboard != "nothing yet" and "OSC 52" in words(desk.pilot, "#foot"))
    if desk.key == "y":
        assert desk.app.clipboard.startswith("curl http://")
        assert '"model": "support"' in desk.app.clipboard
    else:
        assert desk.app.clipboard == meant[2].meant


@effect("chat_again")
async def asks_again(desk: Desk) -> None:
    before = len(desk.screen.conversation.turns)
    await desk.press()
    await desk.until(lambda: len(desk.screen.conversation.turns) == before + 1 and desk.screen.conversation.turns[-1].over)
    assert desk.screen.conversation.turns[-1].prompt == desk.screen.conversation.turns[-2].prompt


@effect("chat_stop")
async def gives_up(desk: Desk) -> None:
    desk.engine.serving.chats.gate.clear()
    try:
        desk.screen.ask("a long one")
        await desk.until(lambda: desk.screen.conversation.turns[-1].answers[0].answer.text)
        await desk.press()
        await desk.until(lambda: desk.screen.conversation.turns[-1].over)
    finally:
        desk.engine.serving.chats.gate.set()
    assert desk.screen.conversation.turns[-1].answers[0].answer.finish == "given up"
    assert desk.engine.serving.chats.streams[-1].closed


@effect("chat_new")
async def begins_anew(desk: Desk) -> None:
    before = desk.screen.conversation
    await desk.press()
    await desk.until(lambda: desk.screen.conversation is not before and not desk.screen.conversation.turns)


@effect("chat_search")
async def searches(desk: Desk) -> None:
    wanted = desk.screen.conversation.identity
    await desk.press()
    await desk.until(lambda: desk.screen.query("#matching") and desk.screen.query_one("#matching").total)
    await desk.press(*"question", "enter")
    await desk.until(lambda: isinstance(desk.screen, ChatScreen) and desk.screen.conversation.identity == wanted)


@effect("chat_older", "chat_newer")
async def back_and_forth(desk: Desk) -> None:
    first = desk.screen.conversation.identity
    await desk.press("N")
    await asked(desk, "in another conversation")
    second = desk.screen.conversation.identity
    await desk.press("escape", "left_square_bracket")
    await desk.until(lambda: desk.screen.conversation.identity == first)
    await desk.press("right_square_bracket")
    await desk.until(lambda: desk.screen.conversation.identity == second)


@effect("chat_back")
async def leaves(desk: Desk) -> None:
    await desk.press()
    await desk.until(lambda: not isinstance(desk.screen, ChatScreen))
    assert desk.app.view.pages["chat"]["open"] is False


# Writing a question.


@effect("prompt_send")
async def sends(desk: Desk) -> None:
    await asked(desk, "a question")
    assert desk.focused(PromptArea).text == ""
    assert desk.engine.serving.chats.bodies[-1][1]["messages"][-1] == {"role": "user", "content": "a question"}


@effect("prompt_leave")
async def keeps_it(desk: Desk) -> None:
    area = desk.focused(PromptArea)
    area.put("half a question")
    await desk.press()
    pane(desk)
    assert area.text == "half a question"


@effect("prompt_older", "prompt_newer")
async def recalls(desk: Desk) -> None:
    area = desk.focused(PromptArea)
    area.put("being written\nin two lines")
    await desk.press("up", "up")
    await desk.until(lambda: area.text == "second")
    await desk.press("up")
    await desk.until(lambda: area.text == "first")
    await desk.press("down", "down")
    await desk.until(lambda: area.text == "being written\nin two lines")


@effect("prompt_editor")
async def in_an_editor(desk: Desk) -> None:
    area = desk.focused(PromptArea)
    area.put("to be edited")
    before = len(desk.edited)
    await desk.press()
    await desk.until(lambda: len(desk.edited) == before + 1)


def edits(text: str, at: tuple[int, int], then: str, there: tuple[int, int]) -> Callable[[Desk], Awaitable[None]]:
    async def press(desk: Desk) -> None:
        area = desk.focused(PromptArea)
        area.put(text)
        area.move_cursor(at)
        await desk.press()
        await desk.until(lambda: (area.text, area.cursor_location) == (then, there))

    return press


put({
    "prompt_line": edits("one two", (0, 3), "one\n two", (1, 0)),
    "prompt_left": edits("one two", (0, 5), "one two", (0, 4)), "prompt_right": edits("one two", (0, 5), "one two", (0, 6)),
    "prompt_word_left": edits("one two", (0, 6), "one two", (0, 4)), "prompt_word_right": edits("one two", (0, 1), "one two", (0, 3)),
    "prompt_start": edits("one two", (0, 5), "one two", (0, 0)), "prompt_end": edits("one two", (0, 2), "one two", (0, 7)),
    "prompt_rub": edits("one two", (0, 5), "one wo", (0, 4)), "prompt_delete": edits("one two", (0, 4), "one wo", (0, 4)),
    "prompt_rub_word": edits("one two", (0, 7), "one ", (0, 4)), "prompt_rub_start": edits("one two", (0, 4), "two", (0, 0)),
})  # fmt: skip


@effect("prompt_undo")
async def undoes(desk: Desk) -> None:
    area = desk.focused(PromptArea)
    area.put("kept")
    await desk.press("x")
    await desk.until(lambda: area.text == "keptx")
    await desk.press()
    await desk.until(lambda: area.text == "kept")
