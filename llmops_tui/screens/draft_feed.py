"""A page with a draft of a run: checked by the engine while it changes, launched when that is wished, and told what was wrong with it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from llmops_tui.errors import EngineUnavailableError, LlmopsError
from llmops_tui.screens.calls import call
from llmops_tui.screens.fit_feed import FitFeed
from llmops_tui.screens.submitting import submit_once

if TYPE_CHECKING:
    from llmops_tui.screens.draft import Draft
    from llmops_tui.specs.answers import Submission


class DraftFeed(FitFeed):
    """Subclasses show `found` (what the last check answered), `checking` and `launching`; they call `check` when the draft changed."""

    draft: Draft | None = None
    found: Submission | None = None
    checking = launching = False
    launched = ""
    _check_again = False
    _unsure: float | None = None

    @abstractmethod
    def take_written(self) -> None:
        """What is being written counts."""

    @abstractmethod
    def go_to(self, key: str) -> None:
        """The cursor onto a field."""

    def on_screen_resume(self) -> None:
        """A launch that was answered under a dialog goes on."""
        super().on_screen_resume()
        if self.launched:
            self._leave_for(self.launched)

    def action_launch(self) -> None:
        """Check and queue."""
        self.take_written()
        draft = self.draft
        if draft is None or self.launching or self.launched or self.refuse_in_past():
            return
        if (wrong := draft.first_wrong()) is not None:
            self.go_to(wrong)
            self.llmops.tell(f"{wrong} {draft.faults.get(wrong, 'is missing')}", "bad")
            return
        self.launching = True
        self.redraw()
        self.run_worker(self._launch(draft))

    def action_check(self) -> None:
        """A dry run."""
        self.take_written()
        self.check(said=True)

    def check(self, said: bool = False) -> None:
        """A dry run, once nothing is missing; `said`: somebody asked for it, so what is wrong is gone to."""
        draft = self.draft
        if draft is None or self.launching:
            return
        if draft.texts or draft.missing():
            if said and (wrong := draft.first_wrong()) is not None:
                self.go_to(wrong)
        elif self.checking:
            self._check_again = True
        else:
            self.checking = True
            self.run_worker(self._run_check(draft, said))
        self.redraw()

    async def _run_check(self, draft: Draft, said: bool) -> None:
        spec = draft.spec()
        found: Submission | None = None
        draft.forgive()
        try:
            found = await call(self.client.submit, spec, cwd=draft.cwd, dry_run=True)
        except LlmopsError as error:
            if draft.spec() == spec:
                draft.blame(str(error), error.fields)
        finally:
            self.checking = False
        self.found = found if draft.spec() == spec else None
        if self._check_again or draft.spec() != spec:
            self._check_again = False
            self.check()
        elif said and (wrong := draft.first_wrong()) is not None:
            self.go_to(wrong)
        self.redraw()

    async def _launch(self, draft: Draft) -> None:
        since = self.state.status["host"]["t"] if self.state.status else None
        draft.forgive()
        try:
            run_id = await submit_once(self.client, draft, self._unsure)
        except EngineUnavailableError as error:
            self._unsure = self._unsure or since
            self.llmops.tell(f"not launched, nothing typed is lost: {error}", "bad")
        except LlmopsError as error:
            draft.blame(str(error), error.fields)
            self.llmops.tell(str(error), "bad")
            if (wrong := draft.first_wrong()) is not None:
                self.go_to(wrong)
        else:
            self.launched = run_id
            self.llmops.view.pages[self.PAGE] = self.remember()
            if self.app.screen is self:
                self._leave_for(run_id)
        finally:
            self.launching = False
        self.redraw()

    def _leave_for(self, run_id: str) -> None:
        self.leave()
        self.llmops.open_run(run_id)
        self.llmops.tell(f"{run_id} is queued", "good")
        self.llmops.hurry()
