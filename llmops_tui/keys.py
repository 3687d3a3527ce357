"""Every key in one table: it makes the bindings, the help and the hints, so none of them can tell another story.

This module imports nothing of the terminal until bindings are asked for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    "pages": "Pages",
    "pulse": "Pulse",
    "runs": "Runs",
    "run_actions": "Marked runs, or the selected one",
    "compare": "Comparison",
    "sweep": "Sweep",
    "run": "A run's page",
    "table": "Tables",
    "edit": "A line of text",
    "form": "New run",
    "fields": "The fields of a form",
    "field": "A field being written",
    "rendered": "Rows as the model meets them",
    "rendered_page": "The page of those rows",
    "linked": "GPUs and host beside a run",
    "chart": "Charts",
    "log": "Logs",
    "samples": "Samples",
    "stop": "Stop question",
    "steer": "Steering a run",
    "confirm": "Yes or no",
    "command": "Command line and palette",
    "choose": "Choice",
    "jump": "Jump labels",
    "sql": "Answer of a query",
    "travel": "Time travel",
    "queue": "Queue",
    "gpus": "GPUs",
    "inbox": "Inbox",
    "serve": "Serve",
    "requests": "Requests",
    "request": "A request",
    "chat": "Chat",
    "chat_pane": "The conversation",
    "prompt": "A question being written",
    "hosts": "Several boxes",
    "help": "This help",
}

KEYS: tuple[Key, ...] = (
    Key("help", ("question_mark", "f1"), "app.help", "everywhere", "this help", "help"),
    Key("quit", ("q", "ctrl+c"), "app.leave", "everywhere", "leave the viewer; every run goes on", "leave"),
    Key("refresh", ("r",), "app.retry", "everywhere", "ask again now; with the engine gone, start it"),
    Key("command", ("colon",), "app.command_line", "everywhere", "a command by name, with completion", "command"),
    Key("palette", ("ctrl+p",), "app.palette", "everywhere", "everything that can be done here, by typing a part of it"),
    Key("new_run", ("n",), "app.new_run", "everywhere", "a new run, from the last one's spec", "new"),
    Key("maximise", ("z",), "app.maximise", "everywhere", "the focused panel on the whole screen, and back"),
    Key("travel", ("t",), "app.travel", "everywhere", "time travel: show every panel as it was"),
    Key("export", ("ctrl+s",), "app.export", "everywhere", "write the screen, table or comparison to a file"),
    Key("slow_line", ("ctrl+b",), "app.slow_line", "everywhere", "low-bandwidth mode on, off or by itself"),
    Key("jump", ("apostrophe",), "app.jump", "everywhere", "jump labels: a letter for each panel and row"),
    Key("go_pulse", ("1",), "app.go('pulse')", "pages", "Pulse: the box, what runs, the curve, events"),
    Key("go_runs", ("2",), "app.go('runs')", "pages", "Runs: every run, filter, marks, compare"),
    Key("go_queue", ("3",), "app.go('queue')", "pages", "Queue: what waits, for what, in which order"),
    Key("go_gpus", ("4",), "app.go('gpus')", "pages", "GPUs: who holds what, since when, idle how long"),
    Key("go_inbox", ("5",), "app.go('inbox')", "pages", "Inbox: what finished, failed or was asked of you"),
    Key("go_serve", ("6",), "app.go('serve')", "pages", "Serve: what is served, is it healthy, as fast as yesterday"),
    Key("open", ("enter", "l", "right"), "choose", "table", "open the row"),
    Key("down", ("j", "down"), "move(1)", "table", "next row"),
    Key("up", ("k", "up"), "move(-1)", "table", "row before"),
    Key("page_down", ("pagedown", "ctrl+d"), "page(1)", "table", "a page down"),
    Key("page_up", ("pageup", "ctrl+u"), "page(-1)", "table", "a page up"),
    Key("first", ("g", "home"), "end(False)", "table", "first row"),
    Key("last", ("G", "end"), "end(True)", "table", "last row"),
    Key("mark", ("space",), "mark", "table", "mark or unmark the row, where rows can be marked, and go on"),
    Key("unmark_all", ("u",), "unmark_all", "table", "unmark every row"),
    Key("sort", ("s",), "next_sort", "table", "sort by the next column (a click on a heading does it too)"),
    Key("sort_reverse", ("S",), "reverse_sort", "table", "sort the other way round"),
    Key("filter", ("slash",), "filter", "runs", "filter as you type: state:running tag:x cfg.learning_rate>=1e-4", "filter"),
    Key("filter_clear", ("escape",), "clear_filter", "runs", "every run again"),
    Key("compare", ("o",), "compare", "runs", "compare the marked runs, or the run with the baseline", "compare"),
    Key("column_add", ("a",), "add_column", "runs", "a setting or a metric as a column"),
    Key("column_remove", ("A",), "remove_column", "runs", "take an added column away"),
    Key("runs_stop", ("x",), "stop_runs", "run_actions", "stop (asks first)", "stop"),
    Key("runs_checkpoint", ("c",), "checkpoint_runs", "run_actions", "write a checkpoint now"),
    Key("runs_steer", ("P",), "steer", "run_actions", "pause, resume, evaluate, sample, set the learning rate… (a list)", "steer"),
    Key("runs_retry", ("R",), "retry_runs", "run_actions", "queue again, from the newest checkpoint"),
    Key("runs_reproduce", ("E",), "reproduce", "run_actions", "start it again from its capsule; tells what differs (asks first)"),
    Key("runs_clone", ("C",), "clone", "run_actions", "a new run from this one's spec, with one change"),
    Key("runs_tags", ("T",), "tags", "run_actions", "tags"),
    Key("runs_note", ("N",), "note", "run_actions", "a note"),
    Key("runs_baseline", ("b",), "baseline", "run_actions", "pin as a baseline to compare with, or let it go"),
    Key("runs_serve", ("V",), "serve_made", "run_actions", "serve the model it made: a new endpoint, or a version of one"),
    Key("runs_remove", ("D",), "remove_runs", "run_actions", "delete ended runs and their directories (asks first)"),
    Key("compare_back", ("escape", "backspace"), "back", "compare", "back to the page before", "back"),
    Key("compare_pane", ("tab",), "pane(1)", "compare", "next pane", "pane"),
    Key("compare_pane_back", ("shift+tab",), "pane(-1)", "compare", "pane before"),
    Key("compare_pane_1", ("1",), "show_pane('chart')", "compare", "the curves"),
    Key("compare_pane_2", ("2",), "show_pane('metrics')", "compare", "the metrics"),
    Key("compare_pane_3", ("3",), "show_pane('facts')", "compare", "what differs"),
    Key("compare_metric", ("m",), "cycle_metric(1)", "compare", "next metric in the chart", "metric"),
    Key("compare_metric_back", ("M",), "cycle_metric(-1)", "compare", "metric before"),
    Key("sweep_back", ("escape", "backspace"), "back", "sweep", "back to the page before", "back"),
    Key("sweep_pane", ("tab",), "pane(1)", "sweep", "next pane", "pane"),
    Key("sweep_pane_back", ("shift+tab",), "pane(-1)", "sweep", "pane before"),
    Key("sweep_pane_1", ("1",), "show_pane('trials')", "sweep", "the trials, best first; Enter opens one"),
    Key("sweep_pane_2", ("2",), "show_pane('chart')", "sweep", "the best so far, or the metric over a setting"),
    Key("sweep_pane_3", ("3",), "show_pane('facts')", "sweep", "which settings matter, what is used"),
    Key("sweep_chart", ("m",), "cycle_metric(1)", "sweep", "the next setting in the chart", "setting"),
    Key("sweep_chart_back", ("M",), "cycle_metric(-1)", "sweep", "the setting before"),
    Key("compare_all", ("d",), "toggle_all", "compare", "only what differs, or everything", "all/differing"),
    Key("compare_group", ("B",), "cycle_group", "compare", "runs of one value together, mean ± interval; next setting", "group by"),
    Key("edit_submit", ("enter",), "submit", "edit", "done", "done"),
    Key("edit_leave", ("escape",), "leave", "edit", "leave the line", "back"),
    Key("edit_complete", ("tab",), "complete(1)", "edit", "complete the word; again: the next suggestion", "complete"),
    Key("edit_complete_back", ("shift+tab",), "complete(-1)", "edit", "suggestion before"),
    Key("edit_older", ("up",), "recall(1)", "edit", "an earlier line"),
    Key("edit_newer", ("down",), "recall(-1)", "edit", "a later line"),
    Key("edit_left", ("left",), "go(-1)", "edit", "a character left"),
    Key("edit_right", ("right",), "go(1)", "edit", "a character right"),
    Key("edit_word_left", ("ctrl+left",), "go_word(-1)", "edit", "a word left"),
    Key("edit_word_right", ("ctrl+right",), "go_word(1)", "edit", "a word right"),
    Key("edit_start", ("home", "ctrl+a"), "edge(False)", "edit", "to the beginning"),
    Key("edit_end", ("end", "ctrl+e"), "edge(True)", "edit", "to the end"),
    Key("edit_rub", ("backspace",), "rub(-1)", "edit", "delete the character before"),
    Key("edit_delete", ("delete",), "rub(1)", "edit", "delete the character here"),
    Key("edit_rub_word", ("ctrl+w",), "rub_word", "edit", "delete the word before"),
    Key("edit_rub_all", ("ctrl+u",), "rub_all", "edit", "delete everything before"),
    Key("form_launch", ("ctrl+r", "f5"), "launch", "form", "launch the run", "launch"),
    Key("form_check", ("v",), "check", "form", "check model, data and disk; start nothing", "check"),
    Key("form_all", ("full_stop", "a"), "toggle_all", "form", "every field, or the common ones", "all"),
    Key("form_find", ("slash",), "find", "form", "a field by a part of its name", "find"),
    Key("form_editor", ("e", "ctrl+e"), "editor", "form", "the spec as YAML in $EDITOR", "editor"),
    Key("form_rows", ("p",), "rows", "form", "the first rows as the model will meet them, with what it learns marked", "rows"),
    Key("form_copy", ("y",), "copy", "form", "copy the equal command through the terminal (OSC 52)"),
    Key("form_empty", ("N",), "empty", "form", "start empty"),
    Key("form_last", ("L",), "last", "form", "the newest run's spec again"),
    Key("form_back", ("escape",), "back", "form", "back; what was typed is kept", "back"),
    Key("fields_choose", ("enter", "i"), "choose", "fields", "write in the field, or choose; on the first line: launch"),
    Key("fields_down", ("j", "down", "tab"), "move(1)", "fields", "next field"),
    Key("fields_up", ("k", "up", "shift+tab"), "move(-1)", "fields", "field before"),
    Key("fields_page_down", ("pagedown", "ctrl+d"), "page(1)", "fields", "a page down"),
    Key("fields_page_up", ("pageup", "ctrl+u"), "page(-1)", "fields", "a page up"),
    Key("fields_first", ("g", "home"), "end(False)", "fields", "the launch line"),
    Key("fields_last", ("G", "end"), "end(True)", "fields", "last field"),
    Key("fields_turn", ("l", "right", "space"), "turn(1)", "fields", "next choice, where there are choices"),
    Key("fields_turn_back", ("h", "left"), "turn(-1)", "fields", "choice before"),
    Key("fields_reset", ("d", "delete"), "reset", "fields", "what the field began with; again: its default"),
    Key("field_down", ("down", "ctrl+n"), "pick(1)", "field", "next of what may stand here"),
    Key("field_up", ("up",), "pick(-1)", "field", "the one before"),
    Key("field_next", ("tab",), "next(1)", "field", "complete it; else keep it and write in the next field"),
    Key("field_previous", ("shift+tab",), "next(-1)", "field", "keep it and write in the field before"),
    Key("field_editor", ("ctrl+e",), "editor", "field", "the spec as YAML in $EDITOR"),
    Key("pulse_stop", ("x",), "stop_run", "pulse", "stop the selected run (asks first)", "stop"),
    Key("pulse_checkpoint", ("c",), "checkpoint", "pulse", "write a checkpoint of the selected run now", "save"),
    Key("pulse_metric", ("m",), "cycle_metric(1)", "pulse", "next curve in the chart", "metric"),
    Key("pulse_log_y", ("y",), "toggle_log", "pulse", "logarithmic y axis on or off"),
    Key("back", ("escape", "backspace"), "back", "run", "back to the page before", "back"),
    Key("next_pane", ("tab",), "pane(1)", "run", "next pane", "pane"),
    Key("previous_pane", ("shift+tab",), "pane(-1)", "run", "pane before"),
    Key("pane_1", ("1",), "show_pane('chart')", "run", "the chart"),
    Key("pane_2", ("2",), "show_pane('metrics')", "run", "the metrics; of a quantization its forms: Enter picks one"),
    Key("pane_3", ("3",), "show_pane('log')", "run", "the log"),
    Key("pane_4", ("4",), "show_pane('samples')", "run", "what the model said, by step"),
    Key("pane_5", ("5",), "show_pane('checkpoints')", "run", "the checkpoints"),
    Key("pane_6", ("6",), "show_pane('facts')", "run", "spec and history"),
    Key("pane_7", ("7",), "show_pane('capsule')", "run", "what makes it reproducible: code, packages, driver, data"),
    Key("pane_8", ("8",), "show_pane('watchers')", "run", "what watches it: rules, thresholds, alarms; Enter: to the moment on the chart"),
    Key("pane_9", ("9",), "show_pane('memory')", "run", "what it was predicted to take, and took; of a quantization a form's card"),
    Key("ack_alarms", ("a",), "ack_alarms", "run", "acknowledge the run's open alarms"),
    Key("panels", ("p",), "panels", "run", "loss, GPU power and host over one time axis, and back", "panels"),
    Key("run_metric", ("m",), "cycle_metric(1)", "run", "next curve in the chart", "metric"),
    Key("run_metric_back", ("M",), "cycle_metric(-1)", "run", "curve before"),
    Key("run_log_y", ("y",), "toggle_log", "run", "logarithmic y axis on or off"),
    Key("follow", ("f",), "follow", "run", "follow the end of the log, or stay here"),
    Key("linked_back", ("escape", "backspace", "p"), "back", "linked", "back to the run's page", "back"),
    Key("cross_left", ("h", "left"), "cross(-1)", "chart", "crosshair one column left"),
    Key("cross_right", ("l", "right"), "cross(1)", "chart", "crosshair one column right"),
    Key("cross_off", ("o",), "cross_off", "chart", "take the crosshair away"),
    Key("cross_mark", ("right_square_bracket",), "next_mark(1)", "chart", "crosshair to the next checkpoint, alarm or retry"),
    Key("cross_mark_back", ("left_square_bracket",), "next_mark(-1)", "chart", "crosshair to the one before"),
    Key("zoom_in", ("plus", "equals_sign"), "zoom(1)", "chart", "zoom in around the crosshair, or the middle"),
    Key("zoom_out", ("minus",), "zoom(-1)", "chart", "zoom out"),
    Key("zoom_all", ("0",), "zoom_all", "chart", "the whole curve"),
    Key("pan_left", ("H", "shift+left"), "pan(-1)", "chart", "the window to the left"),
    Key("pan_right", ("L", "shift+right"), "pan(1)", "chart", "the window to the right; at the newest point it follows"),
    Key("chart_log_y", ("y",), "toggle_log", "chart", "logarithmic y axis on or off"),
    Key("chart_axis", ("w",), "next_axis", "chart", "x is steps, wall time or elapsed time"),
    Key("chart_clip", ("e",), "toggle_clip", "chart", "outliers out of the plot (told in the legend), or in it"),
    Key("chart_smooth", ("v",), "smooth", "chart", "smoothing off, 0.6, 0.9; the raw curve stays under it"),
    Key("chart_linked", ("p",), "linked", "chart", "GPU and host on the same time, at the crosshair or the spike"),
    Key("rendered_down", ("j", "down"), "scroll(1)", "rendered", "a line down"),
    Key("rendered_up", ("k", "up"), "scroll(-1)", "rendered", "a line up"),
    Key("rendered_page_down", ("pagedown", "space", "ctrl+d"), "page(1)", "rendered", "a page down"),
    Key("rendered_page_up", ("pageup", "ctrl+u"), "page(-1)", "rendered", "a page up"),
    Key("rendered_first", ("g", "home"), "end(False)", "rendered", "the first row"),
    Key("rendered_last", ("G", "end"), "end(True)", "rendered", "the end of the last row"),
    Key("rendered_next", ("l", "right"), "row(1)", "rendered", "next row", "row"),
    Key("rendered_previous", ("h", "left"), "row(-1)", "rendered", "row before"),
    Key("rendered_back", ("escape", "backspace", "p"), "back", "rendered_page", "back to the form", "back"),
    Key("samples_down", ("j", "down"), "scroll(1)", "samples", "a line down"),
    Key("samples_up", ("k", "up"), "scroll(-1)", "samples", "a line up"),
    Key("samples_page_down", ("pagedown", "space", "ctrl+d"), "page(1)", "samples", "a page down"),
    Key("samples_page_up", ("pageup", "ctrl+u"), "page(-1)", "samples", "a page up"),
    Key("samples_first", ("g", "home"), "end(False)", "samples", "the newest answer"),
    Key("samples_last", ("G", "end"), "end(True)", "samples", "the oldest answer"),
    Key("samples_next", ("l", "right"), "prompt(1)", "samples", "next prompt"),
    Key("samples_previous", ("h", "left"), "prompt(-1)", "samples", "prompt before"),
    Key("log_down", ("j", "down"), "scroll_log(1)", "log", "a line down"),
    Key("log_up", ("k", "up"), "scroll_log(-1)", "log", "a line up"),
    Key("log_page_down", ("pagedown", "space", "ctrl+d"), "page_log(1)", "log", "a page down"),
    Key("log_page_up", ("pageup", "ctrl+u"), "page_log(-1)", "log", "a page up"),
    Key("log_first", ("g", "home"), "log_end(False)", "log", "the beginning of the log"),
    Key("log_last", ("G", "end"), "log_end(True)", "log", "the end of the log, and follow it"),
    Key("log_search", ("slash",), "log_search", "log", "search: text, or re: and an expression; capitals count if there are any", "search"),
    Key("log_next", ("n",), "log_next(1)", "log", "next hit", "next"),
    Key("log_previous", ("N",), "log_next(-1)", "log", "hit before"),
    Key("log_filter", ("ampersand",), "log_filter", "log", "only the lines that match; an empty line ends it", "filter"),
    Key("log_context", ("C",), "log_context", "log", "0, 2 or 5 lines around those that match"),
    Key("log_open", ("enter",), "log_open", "log", "in a filter: this line among its neighbours"),
    Key("log_back", ("escape",), "log_back", "log", "stop the search, leave the filter, take the marks away", "back"),
    Key("log_wrap", ("w",), "log_wrap", "log", "long lines in several rows, or cut", "wrap"),
    Key("log_left", ("h", "left"), "log_sideways(-1)", "log", "columns further left"),
    Key("log_right", ("l", "right"), "log_sideways(1)", "log", "columns further right"),
    Key("stop_now", ("n",), "answer('now')", "stop", "stop now: TERM, grace, KILL"),
    Key("stop_checkpoint", ("c",), "answer('checkpoint')", "stop", "write a checkpoint, then stop"),
    Key("stop_keep", ("escape", "k"), "answer('')", "stop", "keep it running"),
    Key("steer_free", ("p",), "answer('steer_free', 'free')", "steer", "pause: save a checkpoint, free the memory, wait to be resumed"),
    Key("steer_hold", ("h",), "answer('steer_hold', 'hold')", "steer", "pause: keep still with all its memory"),
    Key("steer_resume", ("r",), "answer('steer_resume', 'resume')", "steer", "resume"),
    Key("steer_checkpoint", ("c",), "answer('steer_checkpoint', 'checkpoint')", "steer", "write a checkpoint now"),
    Key("steer_evaluate", ("e",), "answer('steer_evaluate', 'evaluate')", "steer", "score the held-out rows now"),
    Key("steer_sample", ("s",), "answer('steer_sample', 'sample')", "steer", "let the model speak now"),
    Key("steer_rate", ("l",), "answer('steer_rate', 'learning_rate_scale')", "steer", "scale the learning rate"),
    Key("steer_save_every", ("i",), "answer('steer_save_every', 'checkpoint_every')", "steer", "steps between checkpoints"),
    Key("steer_evaluate_every", ("v",), "answer('steer_evaluate_every', 'evaluate_every')", "steer", "steps between evaluations"),
    Key("steer_leave", ("escape", "q"), "answer('steer_leave', '')", "steer", "leave it as it is"),
    Key("confirm_yes", ("y",), "answer(True)", "confirm", "yes"),
    Key("confirm_no", ("n", "escape"), "answer(False)", "confirm", "no"),
    Key("command_leave", ("escape", "ctrl+c"), "leave", "command", "leave it, nothing done"),
    Key("command_next", ("down", "tab", "ctrl+n"), "step(1)", "command", "next suggestion"),
    Key("command_previous", ("up", "shift+tab"), "step(-1)", "command", "suggestion before"),
    Key("jump_leave", ("escape",), "leave", "jump", "stay here; a letter jumps"),
    Key("sql_back", ("escape", "backspace"), "back", "sql", "to the page before", "back"),
    Key("sql_chart", ("c",), "chart", "sql", "table or chart", "chart"),
    Key("sql_edit", ("i", "e"), "edit", "sql", "change the query", "edit"),
    Key("sql_again", ("R",), "ask_again", "sql", "ask again now", "again"),
    Key("choose_leave", ("escape", "q"), "leave", "choose", "none of them"),
    Key("travel_back", ("left", "h"), "scrub(-1)", "travel", "a step back", "back"),
    Key("travel_on", ("right", "l"), "scrub(1)", "travel", "a step on", "on"),
    Key("travel_far_back", ("shift+left", "H"), "scrub(-10)", "travel", "ten steps back"),
    Key("travel_far_on", ("shift+right", "L"), "scrub(10)", "travel", "ten steps on"),
    Key("travel_finer", ("plus",), "finer", "travel", "smaller steps", "finer"),
    Key("travel_coarser", ("minus",), "coarser", "travel", "larger steps", "coarser"),
    Key("travel_event_back", ("left_square_bracket",), "event(-1)", "travel", "to the event before", "event before"),
    Key("travel_event_on", ("right_square_bracket",), "event(1)", "travel", "to the next event", "next event"),
    Key("travel_first", ("home",), "edge(-1)", "travel", "to the first moment kept"),
    Key("travel_live", ("t", "end", "escape"), "edge(1)", "travel", "back to now", "now"),
    Key("queue_up", ("K", "shift+up"), "move_in_queue(-1)", "queue", "one place forward", "forward"),
    Key("queue_down", ("J", "shift+down"), "move_in_queue(1)", "queue", "one place back", "back"),
    Key("queue_raise", ("plus",), "priority(1)", "queue", "higher priority", "prio up"),
    Key("queue_lower", ("minus",), "priority(-1)", "queue", "lower priority"),
    Key("queue_undo", ("U",), "undo", "queue", "take the last move or priority back", "undo"),
    Key("queue_stop", ("x",), "stop_run", "queue", "take it out of the queue, or stop it (asks first)", "stop"),
    Key("queue_pane", ("tab", "shift+tab"), "app.focus_next", "queue", "the other table"),
    Key("gpus_stop", ("x",), "stop_run", "gpus", "stop the run under the cursor (asks first)", "stop"),
    Key("gpus_checkpoint", ("c",), "checkpoint", "gpus", "write a checkpoint of it now", "save"),
    Key("gpus_ask", ("a",), "ask_owner", "gpus", "ask its owner politely", "ask"),
    Key("gpus_reserve", ("v",), "reserve", "gpus", "reserve the GPU under the cursor", "reserve"),
    Key("gpus_pane", ("tab", "shift+tab"), "app.focus_next", "gpus", "the other table"),
    Key("inbox_jump", ("J",), "jump_to_moment", "inbox", "travel to the moment of the event", "moment"),
    Key("inbox_read", ("a",), "read_all", "inbox", "all read", "all read"),
    Key("serve_start", ("a",), "start", "serve", "serve a model: choose one, see what it takes, yes", "start"),
    Key("serve_more", ("plus",), "share(1)", "serve", "five points more of the requests for the version under the cursor", "more"),
    Key("serve_less", ("minus",), "share(-1)", "serve", "five points fewer", "less"),
    Key("serve_all", ("f",), "all_to", "serve", "all requests to the version under the cursor"),
    Key("serve_apply", ("enter",), "apply", "serve", "apply the new split"),
    Key("serve_drop", ("escape",), "drop", "serve", "drop the new split; without one, back to the endpoints"),
    Key("serve_weights", ("W",), "weights", "serve", "the weights as a line: v3=95 v4=5"),
    Key("serve_rollback", ("U",), "rollback", "serve", "back to the version before, at once (asks first)", "roll back"),
    Key("serve_version", ("V",), "new_version", "serve", "a new version: in the place of the one that answers, or beside it", "version"),
    Key("serve_requests", ("b",), "requests", "serve", "browse its requests: latency, status, version, text where kept", "requests"),
    Key("serve_log", ("L",), "log", "serve", "the log of the server under the cursor, else of the version's worst", "log"),
    Key("serve_chat", ("c",), "chat", "serve", "chat with it", "chat"),
    Key("serve_loadtest", ("T",), "loadtest", "serve", "load it and see how it holds: the form of a load test, aimed at it", "load test"),
    Key("serve_stop", ("x",), "stop_endpoint", "serve", "stop the endpoint (asks first)", "stop"),
    Key("serve_copy", ("y",), "copy", "serve", "copy a curl line that asks it through the terminal (OSC 52)", "curl"),
    Key(
        "serve_metric",
        ("m",),
        "cycle_metric(1)",
        "serve",
        "next quantity in the chart: first token, between tokens, queue, requests…",
        "metric",
    ),
    Key("serve_metric_back", ("M",), "cycle_metric(-1)", "serve", "quantity before"),
    Key("serve_span", ("i",), "cycle_span", "serve", "the last hour, six hours, day, week or ten minutes in the chart"),
    Key("serve_pin", ("P",), "pin", "serve", "pin it: never unload it; again: as its spec says"),
    Key("serve_sleep", ("Z",), "sleep", "serve", "unload it until the next request (asks first), or wake it"),
    Key("serve_scale", ("N",), "scale", "serve", "how many servers the version under the cursor has"),
    Key("serve_remove", ("D",), "remove_version", "serve", "remove a version that gets no requests (asks first)"),
    Key("serve_baseline", ("B",), "baseline", "serve", "compare with this hour from now on, not with yesterday; again: let it go"),
    Key("serve_pane", ("tab",), "pane(1)", "serve", "endpoints, versions, chart, last minutes"),
    Key("serve_pane_back", ("shift+tab",), "pane(-1)", "serve", "the part before"),
    Key("requests_filter", ("slash",), "filter", "requests", "filter as you type: status:error slower:500 version:v4 key:web", "filter"),
    Key("requests_back", ("escape", "backspace"), "back", "requests", "every request again; then to the page before", "back"),
    Key("requests_again", ("R",), "ask_again", "requests", "ask again now"),
    Key("request_back", ("escape", "backspace"), "back", "request", "to the list", "back"),
    Key("request_newer", ("h", "left"), "step(-1)", "request", "the request after it", "newer"),
    Key("request_older", ("l", "right"), "step(1)", "request", "the request before it", "older"),
    Key("request_down", ("j", "down"), "scroll(1)", "request", "a line down"),
    Key("request_up", ("k", "up"), "scroll(-1)", "request", "a line up"),
    Key("request_page_down", ("pagedown", "space", "ctrl+d"), "page(1)", "request", "a page down"),
    Key("request_page_up", ("pageup", "ctrl+u"), "page(-1)", "request", "a page up"),
    Key("request_first", ("g", "home"), "end(False)", "request", "the first line"),
    Key("request_last", ("G", "end"), "end(True)", "request", "the last line"),
    Key("request_good", ("plus",), "rate('up')", "request", "a good answer (kept as feedback)", "good"),
    Key("request_bad", ("minus",), "rate('down')", "request", "a bad answer (kept as feedback)", "bad"),
    Key("request_copy", ("y",), "copy", "request", "copy its prompt and answer through the terminal (OSC 52)"),
    Key("chat_write", ("i", "enter"), "write", "chat", "write a question", "write"),
    Key("chat_version", ("v",), "version", "chat", "who answers: a version outright, or as the route says", "version"),
    Key("chat_beside", ("b",), "beside", "chat", "a second version beside it, asked the same", "beside"),
    Key("chat_system", ("s",), "system", "chat", "the system prompt", "system"),
    Key("chat_settings", ("o",), "settings", "chat", "sampling and other fields: temperature=0.2 max_tokens=256", "options"),
    Key("chat_good", ("plus",), "rate('up')", "chat", "a good answer (kept as feedback)", "good"),
    Key("chat_bad", ("minus",), "rate('down')", "chat", "a bad answer (kept as feedback)", "bad"),
    Key("chat_edit", ("e",), "edit", "chat", "what the answer should have been (kept as feedback)", "correct"),
    Key("chat_copy", ("y",), "copy", "chat", "copy the request as a curl line through the terminal (OSC 52)", "curl"),
    Key("chat_copy_answer", ("Y",), "copy_answer", "chat", "copy the answer"),
    Key("chat_again", ("R",), "again", "chat", "ask the last question again"),
    Key("chat_stop", ("x",), "stop", "chat", "give up the answer that is on its way"),
    Key("chat_new", ("N",), "new", "chat", "a new conversation, with the same system prompt and options"),
    Key("chat_search", ("slash",), "search", "chat", "earlier conversations, by words in them", "search"),
    Key("chat_older", ("left_square_bracket",), "step(-1)", "chat", "the conversation before"),
    Key("chat_newer", ("right_square_bracket",), "step(1)", "chat", "the conversation after"),
    Key("chat_back", ("escape", "backspace"), "back", "chat", "to the page before", "back"),
    Key("chat_down", ("j", "down"), "scroll(1)", "chat_pane", "a line down"),
    Key("chat_up", ("k", "up"), "scroll(-1)", "chat_pane", "a line up"),
    Key("chat_page_down", ("pagedown", "space", "ctrl+d"), "page(1)", "chat_pane", "a page down"),
    Key("chat_page_up", ("pageup", "ctrl+u"), "page(-1)", "chat_pane", "a page up"),
    Key("chat_first", ("g", "home"), "end(False)", "chat_pane", "the beginning"),
    Key("chat_last", ("G", "end"), "end(True)", "chat_pane", "the end, and follow it"),
    Key("chat_next", ("l", "right"), "answer(1)", "chat_pane", "next answer"),
    Key("chat_previous", ("h", "left"), "answer(-1)", "chat_pane", "answer before"),
    Key("prompt_send", ("enter",), "send", "prompt", "send it", "send"),
    Key("prompt_line", ("ctrl+j",), "newline", "prompt", "begin another line", "line"),
    Key("prompt_leave", ("escape",), "leave", "prompt", "to the conversation; what is written stays", "leave"),
    Key("prompt_older", ("up",), "older", "prompt", "a line up; on the first one what was asked before"),
    Key("prompt_newer", ("down",), "newer", "prompt", "a line down; on the last one what was asked after"),
    Key("prompt_editor", ("ctrl+o",), "edit", "prompt", "write it in $EDITOR"),
    Key("prompt_left", ("left",), "cursor_left", "prompt", "a character left"),
    Key("prompt_right", ("right",), "cursor_right", "prompt", "a character right"),
    Key("prompt_word_left", ("ctrl+left",), "cursor_word_left", "prompt", "a word left"),
    Key("prompt_word_right", ("ctrl+right",), "cursor_word_right", "prompt", "a word right"),
    Key("prompt_start", ("home", "ctrl+a"), "cursor_line_start", "prompt", "to the beginning of the line"),
    Key("prompt_end", ("end", "ctrl+e"), "cursor_line_end", "prompt", "to the end of the line"),
    Key("prompt_rub", ("backspace",), "delete_left", "prompt", "delete the character before"),
    Key("prompt_delete", ("delete",), "delete_right", "prompt", "delete the character here"),
    Key("prompt_rub_word", ("ctrl+w",), "delete_word_left", "prompt", "delete the word before"),
    Key("prompt_rub_start", ("ctrl+u",), "delete_to_start_of_line", "prompt", "delete everything before in the line"),
    Key("prompt_undo", ("ctrl+z",), "undo", "prompt", "take the last change back"),
    Key("hosts_next", ("l", "right", "j", "down", "tab"), "step(1)", "hosts", "next box", "box"),
    Key("hosts_previous", ("h", "left", "k", "up", "shift+tab"), "step(-1)", "hosts", "box before"),
    Key("hosts_go", ("enter",), "go_there", "hosts", "the console on that box", "go there"),
    Key("hosts_again", ("R",), "ask_again", "hosts", "ask every box again now"),
    Key("hosts_back", ("escape", "backspace"), "back", "hosts", "to the page before", "back"),
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
    "colon": ":",
    "apostrophe": "'",
    "slash": "/",
    "ampersand": "&",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "full_stop": ".",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "shift+left": "Shift+Left",
    "ctrl+left": "Ctrl+Left",
    "ctrl+right": "Ctrl+Right",
    "delete": "Del",
    "shift+right": "Shift+Right",
    "shift+up": "Shift+Up",
    "shift+down": "Shift+Down",
}
_keymap: dict[str, tuple[str, ...]] = {}


def name_of(key: str) -> str:
    """A key as a person writes it."""
    return _NAMES.get(key, key.replace("ctrl+", "Ctrl+"))


def remap(wished: Mapping[str, str]) -> str:
    """Give keys other keys, by id; "" or what is wrong, and then nothing is changed. Counts until the next call."""
    table = {key.id: key for key in KEYS}
    fresh = {name: tuple(key_name(key.strip()) for key in keys.split(",") if key.strip()) for name, keys in wished.items()}
    for name in fresh:
        if name not in table:
            return f"keys.{name}: there is no such key; `?` lists the ids"
        if not fresh[name]:
            return f"keys.{name}: names no key"
    for place in PLACES:
        taken: dict[str, str] = {}
        for key in KEYS:
            if key.where == place:
                for pressed in fresh.get(key.id, key.keys):
                    if pressed in taken and (key.id in fresh or taken[pressed] in fresh):
                        return f"keys.{key.id if key.id in fresh else taken[pressed]}: {name_of(pressed)} is {taken[pressed]} already"
                    taken[pressed] = key.id
    _keymap.clear()
    _keymap.update(fresh)
    return ""


def key_name(text: str) -> str:
    """A key as Textual calls it, from how a person writes it: "?" is question_mark."""
    names = {shown: name for name, shown in _NAMES.items()}
    if text in names:
        return names[text]
    if len(text) == 1 and not text.isalnum():
        return unicodedata.name(text, text).lower().replace("-", "_").replace(" ", "_")
    return text


def keymap() -> dict[str, str]:
    """The changed keys in the form Textual takes."""
    return {name: ",".join(keys) for name, keys in _keymap.items()}


def in_force() -> list[Key]:
    """The table with the user's own keys."""
    return [replace(key, keys=_keymap[key.id]) if key.id in _keymap else key for key in KEYS]


def keys_of(*places: str) -> list[Key]:
    """The keys offered in the places, in the table's order."""
    return [key for key in in_force() if key.where in places]


def hints(*places: str) -> list[tuple[str, str]]:
    """`(key, word)` for the line at the foot; the places' own keys before those of everywhere."""
    ordered = sorted((key for key in keys_of(*places) if key.hint), key=lambda key: key.where == "everywhere")
    return [(name_of(key.keys[0]), key.hint) for key in ordered]


def page_keys() -> list[tuple[str, str]]:
    """`(page, key)` of each page that a key goes to."""
    return [(key.action.split("'")[1], name_of(key.keys[0])) for key in keys_of("pages")]


def bindings(*places: str) -> list[Binding | tuple[str, str] | tuple[str, str, str]]:
    """Textual's bindings of some places."""
    from textual.binding import Binding

    return [Binding(",".join(key.keys), key.action, key.help, show=False, id=key.id) for key in KEYS if key.where in places]
