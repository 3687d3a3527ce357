"""New run: a form made from the spec.

It begins with the newest run's spec, another run's, what was left unlaunched, fields that a page gave it, or empty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings, keys_of, name_of
from llmops_tui.screens.beginnings import Beginnings
from llmops_tui.screens.calls import call
from llmops_tui.screens.draft import Draft
from llmops_tui.screens.draft_feed import DraftFeed
from llmops_tui.screens.form_rows import KIND, LAUNCH, about_lines, command_lines, finding_lines, form_rows
from llmops_tui.screens.offers import Offer, OfferBook, choice_offers, looks_like_path, path_offers
from llmops_tui.screens.palette import plain_text
from llmops_tui.screens.spec_text import command_line, read_spec, yaml_page
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.form import FormView
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.specs.field_words import value_of
from llmops_tui.specs.states import JOB_KINDS

_FEW_CHOICES = 3  # of a field with no more, Enter takes the next one


class NewRunScreen(DraftFeed):
    """`base`: the run whose spec it begins with; without one it is the newest run's, of `kind` if one is named. `given`: fields filled in.

    `again`: the form stands again after a lost terminal; its cursor is then on a field: an Enter meant for the shell launches nothing.
    """

    BINDINGS = bindings("form")
    PLACES = ("form",)
    PAGE = "new"

    def __init__(
        self, kind: str | None = None, base: str | None = None, again: bool = False, given: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self._asked = kind, base
        self._given = given
        self._beginnings: Beginnings
        self._offers = OfferBook()
        self._opening = False
        self._why = "asking the engine for the fields…"
        self._every = False
        self._kept_file = ""
        self._wanted = KIND if again else ""  # the field the next drawing puts the cursor on
        self._found_from = ""  # the field the search began at

    def compose(self) -> ComposeResult:
        """Header; the fields; what the field means, the command, what was found; foot."""
        yield LineWidget(id="header")
        with Container(id="form"):
            yield FormView(id="fields")
            with Container(id="beside"):
                for name in ("about", "equal", "fit", "found"):
                    yield LineWidget(id=name, classes="panel")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask for the form."""
        self._beginnings = Beginnings(self.client, *self._asked, self._here(), self._given)
        fields = self.query_one(FormView)
        fields.add_class("panel")
        take_keys(fields)
        self.query_one("#equal").border_title = f"the same on the command line ({self._key('form_copy')} copies)"
        self.query_one("#fit").border_title = "what it takes"
        self.query_one("#found").border_title = "check"
        self.call_after_refresh(self._begin)

    def remember(self) -> dict[str, Any]:
        """Both drafts: of a new run and of a clone, each until it is launched."""
        if self.draft is not None:
            self._beginnings.keep(None if self.launched else self.draft)
        return {**self._beginnings.remember(), "open": not self.launched, "every": self._every}

    def recall(self, remembered: dict[str, Any]) -> None:
        """What was left unlaunched."""
        self._beginnings.recall(remembered)
        self._every = remembered.get("every") is True

    def status_arrived(self) -> None:
        """The engine answers: a form that could not be opened may be now."""
        self._begin()

    def draw(self) -> None:
        """Everything between header and foot."""
        view, draft = self.query_one(FormView), self.draft
        if draft is None:
            view.border_title = "new run"
            view.show([], empty=self._why)
            return
        view.border_title = plain_text(self._title(draft)) if self.llmops.ascii_only else self._title(draft)
        names = {"launch": self._key("form_launch"), "turn": self._key("fields_turn")}
        busy = "being submitted…" if self.launching else ""
        wanted, self._wanted = self._wanted, ""
        rows = form_rows(draft, self._every, busy, names)
        if wanted and not any(row.key == wanted for row in rows):
            self._every = True
            rows = form_rows(draft, True, busy, names)
        view.show(rows, wanted)
        self._draw_beside()

    def action_toggle_all(self) -> None:
        """Common fields or every one."""
        self._every = not self._every
        self.redraw()

    def action_rows(self) -> None:
        """The first rows as the model will meet them, on a page of their own."""
        self.take_written()
        if (draft := self.draft) is None:
            return
        if draft.kind != "train" or not draft.words("model") or not draft.words("dataset.path"):
            self.llmops.tell("rows are rendered of a train run with a model and a dataset", "warn")
            return
        from llmops_tui.screens.rendered import RenderedScreen

        self.app.push_screen(RenderedScreen(draft.spec(), draft.cwd))

    def action_copy(self) -> None:
        """The equal command into the clipboard of the terminal."""
        if self.draft is not None:
            self.app.copy_to_clipboard(self._command(self.draft).encode(errors="replace").decode())
            self.llmops.tell("the command was sent to the terminal's clipboard (OSC 52); some terminals have to allow that", "good")

    def action_empty(self) -> None:
        """Nothing set."""
        if self.draft is not None:
            self._take(Draft(self.draft.form, self._here()))

    def action_last(self) -> None:
        """The newest run's spec, whatever was typed."""
        if not self._opening:
            self._beginnings.use_newest()
            self._opening = True
            self.run_worker(self._open())

    def action_find(self) -> None:
        """Choose a field by its name."""
        if self.draft is not None:
            view = self.query_one(FormView)
            self._found_from = view.key
            self.go_to(KIND)
            view.write("", "a field's name", [Offer(key, field["description"]) for key, field in self.draft.fields.items()], True, True)

    def action_back(self) -> None:
        """To the page before; the draft stays."""
        self.llmops.view.pages[self.PAGE] = {**self.remember(), "open": False}
        self.leave()

    def action_editor(self) -> None:
        """The spec as YAML; what is wrong with it stands at its fields afterwards, and the file is kept."""
        self.take_written()
        if (draft := self.draft) is None:
            return
        from llmops_tui.commands.spec_file import read_mapping  # YAML is not needed for a first frame
        from llmops_tui.screens.editor import edit

        try:
            file = edit(self.app, yaml_page(draft.form, draft.ordered(), draft.texts, draft.faults), self._kept_file)
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
            return
        self._kept_file = file
        try:
            spec = read_mapping(file)
        except LlmopsError as error:
            draft.trouble = f"{error.message}: {self._key('form_editor')} opens it again"
            self.redraw()
            return
        draft.take(*read_spec(draft.form, spec))
        if not draft.trouble:
            self._kept_file = ""
            os.unlink(file)
        self._changed()
        if (wrong := draft.first_wrong()) is not None:
            self.go_to(wrong)

    def on_form_view_field_reached(self, message: FormView.FieldReached) -> None:
        """Another field is explained."""
        self.perform(self._draw_beside)

    def on_form_view_field_chosen(self, message: FormView.FieldChosen) -> None:
        """Write in it, or launch."""
        if message.key == LAUNCH:
            self.action_launch()
        elif self.draft is not None:
            self._write(message.key)

    def on_form_view_editor_wanted(self) -> None:
        """From within a field."""
        self.action_editor()

    def on_form_view_digit_typed(self, message: FormView.DigitTyped) -> None:
        """Write a number at once."""
        field = self.draft.fields.get(message.key) if self.draft is not None else None
        if field is not None and field["type"] in ("integer", "number"):
            self.query_one(FormView).write(message.digit, "", [], False, False)

    def on_form_view_field_turned(self, message: FormView.FieldTurned) -> None:
        """The next of its choices."""
        if (draft := self.draft) is None or (message.key != KIND and message.key not in draft.fields):
            return
        words = [offer.words for offer in self._choices(message.key)]
        now = draft.kind if message.key == KIND else draft.words(message.key)
        if words:
            self._put(message.key, words[(words.index(now) + message.by) % len(words)] if now in words else words[0])

    def on_form_view_field_reset(self, message: FormView.FieldReset) -> None:
        """As it began."""
        if self.draft is not None and message.key in self.draft.fields:
            self.draft.reset(message.key)
            self._changed()

    def on_form_view_field_typed(self, message: FormView.FieldTyped) -> None:
        """Say at once what is wrong; offer paths where one is typed."""
        field = self.draft.fields.get(message.key) if self.draft is not None else None
        if field is None or self.draft is None:
            return
        fault = ""
        try:
            value_of(field, message.words)
        except ValueError as error:
            fault = str(error) if message.words else ""
        self.query_one(FormView).blame(fault)
        if field["type"] == "path" or (field["type"] in ("model", "dataset") and looks_like_path(message.words)):
            self.run_worker(self._offer_paths(message.key, message.words, self.draft.cwd), exclusive=True, group="paths")

    def on_form_view_field_written(self, message: FormView.FieldWritten) -> None:
        """Take it over and go on."""
        view = self.query_one(FormView)
        if self._found_from:
            found, self._found_from = message.words or self._found_from, ""
            self.go_to(found)
            if message.words and self.draft is not None and found in self.draft.fields:
                self._write(found, turn=False)
            return
        self._put(message.key, message.words)
        view.action_move(message.step)
        if message.open:
            self._write(view.key, turn=False)

    def on_form_view_field_dropped(self, message: FormView.FieldDropped) -> None:
        """As it was."""
        if self._found_from:
            self.go_to(self._found_from)
            self._found_from = ""
        self.redraw()

    def _begin(self) -> None:
        if self.draft is None and not self._opening:
            self._opening = True
            self.run_worker(self._open())

    async def _open(self) -> None:
        try:
            draft, kept = await self._beginnings.first()
        except LlmopsError as error:
            self._why = str(error)
            self.redraw()
        else:
            self._take(draft, self._wanted)
            self.run_worker(self._offers.fetch(self.client))
            if kept:
                self.llmops.tell(f"as you left it; {self._key('form_last')} takes the newest run's spec", "muted")
        finally:
            self._opening = False

    async def _offer_paths(self, key: str, typed: str, cwd: str) -> None:
        if self._is_local():
            offers = await call(path_offers, typed, cwd)
            view = self.query_one(FormView)
            if view.editing == key:
                view.offer(offers, typed, -1)

    async def _change_kind(self, kind: str) -> None:
        try:
            form = await self._beginnings.form(kind)
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
            return
        if self.draft is not None and self.draft.kind != kind:
            self._take(self.draft.of_kind(form), KIND)

    def _take(self, draft: Draft, select: str = "") -> None:
        self.draft, self.found = draft, None
        self.ask_fit(draft, at_once=True)
        self.llmops.view.pages[self.PAGE] = self.remember()
        self.go_to(select or draft.first_wrong() or LAUNCH)

    def take_written(self) -> None:
        """What is being written counts, also when another key than Enter ends it."""
        view = self.query_one(FormView)
        found = view.written()
        if found is not None and not self._found_from:
            self._put(*found)
        self._found_from = ""

    def _put(self, key: str, words: str) -> None:
        draft = self.draft
        if draft is None:
            return
        if key == KIND:
            if words in JOB_KINDS:
                self.run_worker(self._change_kind(words), exclusive=True, group="kind")
            return
        if key in draft.fields and (words != draft.words(key) or key in draft.faults):
            draft.put(key, words)
            self._changed()

    def _changed(self) -> None:
        if self.draft is not None:
            self.found = None
            self.ask_fit(self.draft)
            self.draft.forgive()
            self.llmops.view.pages[self.PAGE] = self.remember()
            self.check()
            self.redraw()

    def _write(self, key: str, turn: bool = True) -> None:
        """Let the field be written; of a field with few choices take the next, if that is meant."""
        view, draft = self.query_one(FormView), self.draft
        if draft is None or (key != KIND and key not in draft.fields):
            return  # the word may be about a field of the kind before
        choices = self._choices(key)
        if key != KIND and 0 < len(choices) <= _FEW_CHOICES and draft.fields[key]["type"] in ("choice", "boolean"):
            if turn:
                view.action_turn(1)
            return
        if key == KIND:
            view.write("", draft.kind, choices, True, True)
            return
        field = draft.fields[key]
        offers = choices or self._offers.of(field)
        bound = field["type"] in ("choice", "boolean")
        blank = "" if draft.words(key) else "type, or choose with Down" if offers else ""
        view.write("" if bound else draft.words(key), draft.words(key) if bound else blank, offers, bound, bound or not draft.words(key))
        if bound:
            view.offer(offers, "", next((at for at, offer in enumerate(offers) if offer.words == draft.words(key)), 0))

    def _choices(self, key: str) -> list[Offer]:
        if key == KIND:
            return [Offer(kind) for kind in JOB_KINDS]
        assert self.draft is not None
        return choice_offers(self.draft.fields[key])

    def go_to(self, key: str) -> None:
        """The cursor onto a field, also one that only all of them show."""
        self._wanted = key
        self.redraw()

    def _draw_beside(self) -> None:
        view, draft = self.query_one(FormView), self.draft
        if draft is None or not view.key:
            return
        about, command, found = (self.query_one(f"#{name}", LineWidget) for name in ("about", "equal", "found"))
        about.border_title = {LAUNCH: "launch", KIND: "kind"}.get(view.key, view.key)
        about.show_lines(about_lines(draft, view.key, about.size.width))
        command.show_lines(command_lines(self._command(draft), command.size.width))
        self.draw_fit()
        found.show_lines(finding_lines(draft, self.found, self.checking, self._key("form_check"), found.size.width))

    def _title(self, draft: Draft) -> str:
        if draft.base:
            changed = sum(draft.changed(key) for key in draft.fields)
            return f"new run · from {draft.base} · " + (f"{changed} changed" if changed else f"{self._key('form_empty')} starts empty")
        return "new run · empty" if not draft.values and not draft.texts else "new run"

    def _command(self, draft: Draft) -> str:
        return command_line(draft.kind, draft.ordered(), draft.cwd, self._here(), self.state.host if self.state.remote else "")

    def _is_local(self) -> bool:
        return not self.state.remote

    def _here(self) -> str:
        return self.llmops.moves.current.directory()

    @staticmethod
    def _key(name: str) -> str:
        return next(name_of(key.keys[0]) for place in ("form", "fields") for key in keys_of(place) if key.id == name)
