"""What can be done here and now: the keys of the page and of the widget that has the focus, the commands, and the runs to go to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops_tui.keys import in_force, name_of
from llmops_tui.screens.command_table import COMMANDS, Command

if TYPE_CHECKING:
    from textual.dom import DOMNode

    from llmops_tui.app import LlmopsApp


@dataclass(frozen=True)
class Deed:
    """One entry of the palette."""

    words: str
    key: str
    do: Callable[[], object]


def places_now(app: LlmopsApp) -> list[str]:
    """The places of the key table that are in force, the nearest first."""
    ids = {key.id: key.where for key in in_force()}
    places: list[str] = []
    for _, bindings in app.screen._modal_binding_chain:
        for _, binding in bindings:
            where = ids.get(binding.id or "")
            if where is not None and where not in places:
                places.append(where)
    return places


def deeds(app: LlmopsApp) -> list[Deed]:
    """Everything that is possible, the nearest first."""
    by_id = {key.id: key for key in in_force()}
    found: list[Deed] = []
    seen: set[str] = set()
    for node, bindings in app.screen._modal_binding_chain:
        for _, binding in bindings:
            key = by_id.get(binding.id or "")
            if key is not None and key.id not in seen and key.id != "palette":
                seen.add(key.id)
                found.append(Deed(key.help, " ".join(map(name_of, key.keys[:2])), _acting(app, node, key.action)))
    for command in COMMANDS:
        found.append(Deed(command.help, f":{command.name}", _commanding(app, command)))
    for run in app.state.runs():
        found.append(Deed(f"open {run['id']}", "", lambda run_id=run["id"]: app.open_run(run_id)))  # type: ignore[misc]  # mypy#15459
    return found


def _commanding(app: LlmopsApp, command: Command) -> Callable[[], object]:
    """What cannot be done without words of its own is begun on the command line."""
    if command.arguments and not command.arguments.startswith("["):
        return lambda: app.action_command_line(f"{command.name} ")
    return lambda: command.do(app, "")


def _acting(app: LlmopsApp, node: DOMNode, action: str) -> Callable[[], object]:
    return lambda: app.call_later(app.run_action, action, node)
