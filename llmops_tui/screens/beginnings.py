"""What a new run begins with: what was left unlaunched, a named run's spec, the newest run's, what a page gave it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmops_tui.errors import NotFoundError
from llmops_tui.screens.calls import call
from llmops_tui.screens.draft import Draft
from llmops_tui.specs.states import JOB_KINDS

if TYPE_CHECKING:
    from llmops_tui.screens.client_protocol import EngineClient
    from llmops_tui.specs.answers import RunDetail, SpecForm

_SLOTS = ("new", "clone", "given")


class Beginnings:
    """`base`: the run to clone, else the newest, of `kind` if one is named; relative paths of an empty form start in `here`.

    `given`: fields that a page filled in, of that kind; it then begins with the newest run that had the same, else with the fields alone.
    Three drafts are kept until they are launched: of a new run, of a clone, of fields that were given.
    """

    def __init__(self, client: EngineClient, kind: str | None, base: str | None, here: str, given: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._given = dict(given or {})
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
        if isinstance(kept, dict) and self._is_meant(kept):
            return Draft.from_json(await self.form(str(kept["kind"])), kept), True
        run = await self._run_to_repeat()
        if run is None or run["kind"] not in JOB_KINDS:
            return started_with(Draft(await self.form(self._kind or JOB_KINDS[0]), self._here), self._given), False
        return with_advice(Draft.of_run(await self.form(run["kind"]), run), run), False

    def use_newest(self) -> None:
        """Forget the base, what was given, and what was kept of a new run."""
        self._base = None
        self._given = {}
        self.keep(None)

    def keep(self, draft: Draft | None) -> None:
        """Keep what would be lost; None and an untouched draft take the kept one away."""
        self._kept[self._slot()] = draft.to_json() if draft is not None and draft.touched else None

    def recall(self, remembered: dict[str, Any]) -> None:
        """The drafts of a viewer before this one."""
        self._kept = {name: remembered[name] for name in _SLOTS if isinstance(remembered.get(name), dict)}

    def remember(self) -> dict[str, Any]:
        """The drafts, the base and what was given, as JSON values."""
        return {**self._kept, "base": self._base, "begun_with": {"kind": self._kind, "given": self._given} if self._given else None}

    async def _run_to_repeat(self) -> RunDetail | None:
        if self._base:
            return await call(self._client.run, self._base)
        wanted = [f"kind:{self._kind}"] if self._kind else []
        wanted += [f"cfg.{key}={words}" for key, words in self._given.items()]
        page = await call(self._client.runs, filter=" ".join(wanted), limit=1)
        try:
            return await call(self._client.run, page["runs"][0]["id"]) if page["runs"] else None
        except NotFoundError:  # removed in between
            return None

    def _is_meant(self, kept: Mapping[str, Any]) -> bool:
        """Whether a kept draft is one of what is asked for now."""
        if kept.get("kind") not in JOB_KINDS or (self._base and kept.get("base") != self._base):
            return False
        values = kept.get("values")
        return all(isinstance(values, dict) and values.get(key) == words for key, words in self._given.items())

    def _slot(self) -> str:
        return _SLOTS[1 if self._base else 2 if self._given else 0]


def started_with(draft: Draft, given: Mapping[str, str]) -> Draft:
    """The draft with these fields, as if it had begun with them: nothing of them was typed."""
    for key, words in given.items():
        draft.put(key, words)
    draft.started = dict(draft.values)
    return draft


def with_advice(draft: Draft, run: RunDetail) -> Draft:
    """A clone of a run that ran out of memory begins with what the engine found would fit."""
    advice = run["journal"][-1]["data"].get("advice") if run["state"] == "out_of_memory" and run["journal"] else None
    for key, value in (advice if isinstance(advice, dict) else {}).items():
        if key in draft.fields:
            draft.put(key, str(value).lower() if isinstance(value, bool) else str(value))
    return draft


def begun_with(remembered: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The kind and the fields that a form was opened with before the viewer was left. Comes from a file: nothing is taken on trust."""
    begun = remembered.get("begun_with")
    kind, given = (begun.get("kind"), begun.get("given")) if isinstance(begun, dict) else (None, None)
    if kind not in JOB_KINDS or not isinstance(given, dict):
        return None, {}
    return str(kind), {key: words for key, words in given.items() if isinstance(key, str) and isinstance(words, str)}
