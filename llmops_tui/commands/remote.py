"""`--host BOX`: the same command on another box, through ssh; the client side needs nothing but ssh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from llmops_tui.errors import EngineUnavailableError
from llmops_tui.ssh_command import check_host, remote_command


def run_remote(host: str, argv: Sequence[str]) -> int:
    """Run the command line without its `--host` on the box; the exit code is the remote command's. Raises when ssh is missing."""
    terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    command = ["ssh", *terminal, "--", check_host(host), remote_command(without_host(argv))]
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise EngineUnavailableError("--host needs the program ssh, which is not installed", "install an OpenSSH client") from None


def without_host(argv: Sequence[str]) -> list[str]:
    """The arguments less `--host BOX` and `--host=BOX`; what follows `--` is the program's own."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return [*kept, word, *words]
        if word == "--host":
            next(words, None)
        elif not word.startswith("--host="):
            kept.append(word)
    return kept
