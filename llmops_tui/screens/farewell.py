"""What the shell is told when the viewer has gone: what goes on without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunSummary


def farewell(running: list[RunSummary], waiting: int, live: bool = True, again: str = "llmops-tui") -> str:
    """What the shell is told when the viewer has gone; `live` is false where the engine's last answer is old.

    `again` is the command that comes back.
    """
    if not live:
        names = ", ".join(run["id"] for run in running[:3]) + (", …" if len(running) > 3 else "")
        going = f"{names} goes on without it" if len(running) == 1 else f"{names} go on without it" if running else "nothing ran"
        queued = f", {waiting} wait{'s' if waiting == 1 else ''} until it is back" if waiting else ""
        return f"the engine does not answer; by its last word {going}{queued}; `{again}` starts it again"
    if not running and not waiting:
        return f"nothing runs; `{again}` brings you back"
    jobs = f"{len(running)} job{'s' if len(running) != 1 else ''} keep{'s' if len(running) == 1 else ''} running" if running else ""
    queued = f"{waiting} wait{'s' if waiting == 1 else ''} in the queue" if waiting else ""
    names = f" ({', '.join(run['id'] for run in running[:3])}{', …' if len(running) > 3 else ''})" if running else ""
    return f"{jobs}{names}{', ' if jobs and queued else ''}{queued}; `{again}` brings you back"
