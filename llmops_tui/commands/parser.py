"""An argparse parser that speaks like the rest of the program: one line, the near word, the next step."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from llmops_tui.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and leaving; never guesses abbreviations."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options, allow_abbrev=False)
        # Set where a word like `-old` is a value: what is taken away.
        self.minus_words = False
        # No option begins with a digit: what does ("--at -20m", "--since -2h") is a value, as argparse has it for negative numbers.
        self._negative_number_matcher = re.compile(r"-\d")

    def _parse_optional(self, arg_string: str) -> Any:
        if self.minus_words and arg_string[:2] not in ("-", "--") and arg_string not in self._option_string_actions:
            return None
        return super()._parse_optional(arg_string)

    def _match_arguments_partial(self, actions: Sequence[argparse.Action], arg_strings_pattern: str) -> list[int]:
        """An argument that may be left out is not yet left out while options follow: `chat NAME --system x PROMPT` (Python < 3.13)."""
        counts = super()._match_arguments_partial(actions, arg_strings_pattern)
        if "O" in arg_strings_pattern:
            while counts and counts[-1] == 0:
                counts.pop()
        return counts

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices: Iterable[Any] | None = action.choices
        if choices is None or value in choices:
            return
        known = [str(choice) for choice in choices]
        what = (action.metavar if isinstance(action.metavar, str) else None) or (action.option_strings or [action.dest])[0]
        near = near_word(str(value), known)
        raise UsageError(
            f"unknown {what.lower()} {str(value)!r}",
            f"did you mean {near!r}?" if near else f"use one of: {', '.join(known)}",
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse; raises UsageError with the nearest known option when one is unknown. SystemExit(0) after --help and --version."""
        args, unknown = self.parse_known_args(argv)
        if not unknown:
            return args
        parser: Parser = getattr(args, "parser", self)
        options = [word for action in parser._actions for word in action.option_strings]
        word = next((word for word in unknown if word.startswith("-")), None)
        if word is None:
            parser.error(f"unexpected argument {unknown[0]!r}")
        near = near_word(word.split("=")[0], options)
        raise UsageError(f"unknown option {word!r}", f"did you mean {near}?" if near else f"see `{parser.prog} --help`")


def near_word(word: str, known: Sequence[str]) -> str | None:
    """The known word a typo most likely meant, if any is near."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
