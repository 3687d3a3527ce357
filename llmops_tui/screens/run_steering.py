"""Steering runs from a page that shows some, and starting one again from its capsule: what is asked, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.screens.calls import call
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.steer import SteerScreen, offered
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.specs.control import read_settings

if TYPE_CHECKING:
    from llmops_tui.screens.run_actions import RunBoard

# The wish, what is asked of the engine, and what is told.
_WISHES: dict[str, tuple[str, dict[str, Any], str]] = {
    "free": ("pause", {"mode": "free"}, "saves a checkpoint and frees its memory"),
    "hold": ("pause", {"mode": "hold"}, "keeps still, with its memory"),
    "resume": ("resume", {}, "goes on"),
    "checkpoint": ("checkpoint", {}, "was asked for a checkpoint"),
    "evaluate": ("evaluate", {}, "was asked to evaluate"),
    "sample": ("sample", {}, "was asked for samples"),
}
_BLANKS = {
    "learning_rate_scale": "0.5 halves the whole schedule that is left; 1 is the spec's own",
    "checkpoint_every": "steps, or none",
    "evaluate_every": "steps, or none",
}
_MOST_SHOWN = 12


def steer(board: RunBoard) -> None:
    """Ask what is wished of the runs that are meant, then ask the engine for it."""
    meant = {run_id: offered(run) for run_id in board.targets() if (run := board.summary_of(run_id)) is not None}
    ids = [run_id for run_id, wishes in meant.items() if wishes]
    if not ids:
        board.llmops.tell(f"{board.names(board.targets()) or 'nothing'} does not run", "warn")
        return

    def answered(wish: str | None) -> None:
        if wish in _WISHES:
            command, arguments, words = _WISHES[wish]
            board.each(ids, lambda run_id: board.client.control(run_id, command, arguments), words)
        elif wish:
            board.ask(f"{wish.replace('_', ' ')} of {board.names(ids)}:", "", _BLANKS[wish], lambda text: _set(board, ids, wish, text))

    board.app.push_screen(SteerScreen(board.names(ids), frozenset().union(*(meant[run_id] for run_id in ids))), answered)


def _set(board: RunBoard, ids: Sequence[str], name: str, text: str) -> None:
    try:
        settings = read_settings([f"{name}={text.strip()}"])
    except UsageError as error:
        board.llmops.tell(str(error), "bad")
        return
    board.each(ids, lambda run_id: board.client.control(run_id, "set", settings), f"goes on with {name.replace('_', ' ')} {text.strip()}")


async def reproduce(board: RunBoard, run_id: str) -> None:
    """Tell what differs from then, ask, and start it again."""
    try:
        found = await call(board.client.reproduce, run_id, dry_run=True)
    except LlmopsError as error:
        board.llmops.tell(str(error), "bad")
        return
    differs = " as it was, but for:" if found["differences"] else ": nothing differs"
    lines: list[list[Run]] = [[(f"  {run_id}", "bright"), (differs, "muted")]]
    for one in found["differences"][:_MOST_SHOWN]:
        told = f"{one['then'][:24] or 'not there'} then, {one['now'][:24] or 'not there'} now"
        lines.append([(f"    {one['what']}  ", "text"), (told, "muted")])
    if (more := len(found["differences"]) - _MOST_SHOWN) > 0:
        lines.append([(f"    and {more} more: llmops-tui runs reproduce {run_id} --dry-run", "muted")])

    def answered(yes: bool | None) -> None:
        if yes:
            board.each([run_id], board.client.reproduce, "is started again as a new run")

    board.app.push_screen(ConfirmScreen("reproduce?", lines, "start it again as a new run", "leave it"), answered)
