"""A run's summary as something a filter can look at: for those who have the answers, not the engine's own runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmops_tui.specs.run_config import RunConfig

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunSummary

_NOTHING = RunConfig({})


def search_text(run_id: str, name: str, tags: Sequence[str], note: str) -> str:
    """What a filter's bare words are looked for in."""
    return "\n".join((run_id, name, *tags, note)).casefold()


class SummaryRow:
    """`filter_terms.FilterRow` over a RunSummary. Without a spec no `cfg.` term matches. Keep it while the summary stays the same."""

    __slots__ = ("_search", "_summary", "config")

    def __init__(self, summary: RunSummary, spec: Mapping[str, object] | None = None) -> None:
        self._summary = summary
        self._search = ""
        self.config = _NOTHING if spec is None else RunConfig(spec)

    @property
    def search_text(self) -> str:
        if not self._search:
            self._search = search_text(self.id, self.name, self.tags, self.note)
        return self._search

    @property
    def id(self) -> str:
        return self._summary["id"]

    @property
    def kind(self) -> str:
        return self._summary["kind"]

    @property
    def name(self) -> str:
        return self._summary["name"]

    @property
    def state(self) -> str:
        return self._summary["state"]

    @property
    def reason(self) -> str:
        return self._summary["reason"]

    @property
    def owner(self) -> str:
        return self._summary["owner"]

    @property
    def tags(self) -> Sequence[str]:
        return self._summary["tags"]

    @property
    def note(self) -> str:
        return self._summary["note"]

    @property
    def baseline(self) -> bool:
        return self._summary["baseline"]

    @property
    def gpus(self) -> Sequence[str]:
        return self._summary["gpus"]

    @property
    def attempt(self) -> int:
        return self._summary["attempt"]

    @property
    def priority(self) -> int:
        return self._summary["priority"]

    @property
    def exit_code(self) -> int | None:
        return self._summary["exit_code"]

    @property
    def submitted_at(self) -> float:
        return self._summary["submitted_at"]

    @property
    def started_at(self) -> float | None:
        return self._summary["started_at"]

    @property
    def ended_at(self) -> float | None:
        return self._summary["ended_at"]

    @property
    def latest(self) -> Mapping[str, float]:
        return self._summary["latest"]
