"""What a new run begins with: what was left unlaunched, a named run's spec, the newest run's, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmops_tui.errors import NotFoundError
from llmops_tui.screens.calls import call
from llmops_tui.screens.draft import Draft
from llmops_tui.specs.states import JOB_KINDS

if TYPE_CHECKING:
    from llmops_tui.screens.client_protocol import EngineClient
    from llmops_tui.specs.answers import RunDetail, SpecForm

_SLOTS = ("new", "clone")


class Beginnings:
    """`base`: the run to clone, else the newest, of `kind` if one is named; relative paths of an empty form start in `here`.

    Two drafts are kept until they are launched: one of a new run, one of a clone.
    """

    def __init__(self, client: EngineClient, kind: str | None, base: str | None, here: str) -> None:
        self._client = client
        self._kind, self._base, self._here = kind, base, here
        self._forms: dict[str, SpecForm] = {}
        self._kept: dict[str, Any] = {}

    async def form(self, kind: str) -> SpecForm:
        """A kind's form, asked for once. Raises LlmopsError."""
        if kind not in self._forms:
            self._forms[kind] = await call(self._client.spec_form, kind)
        return self._forms[kind]

    async def first(self) -> tuple[Draft, bool]:
        """The draft to begin with, and whether it was kept from before. Raises LlmopsError."""
        kept = self._kept.get(self._slot())
        if isinstance(kept, dict) and kept.get("kind") in JOB_KINDS and (not self._base or kept.get("base") == self._base):
            return Draft.from_json(await self.form(str(kept["kind"])), kept), True
        run = await self._run_to_repeat()
        if run is None or run["kind"] not in JOB_KINDS:
            return Draft(await self.form(self._kind or JOB_KINDS[0]), self._here), False
        return with_advice(Draft.of_run(await self.form(run["kind"]), run), run), False

    def use_newest(self) -> None:
        """Forget the base and what was kept of a new run."""
        self._base = None
        self.keep(None)

    def keep(self, draft: Draft | None) -> None:
        """Keep what would be lost; None and an untouched draft take the kept one away."""
        self._kept[self._slot()] = draft.to_json() if draft is not None and draft.touched else None

    def recall(self, remembered: dict[str, Any]) -> None:
        """The drafts of a viewer before this one."""
        self._kept = {name: remembered[name] for name in _SLOTS if isinstance(remembered.get(name), dict)}

    def remember(self) -> dict[str, Any]:
        """Both drafts and the base, as JSON values."""
        return {**self._kept, "base": self._base}

    async def _run_to_repeat(self) -> RunDetail | None:
        if self._base:
            return await call(self._client.run, self._base)
        page = await call(self._client.runs, filter=f"kind:{self._kind}" if self._kind else "", limit=1)
        try:
            return await call(self._client.run, page["runs"][0]["id"]) if page["runs"] else None
        except NotFoundError:  # removed in between
            return None

    def _slot(self) -> str:
        return _SLOTS[1 if self._base else 0]


def with_advice(draft: Draft, run: RunDetail) -> Draft:
    """A clone of a run that ran out of memory begins with what the engine found would fit."""
    advice = run["journal"][-1]["data"].get("advice") if run["state"] == "out_of_memory" and run["journal"] else None
    for key, value in (advice if isinstance(advice, dict) else {}).items():
        if key in draft.fields:
            draft.put(key, str(value).lower() if isinstance(value, bool) else str(value))
    return draft
