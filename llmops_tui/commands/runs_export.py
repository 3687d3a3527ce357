"""`runs export`: a run's points as CSV or JSON lines, or the whole run for TensorBoard, MLflow or a spreadsheet."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from llmops_tui.commands import runs_data
from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import say
from llmops_tui.commands.unpacking import unpack
from llmops_tui.errors import ConflictError, UsageError


def export(args: argparse.Namespace) -> int:
    """With `--to` the whole run into a new directory (`-`: as a tar on stdout); without, its points as they are stored."""
    if args.to is None:
        return runs_data.export(args)
    tool, directory = args.to
    if tool not in _HOW:
        raise UsageError(f"no export is made for {tool!r}", f"--to takes one of {', '.join(_HOW)}, and a directory")
    if args.output or args.metric or args.json:
        raise UsageError("--to exports the whole run, without -o, --metric and --json", "leave them out, or leave --to out")
    if not directory:
        raise UsageError("--to: the directory's name is empty", f"for example: llmops-tui runs export {args.run} --to {tool} {args.run}")
    to_stdout = directory == "-"
    if to_stdout and sys.stdout.isatty():
        raise UsageError("a tar is nothing for a terminal", "add | tar xz, or name a directory")
    target = Path(directory)
    if not to_stdout and os.path.lexists(target):
        raise ConflictError(f"{target} is there already", "name a directory that is not there yet")
    archive = connect(args).export_run(args.run, tool)
    if to_stdout:
        sys.stdout.buffer.write(archive)
        sys.stdout.buffer.flush()
        return 0
    unpack(archive, target)
    say(f"{args.run} is in {target}{_HOW[tool]}")
    return 0


_HOW = {
    "tensorboard": ": tensorboard --logdir DIR",
    "mlflow": ": MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri DIR",
    "csv": ": long.csv, wide.csv, run.json",
}
