"""The models a run says it made get their names before it counts as succeeded."""

from __future__ import annotations

import asyncio
import logging

from llmops_tui.engine.attempt_files import model_events
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.on_behalf import OnBehalf
from llmops_tui.engine.verdict import Verdict
from llmops_tui.errors import LlmopsError

log = logging.getLogger(__name__)


async def register_models(on_behalf: OnBehalf, run: LiveRun, verdict: Verdict) -> Verdict:
    """The verdict, with what could not be registered as its reason. Repeating this changes nothing."""
    problems = []
    for event in await asyncio.to_thread(model_events, run.dir, run.attempt):
        try:
            await asyncio.to_thread(on_behalf.register_artifact, run.uid, run.dir, event)
        except Exception as error:  # whatever a job says it made: its run comes to an end
            log.warning("%s: a model was not registered: %s", run.id, error, exc_info=not isinstance(error, LlmopsError | OSError))
            problems.append(f"a model was not registered: {error}")
    return Verdict(verdict.state, "; ".join(problems), verdict.exit_code) if problems else verdict
