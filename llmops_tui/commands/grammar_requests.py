"""The commands around recorded requests."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from llmops_tui.commands.moment import EXAMPLES as MOMENTS
from llmops_tui.commands.moment import moment
from llmops_tui.commands.verbs import command, noun, positive

if TYPE_CHECKING:
    from llmops_tui.commands.parser import Parser
    from llmops_tui.commands.verbs import Group

_STATUS = re.compile(r"[1-5]\d\d|[1-5]xx|error")
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")


def add_requests(nouns: Group, common: Parser) -> None:
    """The noun `requests`."""
    requests = noun(nouns, common, "requests", "what was asked of the endpoints, and how it was answered")
    listing = _with_filter(
        command(
            requests, common, "list", "requests:list_requests", "list recorded requests, newest first",
            ("llmops-tui requests list support --status error --since 1h", "what went wrong"),
            ("llmops-tui requests list support --version v2 --slower-than 2s", "what took long"),
            ("llmops-tui requests list --key ci --count --limit 1", "how many there are"),
        )
    )  # fmt: skip
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="the newest so many, 1,000 at most (default: 50)")
    listing.add_argument("--count", action="store_true", help="also count all that match")
    show = command(
        requests, common, "show", "requests:show", "show a request: times, tokens, its text where it was kept, and what was said of it",
        ("llmops-tui requests show req_4f0c9a2b7d3e815600000012", "an answer's x-request-id"),
    )  # fmt: skip
    show.add_argument("id", metavar="ID", help="as `requests list` shows it, or the x-request-id of an answer")
    export = _with_filter(
        command(
            requests, common, "export", "requests:export", "write recorded requests, newest first, as JSON lines or CSV",
            ("llmops-tui requests export support --since 1d -o requests.jsonl", ""),
            ("llmops-tui requests export support --text -o kept.jsonl", "with prompts, answers and feedback"),
            ("llmops-tui requests export support --format csv", "to stdout"),
        )
    )  # fmt: skip
    export.add_argument("-o", "--output", metavar="FILE", help="write here instead of stdout")
    export.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="a JSON object or a CSV row each (default: jsonl)")
    export.add_argument("--text", action="store_true", help="only requests whose text was kept, with it and their feedback")
    export.add_argument("--limit", type=positive, default=None, metavar="N", help="the newest so many (default: all)")


def _with_filter(parser: Parser) -> Parser:
    """It takes what chooses requests."""
    parser.add_argument("endpoint", nargs="?", default="", metavar="ENDPOINT", help="only this endpoint's (name or alias)")
    parser.add_argument("--version", dest="of_version", default="", metavar="NAME", help="only this version's")
    parser.add_argument(
        "--status", type=_status, default=None, metavar="STATUS", help="a number (429), a class (5xx) or error (400 and above)"
    )
    parser.add_argument("--key", default="", metavar="KEY", help="only of this key, by name or id")
    parser.add_argument("--slower-than", type=_milliseconds, default=None, metavar="TIME", help="only what took longer: 1500ms, 2s")
    parser.add_argument("--since", type=moment, default=None, metavar="TIME", help=f"begun not before: {MOMENTS}")
    parser.add_argument("--until", type=moment, default=None, metavar="TIME", help="begun not after")
    return parser


def _status(text: str) -> str:
    word = text.strip().lower()
    if not _STATUS.fullmatch(word):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number (429), a class (5xx) nor error")
    return word


def _milliseconds(text: str) -> float:
    match = _LENGTH.fullmatch(text.strip().lower())
    if not match or (match[2] is None and float(match[1])):
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 1500ms or 2s")
    return float(match[1]) * (1000 if match[2] == "s" else 1)
