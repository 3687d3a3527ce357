"""argv -> one handler -> an exit code. Only what this command needs is imported: `status --json` has 0.3 s of CPU."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from llmops_tui.commands.grammar import build_parser
from llmops_tui.errors import LlmopsError, UsageError

INTERRUPTED = 130
_MOST_FIELDS = 6


def run_cli(argv: Sequence[str]) -> int:
    """Run one command line. Errors become one line on stderr; `--debug` (or LLMOPS_DEBUG=1) shows the traceback."""
    debug = "--debug" in argv or os.environ.get("LLMOPS_DEBUG") == "1"
    try:
        args = parse(argv)
        code = _dispatch(args, argv)
        sys.stdout.flush()
        return code
    except LlmopsError as error:
        if debug:
            raise
        return report(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone: the interpreter must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return report(LlmopsError(f"{where}{error.strerror or error}", "--debug shows where"))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The namespace of a command line; what follows `--` of `run` is `args.argv`. Raises UsageError."""
    arguments = list(argv)
    program: list[str] | None = None
    # Split by hand: argparse hands `--` and an optional positional before it to the wrong place.
    if "--" in arguments and "run" in arguments[: arguments.index("--")]:
        mark = arguments.index("--")
        arguments, program = arguments[:mark], arguments[mark + 1 :]
    args = build_parser().parse(arguments)
    for name, default in (("home", None), ("json", False), ("host", None), ("debug", False)):
        if not hasattr(args, name):
            setattr(args, name, default)
    if program is not None and args.noun != "run":
        raise UsageError("only `run command` takes a program after --", "see `llmops-tui run --help`")
    args.argv = program
    return args


def report(error: LlmopsError) -> int:
    """Say it on stderr in one line, with every wrong field of a spec; the exit code."""
    message = error.message
    if len(error.fields) > 1:
        named = [f"{field['field']}: {field['message']}" for field in error.fields[:_MOST_FIELDS]]
        # What stands before the first field in the message is the file they are in; of its rows not all are listed as fields.
        file, found, _ = error.message.partition(named[0])
        where = file if found else ""
        more = "and more" if where else f"and {len(error.fields) - _MOST_FIELDS} more"
        message = where + ", ".join([*named, more] if len(error.fields) > _MOST_FIELDS else named)
    text = " ".join(f"{message}; {error.next_step}".removesuffix("; ").split())
    print(f"llmops-tui: {text}", file=sys.stderr)
    return error.exit_code


def _dispatch(args: argparse.Namespace, argv: Sequence[str]) -> int:
    if args.host is not None:
        from llmops_tui.commands.console import open_console_at, wants_console
        from llmops_tui.commands.remote import run_remote

        if wants_console(args):
            return open_console_at(args)
        return run_remote(args.host, argv)
    if args.noun is None:
        from llmops_tui.commands.console import open_console

        return open_console(args)
    module, function = args.handler.split(":")
    handler = getattr(importlib.import_module(f"llmops_tui.commands.{module}"), function)
    code: int = handler(args)
    return code
