"""What may stand in a field: models, datasets, choices, keys and paths, with a word on each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.calls import call
from llmops_tui.screens.widgets.axes import bytes_text

if TYPE_CHECKING:
    from llmops_tui.screens.client_protocol import EngineClient
    from llmops_tui.specs.answers import DatasetInfo, ModelInfo, SpecField

_MOST_PATHS = 200


class Offer(NamedTuple):
    """`words` go into the field, `note` says what they mean."""

    words: str
    note: str = ""


class OfferBook:
    """The models and datasets of the engine's box, asked for once."""

    def __init__(self) -> None:
        self._pages: dict[str, list[Offer]] = {}

    async def fetch(self, client: EngineClient) -> None:
        """Ask; an engine that is gone leaves the fields without offers: they can be typed all the same."""
        with contextlib.suppress(LlmopsError):
            self._pages["dataset"] = dataset_offers(await call(client.datasets))
            self._pages["model"] = model_offers(await call(client.models))

    def of(self, field: SpecField) -> list[Offer]:
        """What may stand in a field of its type."""
        return self._pages.get(field["type"], [])


def model_offers(models: Sequence[ModelInfo]) -> list[Offer]:
    """Registered versions and what lies on disk: full models first, of each the newest first."""
    ordered = sorted(models, key=lambda model: (model["format"] != "full", not model["complete"], -(model["created_at"] or 0.0)))
    return [Offer(_model_name(model), _model_note(model)) for model in ordered]


def dataset_offers(datasets: Sequence[DatasetInfo]) -> list[Offer]:
    """Registered versions, the newest first."""
    ordered = sorted(datasets, key=lambda dataset: -(dataset["created_at"] or 0.0))
    return [
        Offer(
            _versioned(dataset["name"], dataset["version"]),
            " · ".join(part for part in (f"{dataset['rows']:,} rows", dataset["format"], bytes_text(dataset["bytes"])) if part),
        )
        for dataset in ordered
    ]


def choice_offers(field: SpecField) -> list[Offer]:
    """The words a field takes."""
    words = [str(choice).lower() if isinstance(choice, bool) else choice for choice in field["choices"]]
    words = ["true", "false"] if field["type"] == "boolean" else words
    return [Offer(word, "the default" if str(field["default"]).lower() == word.lower() else "") for word in words]


def path_offers(typed: str, cwd: str) -> list[Offer]:
    """What the file system has that begins so; a directory ends with a slash. Blocks: call it in a thread."""
    directory, _, begun = typed.rpartition("/")
    where = os.path.join(cwd, os.path.expanduser(f"{directory}/" if directory or typed.startswith("/") else ""))
    try:
        with os.scandir(where) as found:
            entries = [(entry.name, entry.is_dir()) for entry in found if entry.name.startswith(begun) and (begun or entry.name[0] != ".")]
    except OSError:
        return []
    head = typed[: len(typed) - len(begun)]
    entries.sort(key=lambda entry: (not entry[1], entry[0]))
    shown = [(name, inner) for name, inner in entries if name.isprintable()]
    return [Offer(f"{head}{name}/" if inner else f"{head}{name}", "directory" if inner else "") for name, inner in shown[:_MOST_PATHS]]


def looks_like_path(typed: str) -> bool:
    """Whether somebody is typing a path, not a registered name."""
    return "/" in typed or typed.startswith((".", "~"))


def narrowed(offers: Iterable[Offer], typed: str) -> list[Offer]:
    """Those that have what was typed: at the beginning first, then anywhere, in the words before the note."""
    wanted = typed.strip().lower()
    ranked = [(_rank(offer, wanted), offer) for offer in offers]
    return [offer for rank, offer in sorted(((rank, offer) for rank, offer in ranked if rank is not None), key=lambda pair: pair[0])]


def _rank(offer: Offer, wanted: str) -> int | None:
    words = offer.words.lower()
    if words.startswith(wanted):
        return 0
    if wanted in words:
        return 1
    return 2 if wanted in offer.note.lower() else None


def _versioned(name: str, version: int | None) -> str:
    return name if version is None else f"{name}@v{version}"


def _model_name(model: ModelInfo) -> str:
    return model["path"] if model["version"] is None else _versioned(model["name"], model["version"])


def _model_note(model: ModelInfo) -> str:
    count = model["parameters"]
    size = "" if count is None else f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"
    aliases = " ".join(f"@{alias}" for alias in model["aliases"])
    parts = (aliases, model["format"], size, bytes_text(model["bytes"]), "" if model["complete"] else "incomplete")
    return " · ".join(part for part in parts if part)
