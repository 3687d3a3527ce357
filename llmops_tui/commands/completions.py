"""`completions SHELL`: a script made from the grammar."""

from __future__ import annotations

import argparse

from llmops_tui.commands.grammar import build_parser


def completions(args: argparse.Namespace) -> int:
    """Print the completion script."""
    import shtab

    print(shtab.complete(build_parser(), shell=args.shell))
    return 0
