"""The commands that show sweeps and cross-validations. They are started by `run`, stopped, retried and deleted by `runs` like all runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tui.commands.parser import Parser
from llmops_tui.commands.verbs import command, noun, with_run

if TYPE_CHECKING:
    from llmops_tui.commands.verbs import Group


def add_sweeps(nouns: Group, common: Parser) -> None:
    """The noun `sweeps`."""
    sweeps = noun(nouns, common, "sweeps", "sweeps and cross-validations: their trials side by side")
    command(
        sweeps, common, "list", "sweeps:list_sweeps", "list sweeps and cross-validations, newest first",
        ("llmops-tui run sweep -f sweep.yaml", "starts one; docs/sweeps.md shows the file"),
    )  # fmt: skip
    with_run(
        command(
            sweeps, common, "show", "sweeps:show", "show the trials of a sweep, best first, and what its settings matter",
            ("llmops-tui sweeps show sweep-fiqa-0007", ""),
            ("llmops-tui runs stop sweep-fiqa-0007", "stops its trials too"),
            ("llmops-tui runs retry sweep-fiqa-0007", "goes on where it was stopped"),
        )
    )  # fmt: skip
    export = with_run(
        command(
            sweeps, common, "export", "sweeps:export", "write a line a trial as CSV: settings, value, tokens, state",
            ("llmops-tui sweeps export sweep-fiqa-0007 -o trials.csv", ""),
        )
    )  # fmt: skip
    export.add_argument("-o", "--output", metavar="FILE", help="write here instead of stdout")
