"""The commands around alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tui.commands.moment import EXAMPLES as MOMENTS
from llmops_tui.commands.moment import moment
from llmops_tui.commands.verbs import command, noun, with_run

if TYPE_CHECKING:
    from llmops_tui.commands.parser import Parser
    from llmops_tui.commands.verbs import Group


def add_alarms(nouns: Group, common: Parser) -> None:
    """`alarms` and its verbs."""
    alarms = noun(nouns, common, "alarms", "what the watchers saw in the runs' metrics")
    listing = command(
        alarms, common, "list", "alarms:list_alarms", "list alarms, oldest first: the newest ones of those asked for",
        ("llmops-tui alarms list --open", "that nobody has acknowledged"),
        ("llmops-tui alarms list train-fiqa-0001 --rows", "with the rows of the batch behind each"),
    )  # fmt: skip
    listing.add_argument("run", nargs="?", default="", metavar="RUN", help="only this run's")
    listing.add_argument("--since", type=moment, default=None, metavar="TIME", help=f"not before: {MOMENTS}")
    listing.add_argument("--open", action="store_true", help="only those that nobody has acknowledged")
    listing.add_argument("--rows", action="store_true", help="also the rows of the data file that the step learnt from")
    listing.add_argument("--limit", type=int, choices=range(1, 10_001), default=50, metavar="N", help="the newest so many (default: 50)")
    ack = command(
        alarms, common, "ack", "alarms:ack", "say that alarms were seen",
        ("llmops-tui alarms ack train-fiqa-0001.1.spike.120", "an id, as `alarms list` shows it"),
        ("llmops-tui alarms ack --run train-fiqa-0001", "all of a run's"),
    )  # fmt: skip
    ack.add_argument("id", nargs="*", metavar="ID", help="as `alarms list` shows it")
    ack.add_argument("--run", default="", metavar="RUN", help="all open alarms of this run")
    with_run(
        command(
            alarms,
            common,
            "rules",
            "alarms:rules",
            "show the rules that watch a run: thresholds, last values, false-alarm rates",
        )
    )
