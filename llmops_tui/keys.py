"""Every key in one table: it makes the bindings, the help and the hints, so none of them can tell another story.

This module imports nothing of the terminal until bindings are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.binding import Binding


@dataclass(frozen=True)
class Key:
    """`id` is what a user remaps; `keys` are alternatives; `where` the screen or pane that offers it; `hint` shows at the foot."""

    id: str
    keys: tuple[str, ...]
    action: str
    where: str
    help: str
    hint: str = ""


PLACES: dict[str, str] = {
    "everywhere": "Everywhere",
    "pulse": "Pulse",
    "run": "A run's page",
    "table": "Tables",
    "chart": "Charts",
    "log": "Logs",
    "stop": "Stop question",
    "help": "This help",
}

KEYS: tuple[Key, ...] = (
    Key("help", ("question_mark", "f1"), "app.help", "everywhere", "this help", "help"),
    Key("quit", ("q", "ctrl+c"), "app.leave", "everywhere", "leave the viewer; every run goes on", "leave"),
    Key("refresh", ("r",), "app.retry", "everywhere", "ask again now; with the engine gone, start it"),
    Key("open", ("enter", "l", "right"), "choose", "table", "open the row"),
    Key("down", ("j", "down"), "move(1)", "table", "next row"),
    Key("up", ("k", "up"), "move(-1)", "table", "row before"),
    Key("page_down", ("pagedown", "ctrl+f"), "page(1)", "table", "a page down"),
    Key("page_up", ("pageup", "ctrl+b"), "page(-1)", "table", "a page up"),
    Key("first", ("g", "home"), "end(False)", "table", "first row"),
    Key("last", ("G", "end"), "end(True)", "table", "last row"),
    Key("pulse_stop", ("x",), "stop_run", "pulse", "stop the selected run (asks first)", "stop"),
    Key("pulse_checkpoint", ("c",), "checkpoint", "pulse", "write a checkpoint of the selected run now", "save"),
    Key("pulse_metric", ("m",), "cycle_metric(1)", "pulse", "next curve in the chart", "metric"),
    Key("pulse_log_y", ("y",), "toggle_log", "pulse", "logarithmic y axis on or off", "log y"),
    Key("back", ("escape", "backspace"), "back", "run", "back to Pulse", "back"),
    Key("next_pane", ("tab",), "pane(1)", "run", "next pane", "pane"),
    Key("previous_pane", ("shift+tab",), "pane(-1)", "run", "pane before"),
    Key("pane_1", ("1",), "show_pane('chart')", "run", "the chart"),
    Key("pane_2", ("2",), "show_pane('metrics')", "run", "the metrics"),
    Key("pane_3", ("3",), "show_pane('log')", "run", "the log"),
    Key("pane_4", ("4",), "show_pane('facts')", "run", "spec, checkpoints and history"),
    Key("run_metric", ("m",), "cycle_metric(1)", "run", "next curve in the chart", "metric"),
    Key("run_metric_back", ("M",), "cycle_metric(-1)", "run", "curve before"),
    Key("run_log_y", ("y",), "toggle_log", "run", "logarithmic y axis on or off", "log y"),
    Key("run_stop", ("x",), "stop_run", "run", "stop the run (asks first)", "stop"),
    Key("run_checkpoint", ("c",), "checkpoint", "run", "write a checkpoint now", "save"),
    Key("follow", ("f",), "follow", "run", "follow the end of the log, or stay here"),
    Key("cross_left", ("h", "left"), "cross(-1)", "chart", "crosshair one column left"),
    Key("cross_right", ("l", "right"), "cross(1)", "chart", "crosshair one column right"),
    Key("cross_off", ("o",), "cross_off", "chart", "take the crosshair away"),
    Key("log_down", ("j", "down"), "scroll_log(1)", "log", "a line down"),
    Key("log_up", ("k", "up"), "scroll_log(-1)", "log", "a line up"),
    Key("log_page_down", ("pagedown", "space", "ctrl+f"), "page_log(1)", "log", "a page down"),
    Key("log_page_up", ("pageup", "ctrl+b"), "page_log(-1)", "log", "a page up"),
    Key("log_first", ("g", "home"), "log_end(False)", "log", "the beginning of the log"),
    Key("log_last", ("G", "end"), "log_end(True)", "log", "the end of the log, and follow it"),
    Key("stop_now", ("n",), "answer('now')", "stop", "stop now: TERM, grace, KILL"),
    Key("stop_checkpoint", ("c",), "answer('checkpoint')", "stop", "write a checkpoint, then stop"),
    Key("stop_keep", ("escape", "k"), "answer('')", "stop", "keep it running"),
    Key("help_close", ("escape", "question_mark", "q", "f1"), "dismiss", "help", "close"),
    Key("help_down", ("j", "down"), "scroll(1)", "help", "a line down"),
    Key("help_up", ("k", "up"), "scroll(-1)", "help", "a line up"),
    Key("help_page_down", ("pagedown", "space"), "scroll(10)", "help", "ten lines down"),
    Key("help_page_up", ("pageup", "b"), "scroll(-10)", "help", "ten lines up"),
)

_NAMES = {
    "question_mark": "?",
    "escape": "Esc",
    "enter": "Enter",
    "tab": "Tab",
    "shift+tab": "Shift+Tab",
    "pagedown": "PgDn",
    "pageup": "PgUp",
    "backspace": "Backspace",
    "home": "Home",
    "end": "End",
    "space": "Space",
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "f1": "F1",
}


def name_of(key: str) -> str:
    """A key as a person writes it."""
    return _NAMES.get(key, key.replace("ctrl+", "Ctrl+"))


def keys_of(*places: str) -> list[Key]:
    """The keys offered in the places, in the table's order."""
    return [key for key in KEYS if key.where in places]


def hints(*places: str) -> list[tuple[str, str]]:
    """`(key, word)` for the line at the foot; the places' own keys before those of everywhere."""
    ordered = sorted((key for key in keys_of(*places) if key.hint), key=lambda key: key.where == "everywhere")
    return [(name_of(key.keys[0]), key.hint) for key in ordered]


def bindings(where: str) -> list[Binding | tuple[str, str] | tuple[str, str, str]]:
    """Textual's bindings of one place."""
    from textual.binding import Binding

    return [Binding(",".join(key.keys), key.action, key.help, show=False, id=key.id) for key in keys_of(where)]
