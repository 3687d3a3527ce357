"""How a command of the grammar is made: its parser, its examples, and the arguments that several have."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llmops_tui.commands.parser import Parser

if TYPE_CHECKING:
    Group = argparse._SubParsersAction[Parser]


def examples(*pairs: tuple[str, str]) -> str:
    """What help shows of them: the command, and what it does where that is said."""
    width = max(len(command) for command, _ in pairs)
    return "examples:\n" + "\n".join(f"  {command:<{width}}  # {what}" if what else f"  {command}" for command, what in pairs)


def command(group: Group, common: Parser, name: str, handler: str, summary: str, *shown: tuple[str, str]) -> Parser:
    """One command; `handler` names its function as text, `shown` its examples with what they do."""
    parser = group.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=examples(*shown) if shown else None,
        parents=[common],
    )
    parser.set_defaults(handler=handler, parser=parser)
    return parser


def noun(group: Group, common: Parser, name: str, summary: str) -> Group:
    """A noun that needs a verb: leaving the verb out is a usage error that names them."""
    parser = group.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", parents=[common])
    parser.set_defaults(parser=parser)
    return parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True, parser_class=Parser)


def with_run(parser: Parser) -> Parser:
    """It takes one run."""
    parser.add_argument("run", metavar="RUN", help="run id, for example train-fiqa-0001")
    return parser


def with_reference(parser: Parser) -> Parser:
    """It takes one registered model or dataset."""
    parser.add_argument("reference", metavar="NAME", help="name, name@v3 or name@alias")
    return parser


def positive(text: str) -> int:
    """An argument that is a whole number of 1 or more."""
    return _at_least(text, 1)


def natural(text: str) -> int:
    """An argument that is a whole number of 0 or more."""
    return _at_least(text, 0)


def _at_least(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
    return value
