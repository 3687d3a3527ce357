"""`python -m llmops_tui` and the console script."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on this process's arguments; the exit code."""
    from llmops_tui.cli import run_cli

    return run_cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
