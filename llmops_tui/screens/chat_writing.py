"""What is written on the chat's page: questions, and beside them the system prompt, the fields of the request, corrections."""

from __future__ import annotations

import contextlib
import os
import tempfile

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import in_force, name_of
from llmops_tui.screens.board import Board
from llmops_tui.screens.chat_session import Answered, Conversation
from llmops_tui.screens.chat_settings import read_settings, settings_text
from llmops_tui.screens.widgets.chat_pane import ChatPane
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.prompt_area import PromptArea

_QUESTION, _SYSTEM, _SETTINGS, _CORRECTION = "question", "system", "settings", "correction"
_TITLES = {
    _QUESTION: "your question: {send} sends it, {line}: another line, {editor}: your editor",
    _SYSTEM: "the system prompt, from the next question on: {send} keeps it, {leave} leaves it as it was",
    _SETTINGS: "fields of the request, as temperature=0.2 top_p=0.9 max_tokens=256 seed=7: {send} keeps them",
    _CORRECTION: "what the answer should have been: {send} keeps it as feedback, {leave} drops it",
}


class ChatWriting(Board):
    """One area for all of it: what is begun beside the question lets the question wait (`_draft`) and come back."""

    conversation: Conversation

    def __init__(self) -> None:
        super().__init__()
        self._writing = _QUESTION
        self._draft = ""  # the question as far as it is written
        self._about: Answered | None = None

    def ask(self, text: str) -> None:
        """A question was sent."""
        raise NotImplementedError

    def rated(self) -> Answered | None:
        """The answer that is meant, where something can be said of it; else it says why not."""
        raise NotImplementedError

    def keep(self) -> None:
        """Write the conversation down."""
        raise NotImplementedError

    def write_question(self) -> None:
        """The question as far as it is written."""
        self._begin(_QUESTION, self._draft)

    def action_write(self) -> None:
        """Into the question."""
        take_keys(self.query_one(PromptArea))

    def action_system(self) -> None:
        """Write the system prompt."""
        self._begin(_SYSTEM, self.conversation.system)

    def action_settings(self) -> None:
        """Write the fields of the request."""
        self._begin(_SETTINGS, settings_text(self.conversation.settings))

    def action_edit(self) -> None:
        """Write what the answer should have been."""
        if (meant := self.rated()) is not None:
            self._about = meant
            self._begin(_CORRECTION, meant.meant)

    def on_prompt_area_editor_wanted(self, message: PromptArea.EditorWanted) -> None:
        """What is being written, in the user's own editor."""
        from llmops_tui.screens.editor import edit

        area = message.area
        descriptor, path = tempfile.mkstemp(prefix="llmops-chat-", suffix=".md")
        try:
            with os.fdopen(descriptor, "w", errors="surrogateescape") as file:
                file.write(area.text)
            edit(self.app, "", path)
            with open(path, errors="replace") as file:
                area.put(file.read().rstrip("\n"))
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
        except OSError as error:
            self.llmops.tell(f"{path}: {error.strerror}", "bad")
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def on_text_area_changed(self, message: PromptArea.Changed) -> None:
        """A question that is begun is remembered as it stands."""
        if self._writing == _QUESTION:
            self._draft = message.text_area.text

    def on_prompt_area_sent(self, message: PromptArea.Sent) -> None:
        """Enter, whatever was written."""
        if self._writing == _QUESTION:
            self.ask(message.text)
        elif self._writing == _SYSTEM:
            self.conversation.system = message.text.strip()
            self._done("the system prompt holds from the next question on" if message.text.strip() else "no system prompt any more")
        elif self._writing == _SETTINGS:
            try:
                self.conversation.settings = read_settings(message.text)
            except LlmopsError as error:
                self.llmops.tell(str(error), "bad")
            else:
                self._done("these hold from the next question on")
        else:
            self._correct(message.text.strip())

    def on_prompt_area_left(self, message: PromptArea.Left) -> None:
        """Escape: the page takes the keys; what was begun beside the question is dropped."""
        if self._writing != _QUESTION:
            self._done("")
        take_keys(self.query_one(ChatPane))

    def _correct(self, text: str) -> None:
        meant, self._about = self._about, None
        if meant is None or not text or text == meant.meant:
            self._done("nothing was changed")
            return
        identity = meant.answer.request_id

        def kept() -> None:
            meant.correction = text
            self.keep()
            self.redraw()

        self._done("")
        words = f"{identity}: corrected, kept as feedback; the conversation goes on from it"
        self.change(lambda: self.client.serving.feedback(identity, None, correction=text), words, kept)

    def _begin(self, what: str, text: str) -> None:
        """Write something; the question that was begun waits."""
        area = self.query_one(PromptArea)
        if self._writing == _QUESTION and what != _QUESTION:
            self._draft = area.text
        self._writing = what
        keys = {key.id: name_of(key.keys[0]) for key in in_force()}
        title = _TITLES[what].format(
            send=keys["prompt_send"], line=keys["prompt_line"], editor=keys["prompt_editor"], leave=keys["prompt_leave"]
        )
        area.border_title = title
        area.put(text)
        take_keys(area)

    def _done(self, words: str) -> None:
        """Back to the question; the keys stay in the conversation."""
        self._begin(_QUESTION, self._draft)
        take_keys(self.query_one(ChatPane))
        if words:
            self.llmops.tell(words, "good")
        self.redraw()
