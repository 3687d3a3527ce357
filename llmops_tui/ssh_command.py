"""How this program runs itself on another box: the options of ssh, and `llmops-tui` as a line for the shell there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from llmops_tui.errors import UsageError

LINE_OPTIONS = {
    "ConnectTimeout": "10", "ServerAliveInterval": "5", "ServerAliveCountMax": "3", "LogLevel": "INFO",
    # What the user's configuration may add for an interactive login would only fail, or be let in, a second time here.
    "ClearAllForwardings": "yes", "ForwardAgent": "no", "ForwardX11": "no", "RemoteCommand": "none", "PermitLocalCommand": "no",
}  # fmt: skip
# `sh`, because the user's shell there may be any; the last place is where pip --user and pipx put programs that a plain ssh does not find.
_PROGRAM = 'PATH="$PATH:$HOME/.local/bin" exec llmops-tui "$@"'


def check_host(host: str) -> str:
    """The name of a box as ssh takes it. Raises UsageError for what ssh would take as something else than a name."""
    if not host or host.startswith("-") or not host.isprintable() or any(character.isspace() for character in host):
        raise UsageError(f"{host!r} is no host", "use --host BOX or --host USER@BOX")
    return host


def remote_command(arguments: Sequence[str]) -> str:
    """`llmops-tui` with these arguments, as one line for the shell of the other box. Read-only here is read-only there."""
    read_only = os.environ.get("LLMOPS_READ_ONLY", "")
    environment = f"env LLMOPS_READ_ONLY={shlex.quote(read_only)} " if read_only else ""
    return f"{environment}sh -c {shlex.quote(_PROGRAM)} {shlex.join(['llmops-tui', *arguments])}"


def program_on(host: str, arguments: Sequence[str]) -> list[str]:
    """`llmops-tui` there with these arguments, over a connection of its own that asks nobody anything."""
    options = {**LINE_OPTIONS, "BatchMode": "yes", "ControlPath": "none"}
    return ["ssh", "-T", *(f"-o{name}={value}" for name, value in options.items()), "--", check_host(host), remote_command(arguments)]
