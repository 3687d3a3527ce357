"""Which model? The registered versions and what lies on disk, narrowed by typing a part; or a path that is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tui.screens.offers import Offer, looks_like_path, model_offers, narrowed
from llmops_tui.screens.typed_list import TypedList
from llmops_tui.screens.widgets.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmops_tui.screens.widgets.lines import Run
    from llmops_tui.specs.answers import ModelInfo


def servable(models: Sequence[ModelInfo]) -> list[Offer]:
    """What a server can be started from, registered versions before what was only found, of each the newest first."""
    whole = [model for model in models if model["complete"]]
    ordered = sorted(whole, key=lambda model: (model["version"] is None, -(model["created_at"] or 0.0)))
    offers = {offer.words: offer for offer in model_offers(whole)}
    names = [model["path"] if model["version"] is None else f"{model['name']}@v{model['version']}" for model in ordered]
    return [offers[name] for name in dict.fromkeys(names) if name in offers]


class ModelChoice(TypedList[Offer, str]):
    """Answers the chosen model as a spec names it, or None."""

    COLUMNS = (Column("model", 0, middle=True, least=24), Column("", 36))
    ASKS = "type a part of its name, or a path; Enter takes the one marked"
    SIZE = (90, 20)

    def __init__(self, title: str, models: Sequence[ModelInfo]) -> None:
        super().__init__(title)
        self._offers = servable(models)

    def matching(self, typed: str) -> Sequence[Offer]:
        """The models that match; a path is offered as it is typed."""
        found = narrowed(self._offers, typed)
        return [*found, Offer(typed, "this path")] if looks_like_path(typed) else found

    def cells(self, entry: Offer) -> tuple[Run, ...]:
        """Its name, and what it is."""
        return (entry.words, "bright"), (entry.note, "muted")

    def take(self, entry: Offer) -> None:
        """That one."""
        self.dismiss(entry.words)

    def nothing(self) -> str:
        """Where there is no model at all, how one comes."""
        return "nothing like it" if self._offers else "no model here: `llmops-tui models import PATH`, or type the path of one"
