"""A text in the user's own editor: $VISUAL, $EDITOR, else the first of nano, vim, vi that is there."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.screens.given_away import given_away

if TYPE_CHECKING:
    from textual.app import App


def edit(app: App[object], text: str, file: str = "") -> str:
    """Show the text in an editor and return the file it was left in, to be removed once it was read. Blocks until the editor ends.

    `file`: one kept from before, opened again as it is. Raises UsageError (no editor), LlmopsError (it failed: nothing is taken).
    """
    command = _editor()
    path = file or _written(text)
    try:
        failure: OSError | None = None
        code = 0
        with given_away(app):
            try:
                code = subprocess.run([*command, path], check=False).returncode
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure
        if code:
            raise LlmopsError(f"{command[0]} ended with code {code}: nothing was taken over")
    except SuspendNotSupported:
        raise UsageError("this terminal cannot be given to an editor", "change the fields here") from None
    except OSError as error:
        raise UsageError(f"{command[0]}: {error.strerror}", "set $EDITOR to a program that is there") from None
    else:
        file = path
    finally:
        if path != file:  # a new file that nobody will read
            os.unlink(path)
    return path


def _written(text: str) -> str:
    descriptor, path = tempfile.mkstemp(prefix="llmops-spec-", suffix=".yaml")
    with os.fdopen(descriptor, "w", errors="surrogateescape") as opened:
        opened.write(text)
    return path


def _editor() -> list[str]:
    for name in ("VISUAL", "EDITOR"):
        with contextlib.suppress(ValueError):  # a quote that is not closed: the next one
            if words := shlex.split(os.environ.get(name, "")):
                return words
    found = next((path for program in ("nano", "vim", "vi") if (path := shutil.which(program))), None)
    if found is None:
        raise UsageError("no editor is set", "set $EDITOR, for example export EDITOR=nano")
    return [found]
