"""Which model? The registered versions and what lies on disk, narrowed by typing a part; or a path that is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from llmops_tui.keys import bindings
from llmops_tui.screens.dialog import Dialog
from llmops_tui.screens.offers import Offer, looks_like_path, model_offers, narrowed
from llmops_tui.screens.widgets.table import Column, Row, RowTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmops_tui.specs.answers import ModelInfo

_WIDTH, _HEIGHT = 90, 20
_NOTHING = "no model here: `llmops-tui models import PATH`, or type the path of one"


def servable(models: Sequence[ModelInfo]) -> list[Offer]:
    """What a server can be started from, registered versions before what was only found, of each the newest first."""
    whole = [model for model in models if model["complete"]]
    ordered = sorted(whole, key=lambda model: (model["version"] is None, -(model["created_at"] or 0.0)))
    offers = {offer.words: offer for offer in model_offers(whole)}
    names = [model["path"] if model["version"] is None else f"{model['name']}@v{model['version']}" for model in ordered]
    return [offers[name] for name in dict.fromkeys(names) if name in offers]


class ModelChoice(Dialog[str | None]):
    """Answers the chosen model as a spec names it, or None."""

    BINDINGS = bindings("command")

    def __init__(self, title: str, models: Sequence[ModelInfo]) -> None:
        super().__init__()
        self._title = title
        self._offers = servable(models)
        self._shown = self._offers

    def compose(self) -> ComposeResult:
        """A line to type in, the models below."""
        with Vertical(id="palette", classes="dialog") as box:
            box.border_title = self._title
            yield Input(placeholder="type a part of its name, or a path; Enter takes the one marked", compact=True)
            table = RowTable((Column("model", 0, middle=True, least=24), Column("", 36)), _NOTHING, id="models")
            table.can_focus = False
            yield table

    def on_mount(self) -> None:
        """As tall as the screen lets it."""
        box = self.query_one("#palette")
        box.styles.width, box.styles.height = min(_WIDTH, self.app.size.width - 2), min(_HEIGHT, self.app.size.height - 2)
        self.set_focus(self.query_one(Input))
        self.call_after_refresh(self._draw)

    def on_input_changed(self, message: Input.Changed) -> None:
        """The models that match; a path is offered as it is typed."""
        typed = message.value.strip()
        self._shown = narrowed(self._offers, typed)
        if looks_like_path(typed):
            self._shown = [*self._shown, Offer(typed, "this path")]
        self._draw(first=True)

    def on_input_submitted(self) -> None:
        """The one under the cursor."""
        self._take(self.query_one(RowTable).key)

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """A click."""
        self._take(message.key)

    def action_step(self, by: int) -> None:
        """The one below or above."""
        self.query_one(RowTable).action_move(by)

    def action_leave(self) -> None:
        """None of them."""
        self.dismiss(None)

    def _take(self, key: str | None) -> None:
        if key is not None and int(key) < len(self._shown):
            self.dismiss(self._shown[int(key)].words)

    def _draw(self, first: bool = False) -> None:
        rows = [Row(str(at), ((offer.words, "bright"), (offer.note, "muted"))) for at, offer in enumerate(self._shown)]
        self.query_one(RowTable).show(rows, empty=_NOTHING if not self._offers else "nothing like it", select="0" if first else None)
