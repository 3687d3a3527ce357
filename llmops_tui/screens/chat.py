"""The chat: ask an endpoint, one version or two beside each other, see how fast it answers, and say what the answers were worth.

Nothing typed is lost: what is being written is remembered, a question is on disk before it is asked, and an answer that broke off stands
there with what came of it and why.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.message import Message

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings, in_force, name_of
from llmops_tui.screens.calls import call
from llmops_tui.screens.chat_asking import Asking
from llmops_tui.screens.chat_history import ChatHistory
from llmops_tui.screens.chat_session import ROUTED, Answered, Conversation, Turn, curl, markdown, table
from llmops_tui.screens.chat_settings import settings_text
from llmops_tui.screens.chat_writing import ChatWriting
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.widgets.chat_pane import ChatPane
from llmops_tui.screens.widgets.editing import one_line
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run, spaced
from llmops_tui.screens.widgets.prompt_area import PromptArea
from llmops_tui.specs.answers_serving import EndpointDetail
from llmops_tui.specs.chat_answer import ChatAnswer

_DRAW_SECONDS, _SLOW_DRAW_SECONDS = 0.1, 0.5
_NO_VERSION = "none"


@dataclass
class AnswerEnded(Message):
    """An answer of this turn came to its end, whatever that was."""

    turn: Turn


class ChatScreen(ChatWriting):
    """`endpoint` is asked; `version` outright where it is named, else as the route says."""

    BINDINGS = bindings("chat")
    PLACES = ("chat",)
    PAGE = "chat"

    def __init__(self, endpoint: str, version: str = "") -> None:
        super().__init__()
        self._endpoint = endpoint
        self._told: EndpointDetail | None = None
        self._problem = "asking the engine…"
        self._history = ChatHistory(None)
        self._wanted = ""  # the conversation that stood here when the viewer was left
        self._asking: list[Asking] = []
        self._open = True
        self.conversation = self._fresh(version)

    def compose(self) -> ComposeResult:
        """Header, whom is asked and how, the conversation, the question, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        pane = ChatPane(id="conversation")
        pane.add_class("panel")
        yield pane
        area = PromptArea(id="prompt")
        area.add_class("panel")
        yield area
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """What was said before is read, the endpoint asked for."""
        self._history = ChatHistory(self.llmops.view.beside("chats.jsonl"))
        self.query_one(ChatPane).border_title = "the conversation"
        self.write_question()
        self._timer = self.set_interval(_DRAW_SECONDS, self._tick, pause=True)
        self.run_worker(self._load())
        self.run_worker(self._look())

    def on_unmount(self) -> None:
        """Nobody reads on: what is on its way is given up, and kept as far as it came."""
        for asking in self._asking:
            asking.give_up()
        self.llmops.view.pages[self.PAGE] = self.remember()
        if self.conversation.turns:
            self._history.keep(self.conversation)

    def remember(self) -> dict[str, Any]:
        """What is being written, and whom it is for."""
        conversation = self.conversation
        return {
            "open": self._open, "endpoint": self._endpoint, "draft": self._draft, "conversation": conversation.identity,
            "versions": conversation.versions, "system": conversation.system, "settings": conversation.settings,
        }  # fmt: skip

    def recall(self, remembered: dict[str, Any]) -> None:
        """The question that was not sent; of the same endpoint also the rest."""
        draft = remembered.get("draft")
        self._draft = draft if isinstance(draft, str) else ""
        if not self.query_one(PromptArea).text:
            self.query_one(PromptArea).put(self._draft)
        if remembered.get("endpoint") != self._endpoint:
            return
        system, settings, wanted = remembered.get("system"), remembered.get("settings"), remembered.get("conversation")
        self.conversation.system = system if isinstance(system, str) else ""
        self.conversation.settings = settings if isinstance(settings, dict) else {}
        self._wanted = wanted if isinstance(wanted, str) and remembered.get("open") is True else ""

    def draw(self) -> None:
        """Whom and how, the conversation."""
        self._draw_title()
        self.query_one(ChatPane).show(self.conversation, self._welcome())

    def status_arrived(self) -> None:
        """The engine answers: an endpoint that could not be asked for may be now."""
        if self._told is None and self.state.live:
            self.run_worker(self._look(), exclusive=True, group="look")

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """A row an answer."""
        return table(self.conversation) if self.conversation.turns else None

    def export_markdown(self) -> str | None:
        """The conversation."""
        return markdown(self.conversation) if self.conversation.turns else None

    # Whom.

    def action_version(self) -> None:
        """Another version, or as the route says."""
        self.run_worker(self._choose_version(0))

    def action_beside(self) -> None:
        """A second version beside the first, or none."""
        self.run_worker(self._choose_version(1))

    # Answers.

    def action_rate(self, rating: str) -> None:
        """A good or a bad answer, kept as feedback beside the request."""
        if (meant := self.rated()) is None:
            return
        identity = meant.answer.request_id

        def kept() -> None:
            meant.rating = rating
            self.keep()
            self.redraw()

        words = f"{identity}: a {'good' if rating == 'up' else 'bad'} answer, kept as feedback"
        self.change(lambda: self.client.serving.feedback(identity, rating), words, kept)

    def action_again(self) -> None:
        """The last question once more; where nothing came of it, in its own place."""
        if not self.conversation.turns:
            self.llmops.tell("nothing was asked yet", "warn")
            return
        if self.conversation.busy:
            self.llmops.tell("an answer is on its way", "warn")
            return
        last = self.conversation.turns[-1]
        if not any(each.answer.text or each.correction for each in last.answers):
            self.conversation.turns.pop()
        self.ask(last.prompt, typed=False)

    def action_stop(self) -> None:
        """No more of the answer that is on its way."""
        if not self.conversation.busy:
            self.llmops.tell("no answer is on its way", "warn")
        for asking in self._asking:
            asking.give_up()

    def action_copy(self) -> None:
        """A curl line of the request behind the answer."""
        if self._told is None:
            self.llmops.tell(f"the endpoint's address is not known: {self._problem}", "warn")
            return
        conversation, meant = self.conversation, self.query_one(ChatPane).answered()
        row, column = (meant[0], meant[1]) if meant is not None else (-1, 0)
        if meant is None:
            body: dict[str, Any] = {**conversation.settings, "messages": [{"role": "user", "content": "Hello"}]}
        else:
            body = conversation.request(column, row + 1)
        version = meant[2].asked if meant is not None else ROUTED
        name = f"{self._told['name']}:{version}" if version else self._told["name"]
        self._copy(curl(self._told["curl"], name, body), "the request as a curl line was")

    def action_copy_answer(self) -> None:
        """The answer's text."""
        meant = self.query_one(ChatPane).answered()
        if meant is None or not meant[2].meant:
            self.llmops.tell("there is no answer yet", "warn")
            return
        self._copy(meant[2].meant, "the answer was")

    # Conversations.

    def action_new(self) -> None:
        """Begin anew, with the same system prompt and settings."""
        if self._refuse_busy():
            return
        before = self.conversation
        self.conversation = self._fresh()
        self.conversation.versions, self.conversation.system = list(before.versions), before.system
        self.conversation.settings = dict(before.settings)
        self.write_question()
        self.redraw()

    def action_step(self, by: int) -> None:
        """The conversation before, or after."""
        if self._refuse_busy():
            return
        kept = self._history.conversations(self._endpoint)
        at = next((at for at, each in enumerate(kept) if each.identity == self.conversation.identity), len(kept))
        if not 0 <= at + by < len(kept):
            self.llmops.tell("there is no earlier one" if by < 0 else "this is the newest; N begins another", "muted")
            return
        self._take_up(kept[at + by])

    async def action_search(self) -> None:
        """An earlier conversation by words in it."""
        if self._refuse_busy():
            return
        from llmops_tui.screens.chat_search import ChatSearch

        def chosen(found: Conversation | None) -> None:
            if found is not None:
                self._take_up(found)

        await self.app.push_screen(ChatSearch(self._history), chosen)

    def action_back(self) -> None:
        """To the page before."""
        self._open = False
        self.llmops.view.pages[self.PAGE] = self.remember()
        self.leave()

    # What these do.

    def on_answer_ended(self, message: AnswerEnded) -> None:
        """One of them, or the last."""
        if message.turn.over:
            self._asking = []
            self._timer.pause()
            self.keep()
        self.redraw()

    def on_descendant_focus(self) -> None:
        """The foot tells the keys that are in force."""
        self.PLACES = ("prompt",) if isinstance(self.focused, PromptArea) else ("chat",)
        self.perform(self.draw_frame)

    def on_chat_pane_chosen(self, message: ChatPane.Chosen) -> None:
        """Another answer is meant."""
        take_keys(message.pane)

    def _tick(self) -> None:
        self.perform(self.draw)

    def ask(self, text: str, typed: bool = True) -> None:
        """A question to every version; `typed`: it stood in the area, which is empty then."""
        if not text.strip():
            self.llmops.tell("nothing is written yet", "warn")
            return
        if self.refuse_in_past() or self._refuse_busy():
            return
        now = time.monotonic()
        conversation = self.conversation
        turn = Turn(text.strip(), [Answered(ChatAnswer(now, version=version), version) for version in conversation.versions])
        conversation.turns.append(turn)
        area = self.query_one(PromptArea)
        area.asked = [*(prompt for prompt in area.asked if prompt != turn.prompt), turn.prompt]
        if typed:
            area.put("")
        self.run_worker(self._send(conversation, turn))
        self.query_one(ChatPane).follow()
        self.redraw()

    async def _send(self, conversation: Conversation, turn: Turn) -> None:
        """On disk first, then asked."""
        await call(self._history.keep, conversation)
        if not self.ready or conversation is not self.conversation:
            return
        for column, each in enumerate(turn.answers):
            body = conversation.request(column) | ({"version": each.asked} if each.asked else {})
            answer = each.answer
            answer.asked_at = time.monotonic()
            self._asking.append(
                Asking(self.client.serving, self._endpoint, body, answer, lambda: self.post_message(AnswerEnded(turn)))
            )  # fmt: skip
        self._timer._interval = _SLOW_DRAW_SECONDS if self.state.slow else _DRAW_SECONDS
        self._timer.resume()

    def rated(self) -> Answered | None:
        """The answer that is meant, where something can be said of it; else it says why not."""
        meant = self.query_one(ChatPane).answered()
        if self.refuse_in_past():
            return None
        if meant is None or not meant[2].answer.over or not meant[2].answer.request_id:
            self.llmops.tell("there is no answer yet" if meant is None or not meant[2].answer.over else "this answer has no id", "warn")
            return None
        return meant[2]

    def _refuse_busy(self) -> bool:
        if self.conversation.busy:
            stop = next(name_of(key.keys[0]) for key in in_force() if key.id == "chat_stop")
            self.llmops.tell(f"an answer is on its way; Esc and {stop} give it up", "warn")
        return self.conversation.busy

    def _take_up(self, conversation: Conversation) -> None:
        """Go on with another conversation; also one with another endpoint."""
        if conversation.endpoint != self._endpoint:
            self._endpoint, self._told, self._problem = conversation.endpoint, None, "asking the engine…"
            self.run_worker(self._look())
        self.conversation = conversation
        self.redraw()

    def _fresh(self, version: str = "") -> Conversation:
        return Conversation(f"{time.time_ns():x}", self._endpoint, time.time(), [version or ROUTED])

    def keep(self) -> None:
        """In a thread, in the order it was asked for."""
        self.run_worker(self._kept(self.conversation))

    async def _kept(self, conversation: Conversation) -> None:
        await call(self._history.keep, conversation)
        if self._history.problem:
            self.llmops.tell(self._history.problem, "warn")

    async def _load(self) -> None:
        await call(self._history.load)
        if not self.ready:
            return
        self.query_one(PromptArea).asked = self._history.prompts()
        kept = next((each for each in self._history.conversations(self._endpoint) if each.identity == self._wanted), None)
        if kept is not None and not self.conversation.turns:
            self.conversation = kept
        self.redraw()

    async def _look(self) -> None:
        try:
            self._told = await call(self.client.serving.endpoint, self._endpoint)
        except LlmopsError as error:
            self._told, self._problem = None, str(error)
        if self.ready:
            self.redraw()

    async def _choose_version(self, column: int) -> None:
        if self._refuse_busy():
            return
        await self._look()
        if self._told is None:
            self.llmops.tell(self._problem, "bad")
            return
        entries = [(each["name"], f"{each['model'] or each['provider']}, {each['state']}") for each in self._told["versions"]]
        first = ("as routed", "by the weights of the route") if column == 0 else (_NO_VERSION, "one answer to each question")
        title = "who answers" if column == 0 else "who answers beside it"

        def chosen(name: str | None) -> None:
            if name is None:
                return
            versions = self.conversation.versions
            if column == 0:
                versions[0] = ROUTED if name == first[0] else name
            else:
                versions[1:] = [] if name == _NO_VERSION else [name]
            self.redraw()

        await self.app.push_screen(ChooseScreen(title, [first, *entries]), chosen)

    def _copy(self, text: str, what: str) -> None:
        self.app.copy_to_clipboard(text.encode(errors="replace").decode())
        self.llmops.tell(f"{what} sent to the terminal's clipboard (OSC 52); some terminals have to allow that", "good")

    def _draw_title(self) -> None:
        title = self.query_one("#title", LineWidget)
        conversation = self.conversation
        versions = " beside ".join(version or "as routed" for version in conversation.versions)
        left: list[Run] = [(" chat ", "title"), (f"{self._endpoint}  ", "bright"), (versions, "text")]
        if conversation.settings:
            left.append((f"  {settings_text(conversation.settings)}", "muted"))
        if conversation.system:
            left.append((f"  system: {one_line(conversation.system)}", "muted"))
        state = self._told["state"] if self._told is not None else self._problem
        role = "good" if state == "ready" else "warn" if self._told is not None else "bad"
        title.show_lines([spaced(left, [(f"  {state} ", role if state != "asking the engine…" else "muted")], title.size.width)])

    def _welcome(self) -> list[list[Run]]:
        """What stands there before the first question."""
        keys = [key for key in in_force() if key.where == "chat" and key.hint]
        shown = [[(f" {name_of(key.keys[0]):>5}  ", "key"), (key.help, "muted")] for key in keys]
        return [[], [(f" Ask {self._endpoint}. Esc leaves the question and gives the page its keys:", "text")], [], *shown]
