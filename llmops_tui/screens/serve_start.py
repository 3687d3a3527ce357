"""From a model to an endpoint that answers: choose, see what it would be, say yes. Also from the run that made the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmops_tui.commands.names import name_from_path
from llmops_tui.errors import LlmopsError
from llmops_tui.screens.calls import call
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.model_choice import ModelChoice
from llmops_tui.screens.widgets.axes import bytes_text
from llmops_tui.screens.widgets.lines import Line, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from llmops_tui.screens.board import Board
    from llmops_tui.specs.answers_serving import CheckedEndpoint

_NEW = "new…"


async def choose_model(board: Board, title: str, then: Callable[[str], None]) -> None:
    """Ask which model; `then` gets it as a spec names it."""
    try:
        models = await call(board.client.models)
    except LlmopsError as error:
        board.llmops.tell(str(error), "bad")
        return
    await board.app.push_screen(ModelChoice(title, models), lambda model: then(model) if model else None)


async def offer_start(board: Board, model: str, name: str = "") -> None:
    """Check what serving it would be, show that, and start it on yes; then the Serve page stands on it. `model` may be a run's id."""
    board.llmops.tell(f"checking {model}…", "muted")
    serving, here = board.client.serving, board.llmops.moves.current.directory()
    try:
        taken = {each for endpoint in await call(serving.endpoints) for each in (endpoint["name"], *endpoint["aliases"])}
        wished = free_name(name or name_from_path(model.split("@")[0]), taken)
        spec: dict[str, Any] = {"name": wished, "versions": [{"model": model}]}
        checked = await call(serving.check, spec, here)
    except LlmopsError as error:
        board.llmops.tell(str(error), "bad")
        return
    board.llmops.state.notice = ""

    def answered(yes: bool | None) -> None:
        if yes:
            board.llmops.tell(f"starting {wished}…", "muted")
            board.change(
                lambda: serving.start(spec, here), f"{wished} starts: y copies a request to it", lambda: board.llmops.show_endpoint(wished)
            )

    await board.app.push_screen(ConfirmScreen(f"serve it as {wished}?", _told(checked), "start it", "leave it"), answered)


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or with the next number that is free."""
    if name not in taken:
        return name
    return next(f"{name}-{number}" for number in range(2, len(taken) + 3) if f"{name}-{number}" not in taken)


def _told(checked: CheckedEndpoint) -> list[Line]:
    lines: list[Line] = []
    for server in checked["servers"]:
        where = "GPU" if server["gpu"] else "CPU"
        memory = f", {bytes_text(server['memory_bytes'])} predicted" if server["memory_bytes"] is not None else ""
        threads = f" · {server['threads']} thread{'s' if server['threads'] > 1 else ''}" if server["threads"] and not server["gpu"] else ""
        lines.append([(f"  {server['model']}", "bright")])
        lines.append([(f"  {server['runtime']} {server['runtime_version']} on the {where}{memory}{threads}", "text")])
        if server["slots"]:
            lines.append([(f"  {server['slots']} requests at the same time, {server['context']:,} tokens each", "text")])
    warnings: list[list[Run]] = [[(f"  {warning}", "warn")] for warning in checked["warnings"]]
    return [*lines, *warnings]


async def offer_made(board: Board, run_id: str, name: str) -> None:
    """The model a run made: an endpoint of its own, or a version of one that there is (in the place of the one that answers)."""
    try:
        endpoints = await call(board.client.serving.endpoints)
    except LlmopsError as error:
        board.llmops.tell(str(error), "bad")
        return
    if not endpoints:
        await offer_start(board, run_id, name)
        return
    entries = [(_NEW, "an endpoint of its own")]
    entries += [(each["name"], "there, in place of the version that answers") for each in endpoints]

    def answered(chosen: str | None) -> None:
        if chosen == _NEW:
            board.run_worker(offer_start(board, run_id, name))
        elif chosen:
            swap = lambda: board.client.serving.swap(chosen, run_id, None, board.llmops.moves.current.directory())  # noqa: E731
            board.change(swap, f"{chosen}: the model of {run_id} takes over once it answers", lambda: board.llmops.show_endpoint(chosen))

    await board.app.push_screen(ChooseScreen(f"serve the model of {run_id}", entries), answered)
