"""A launch that happens once, also where the engine was lost after it had queued the run and before it could say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tui.screens.calls import call
from llmops_tui.screens.spec_text import read_spec

if TYPE_CHECKING:
    from llmops_tui.screens.client_protocol import EngineClient
    from llmops_tui.screens.draft import Draft

_LOOKED_AT = 20


async def submit_once(client: EngineClient, draft: Draft, unsure_since: float | None) -> str:
    """Queue the draft and return the run's id.

    `unsure_since`: when (Unix seconds of the engine's box) a launch of it began that was never answered; a run of this very spec
    that was submitted since is that launch, and is returned instead of a second one. Raises what the engine answers.
    """
    if unsure_since is not None and (found := await _launched_before(client, draft, unsure_since)):
        return found
    submission = await call(client.submit, draft.spec(), cwd=draft.cwd, dry_run=False)
    return submission["id"]


async def _launched_before(client: EngineClient, draft: Draft, since: float) -> str:
    page = await call(client.runs, limit=_LOOKED_AT)
    for run in page["runs"]:
        if run["submitted_at"] >= since and run["kind"] == draft.kind:
            values, _, _ = read_spec(draft.form, (await call(client.run, run["id"]))["spec"])
            if {**values, "name": ""} == {**draft.values, "name": ""} and draft.values.get("name", run["name"]) == run["name"]:
                return run["id"]
    return ""
