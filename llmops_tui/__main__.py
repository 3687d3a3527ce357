"""`python -m llmops_tui` and the console script."""

from __future__ import annotations

import io
import os
import sys


def main() -> int:
    """Run the command line on this process's arguments; the exit code."""
    prepare_streams()
    from llmops_tui.cli import run_cli

    return run_cli(sys.argv[1:])


def prepare_streams() -> None:
    """Three usable streams, whatever the caller left: a closed one (`>&-`) is /dev/null, what the locale cannot spell is escaped."""
    # Lowest number first: else the next file opened would become the closed stdout, and be printed into.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
