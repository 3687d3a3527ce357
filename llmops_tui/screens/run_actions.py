"""What can be done to runs from a page that shows some: stop, steer, retry, reproduce, clone, tags, note, baseline, remove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.widget import Widget

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import hints
from llmops_tui.screens.board import Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.widgets.axes import bytes_text
from llmops_tui.screens.widgets.edit_line import Complete, Completion, EditLine
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run
from llmops_tui.screens.widgets.panels import foot
from llmops_tui.specs.states import ACTIVE, ENDED, WAITING

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail, RunSummary

MAKES_MODELS = ("train", "quantize", "merge", "combine", "prune")
_NAMED = 3  # more runs than this are told as a number


class RunBoard(Board):
    """Subclasses say which runs are meant (`targets`), and have an `EditLine` with the id `ask`, hidden while nothing is asked."""

    _answer: Callable[[str], None] | None = None
    _asked_from: Widget | None = None

    def targets(self) -> list[str]:
        """The ids of the runs that the keys mean: the marked ones, else the one under the cursor."""
        run_id = self.run_id()
        return [run_id] if run_id else []

    def summary_of(self, run_id: str) -> RunSummary | None:
        """What is known of a run."""
        return self.state.run(run_id)

    def tags_in_use(self) -> list[str]:
        """The tags of the runs that are known here."""
        return sorted({tag for run in self.state.runs() for tag in run["tags"]})

    def runs_changed(self) -> None:
        """Something was done to runs: ask again."""
        self.llmops.hurry()

    def draw_frame(self) -> None:
        """While a line is written the foot tells its keys: the page's own are text then."""
        super().draw_frame()
        if isinstance(self.focused, EditLine) and not self.state.notice:
            bottom = self.query_one("#foot", LineWidget)
            bottom.show_lines([foot(hints("edit"), "", "text", bottom.size.width)])

    def on_descendant_focus(self) -> None:
        """Other keys count."""
        self.perform(self.draw_frame)

    def ask(self, label: str, text: str, blank: str, answer: Callable[[str], None], complete: Complete | None = None) -> None:
        """Ask for a line of text above the foot; Enter calls `answer`, Escape does nothing."""
        line = self.query_one("#ask", EditLine)
        self._asked_from = self.focused if self.focused is not line else self._asked_from
        self._answer = answer
        line.display = True
        line.open(label, text, blank, complete)

    def on_edit_line_submitted(self, message: EditLine.Submitted) -> None:
        """The answer."""
        if message.line.id == "ask":
            answer = self._answer
            self._end_asking()
            if answer is not None:
                answer(message.text)

    def on_edit_line_left(self, message: EditLine.Left) -> None:
        """No answer."""
        if message.line.id == "ask":
            self._end_asking()

    def action_stop_runs(self) -> None:
        """Ask, then stop what runs or waits."""
        if self.refuse_in_past():
            return
        meant = [run for run in map(self.summary_of, self.targets()) if run is not None and run["state"] in ACTIVE | WAITING]
        if not meant:
            self.llmops.tell(f"{self.names(self.targets()) or 'nothing'} does not run", "warn")
            return
        from llmops_tui.screens.stop import StopScreen

        ids = [run["id"] for run in meant]
        waiting = all(run["state"] in WAITING for run in meant)

        def answered(mode: str | None) -> None:
            if mode:
                how = "writes a checkpoint and stops" if mode == "checkpoint" else "is being stopped"
                self.each(ids, lambda run_id: self.client.stop_run(run_id, mode), how)

        self.app.push_screen(StopScreen(self.names(ids), "queued" if waiting else "running"), answered)

    def action_checkpoint_runs(self) -> None:
        """Ask the jobs to save now."""
        if self.refuse_in_past():
            return
        ids = [run_id for run_id in self.targets() if (run := self.summary_of(run_id)) is not None and run["state"] == "running"]
        if ids:
            self.each(ids, self.client.checkpoint, "was asked for a checkpoint")
        else:
            self.llmops.tell(f"{self.names(self.targets()) or 'nothing'} does not run", "warn")

    def action_steer(self) -> None:
        """Ask what is wished of what runs or is paused."""
        if not self.refuse_in_past():
            from llmops_tui.screens.run_steering import steer

            steer(self)

    def action_reproduce(self) -> None:
        """Tell what differs from when it ran, ask, and start it again."""
        ids = self.targets()
        if ids and not self.refuse_in_past():
            from llmops_tui.screens.run_steering import reproduce

            self.run_worker(reproduce(self, ids[0]))

    def action_retry_runs(self) -> None:
        """Queue ended runs again, from their newest checkpoints."""
        if self.refuse_in_past():
            return
        ids = [run_id for run_id in self.targets() if (run := self.summary_of(run_id)) is not None and run["state"] in ENDED]
        if ids:
            self.each(ids, self.client.retry, "is queued again")
        else:
            self.llmops.tell(f"{self.names(self.targets()) or 'nothing'} has not ended: x stops a run", "warn")

    def action_baseline(self) -> None:
        """Pin the run to compare others with, or let it go."""
        if self.refuse_in_past():
            return
        for run_id in self.targets():
            run = self.summary_of(run_id)
            pinned = run is not None and run["baseline"]
            words = "is a baseline no more" if pinned else "is a baseline now: o on another run compares with it"
            self.each([run_id], lambda name, pinned=pinned: self.client.annotate(name, baseline=not pinned), words)  # type: ignore[misc]  # mypy#15459

    def action_tags(self) -> None:
        """Other tags: all of them for one run, `+new -old` for several."""
        if self.refuse_in_past():
            return
        ids = self.targets()
        if not ids:
            return
        run = self.summary_of(ids[0])
        present = " ".join(run["tags"]) if run is not None and len(ids) == 1 else ""
        blank = "tags, separated by spaces; +one adds, -one takes away"
        self.ask(f"tags of {self.names(ids)}:", present, blank, lambda text: self._set_tags(ids, text), self._complete_tag)

    def action_note(self) -> None:
        """A note, kept with the run."""
        if self.refuse_in_past():
            return
        ids = self.targets()
        if ids:
            run = self.summary_of(ids[0])
            present = run["note"] if run is not None and len(ids) == 1 else ""
            self.ask(
                f"note on {self.names(ids)}:",
                present,
                "a line about what was tried and seen",
                lambda text: self.each(ids, lambda run_id: self.client.annotate(run_id, note=text.strip()), "has its note"),
            )

    def action_clone(self) -> None:
        """A new run from this one's spec."""
        if self.refuse_in_past():
            return
        ids = self.targets()
        if ids:
            self.llmops.new_run(base=ids[0])

    def action_serve_made(self) -> None:
        """The model that a run made, served."""
        if self.refuse_in_past():
            return
        ids = self.targets()
        run = self.summary_of(ids[0]) if ids else None
        if run is None or run["state"] != "succeeded" or run["kind"] not in MAKES_MODELS:
            self.llmops.tell(f"{ids[0] if ids else 'nothing'} has made no model: {' and '.join(MAKES_MODELS[:2])} runs do", "warn")
            return
        from llmops_tui.screens.serve_start import offer_made

        self.run_worker(offer_made(self, run["id"], run["name"]))

    def action_remove_runs(self) -> None:
        """Name what would be deleted, ask, then delete it."""
        if self.refuse_in_past():
            return
        ids = [run_id for run_id in self.targets() if (run := self.summary_of(run_id)) is not None and run["state"] in ENDED]
        if ids:
            self.run_worker(self._ask_removal(ids))
        else:
            self.llmops.tell(f"{self.names(self.targets()) or 'nothing'} has not ended: x stops a run, D removes an ended one", "warn")

    async def _ask_removal(self, ids: Sequence[str]) -> None:
        lines: list[list[Run]] = []
        for run_id in ids:
            try:
                detail = await call(self.client.run, run_id)
            except LlmopsError as error:
                self.llmops.tell(str(error), "bad")
                return
            lines.append([(f"  {run_id}", "bright"), (f"  {_checkpoints_text(detail)}", "warn" if detail["checkpoints"] else "muted")])
            lines.append([(f"    {detail['directory']}", "muted")])
        from llmops_tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self.each(ids, self.client.remove, "is removed")

        count = f"{len(ids)} runs" if len(ids) > 1 else "the run"
        yes = f"delete {count} and everything in {'their directories' if len(ids) > 1 else 'its directory'}"
        self.app.push_screen(ConfirmScreen(f"remove {count}?", lines, yes, "keep"), answered)

    def _set_tags(self, ids: Sequence[str], text: str) -> None:
        words = text.replace(",", " ").split()
        changes = [word for word in words if word[0] in "+-" and len(word) > 1]

        def change(run_id: str) -> object:
            run = self.summary_of(run_id)
            tags = list(run["tags"]) if run is not None and (len(changes) == len(words) > 0) else []
            for word in words:
                name = word[1:] if word in changes else word
                if word in changes and word[0] == "-":
                    tags = [tag for tag in tags if tag != name]
                elif name not in tags:
                    tags.append(name)
            return self.client.annotate(run_id, tags=tags)

        if words or len(ids) == 1:
            self.each(ids, change, "has its tags")

    def _complete_tag(self, text: str, at: int) -> list[Completion]:
        start = text.rfind(" ", 0, at) + 1
        sign = text[start : start + 1] if text[start : start + 1] in ("+", "-") else ""
        begun = text[start + len(sign) : at]
        return [Completion(start, f"{sign}{tag} ") for tag in self.tags_in_use() if tag.startswith(begun)]

    def _end_asking(self) -> None:
        self._answer = None
        self.query_one("#ask", EditLine).display = False
        if self._asked_from is not None and self._asked_from.is_mounted:
            take_keys(self._asked_from)

    def each(self, ids: Sequence[str], change: Callable[[str], object], words: str) -> None:
        """Do it to each run, and tell what came of it."""
        self.run_worker(self._do_each(list(ids), change, words))

    async def _do_each(self, ids: list[str], change: Callable[[str], object], words: str) -> None:
        failures: list[str] = []
        done: list[str] = []
        for run_id in ids:
            try:
                await call(change, run_id)
            except LlmopsError as error:
                failures.append(f"{run_id}: {error}" if run_id not in str(error) else str(error))
            else:
                done.append(run_id)
        if failures:
            self.llmops.tell(failures[0] + (f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""), "bad")
        else:
            self.llmops.tell(f"{self.names(done)}: {words.replace('is ', 'are ', 1) if len(done) > 1 else words}", "good")
        if self.ready:
            self.runs_changed()

    @staticmethod
    def names(ids: Sequence[str]) -> str:
        """Some runs as a person would name them."""
        return ", ".join(ids) if len(ids) <= _NAMED else f"{len(ids)} runs"


def _checkpoints_text(detail: RunDetail) -> str:
    kept = detail["checkpoints"]
    if not kept:
        return "no checkpoint"
    return f"{len(kept)} checkpoint{'s' if len(kept) > 1 else ''}, {bytes_text(sum(checkpoint['bytes'] for checkpoint in kept))}"
