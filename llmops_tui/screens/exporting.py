"""Writing what is shown to a file: the screen as SVG or text, its table as CSV or JSON, a comparison as markdown."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tui.commands.unpacking import unpack
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.screens.calls import call

if TYPE_CHECKING:
    from llmops_tui.screens.board import Board

FORMATS = {"svg": "svg", "text": "txt", "csv": "csv", "json": "json", "markdown": "md"}
# The run itself, whole, from the engine: into a new directory. The word of the engine for each, and what is said of it.
RUN_FORMS = {
    "tensorboard": ("tensorboard", "the whole run, for TensorBoard"),
    "mlflow": ("mlflow", "the whole run, as an MLflow file store"),
    "run-csv": ("csv", "the whole run: every point as CSV"),
}


def offered(board: Board) -> list[tuple[str, str]]:
    """The formats that this page has, with what each holds."""
    formats = [("svg", "the screen as a picture"), ("text", "the screen as plain text")]
    if board.export_rows() is not None:
        formats += [("csv", "the table"), ("json", "the table, a row an object")]
    if board.export_markdown() is not None:
        formats.append(("markdown", "the same to paste"))
    if board.PAGE == "run":
        formats += [(form, words) for form, (_, words) in RUN_FORMS.items()]
    return formats


async def write_run(board: Board, form: str, name: str, directory: Path) -> Path:
    """The run that the page shows or has chosen, into a new directory. Raises UsageError where there is none, and LlmopsError."""
    run_id = board.run_id()
    if run_id is None:
        raise UsageError("no run is chosen", "choose one, then export it")
    target = directory / os.path.expanduser(name or f"{run_id}-{form}")
    archive = await call(board.client.export_run, run_id, RUN_FORMS[form][0])
    await call(unpack, archive, target)
    return target


async def content(board: Board, form: str) -> str:
    """The page in a format. Raises UsageError for one that it does not have, and what the client raises."""
    if form not in FORMATS:
        raise UsageError(f"{form!r} is no format", f"there is {', '.join([*FORMATS, *RUN_FORMS])}")
    here = dict(offered(board))
    if form not in here:
        raise UsageError(f"this page has no {form}", f"it has {', '.join(here)}")
    if form == "svg":
        return board.app.export_screenshot(title="llmops-tui")
    if form == "markdown":
        return board.export_markdown() or ""
    if form == "text":
        return "\n".join(line.rstrip() for line in _screen_lines(board)) + "\n"
    columns, rows = await board.whole_table() or ([], [])
    if form == "json":
        return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1) + "\n"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def write(text: str, form: str, page: str, file: str, directory: Path, now: float) -> Path:
    """Write to `file` (relative to `directory`), or to a fresh name there. Raises LlmopsError; nothing is ever overwritten."""
    name = file or f"llmops-{page}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}.{FORMATS[form]}"
    path = directory / os.path.expanduser(name)
    begun = False
    try:
        with open(path, "x", encoding="utf-8") as out:
            begun = True
            out.write(text)
    except FileExistsError:
        raise LlmopsError(f"{path} is there already", "give another name") from None
    except OSError as error:
        if begun:  # half a file would stand in the way of the next try
            with contextlib.suppress(OSError):
                path.unlink()
        raise LlmopsError(f"{path}: {error.strerror}", "give another place: :export svg ~/screen.svg") from None
    return path


def _screen_lines(board: Board) -> list[str]:
    width, height = board.app.size
    return [strip.text[:width] for strip in board._compositor.render_strips()[:height]]


def _cell(value: Any) -> Any:
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else value
