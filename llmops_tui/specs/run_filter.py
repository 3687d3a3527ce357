"""The filter language of the runs: `state:running tag:x cfg.learning_rate>=1e-4`. Pure; docs/runs.md explains it to users.

filter = terms { "or" terms }      terms = factor { factor }      factor = [ "-" ] ( "(" filter ")" | term )
term = word | key operator value { "," value }      quotes around any part keep spaces and signs in it
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from llmops_tui.errors import UsageError
from llmops_tui.specs.filter_terms import OPERATORS, BadTermError, FilterRow, Test, compile_term, compile_word

LONGEST = 4000
_DEEPEST = 40
_QUOTES = "\"'"


class FilterError(UsageError):
    """A filter that cannot be read; `position` is the character that is wrong, from 0 (the text's length: something lacks there)."""

    def __init__(self, message: str, position: int, next_step: str = "") -> None:
        self.position = position
        where = f"{message} (character {position + 1})"
        super().__init__(f"filter: {where}", next_step, [{"field": "filter", "message": where, "position": str(position)}])


@dataclass(frozen=True)
class Filter:
    """A filter that was read. `config_keys` are the settings it asks for (without `cfg.`) with their positions."""

    text: str
    test: Test
    config_keys: tuple[tuple[str, int], ...] = ()

    def matches(self, row: FilterRow, now: float | None = None) -> bool:
        """Whether the run is one of those. `now` (Unix seconds, default: the present) is what `age` and `duration` count from."""
        return self.test(row, time.time() if now is None else now)

    @property
    def everything(self) -> bool:
        """Whether nothing was asked, so that every run matches."""
        return not self.text.strip()


def parse(text: str) -> Filter:
    """Read a filter; an empty one matches every run. Raises FilterError, and nothing else whatever the text is."""
    if len(text) > LONGEST:
        raise FilterError(f"it is longer than {LONGEST} characters", LONGEST, "ask for less at once")
    parser = _Parser(text)
    if not parser.peek():
        return Filter(text, lambda row, now: True)
    test = parser.alternatives(0)
    if parser.peek():  # only a closing parenthesis ends the terms early
        raise FilterError("nothing was opened that this closes", parser.at, 'quote it to search for it: ")"')
    return Filter(text, test, tuple(parser.config_keys))


class _Parser:
    """Where the reading is, and what was found on the way."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.config_keys: list[tuple[str, int]] = []

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def alternatives(self, depth: int) -> Test:
        tests = [self._together(depth)]
        while self._keyword("or"):
            tests.append(self._together(depth))
        return _either(tests)

    def _together(self, depth: int) -> Test:
        tests: list[Test] = []
        while (character := self.peek()) and character != ")":
            if self._keyword("or", take=False):
                break
            begin = self.at
            if self._keyword("and") and (not tests or self.peek() in ("", ")") or self._keyword("or", take=False)):
                raise FilterError("this `and` joins nothing", begin, 'leave it out: terms hold together; quote "and" to search for it')
            tests.append(self._factor(depth))
        if not tests:
            raise FilterError("a word or a term is missing here", self.at, 'for example state:running; quote "or" to search for it')
        return _both(tests)

    def _factor(self, depth: int) -> Test:
        character, begin = self.peek(), self.at
        if depth > _DEEPEST:
            raise FilterError("this is nested too deep", self.at)
        if character == "-":
            self.at += 1
            if self.text[self.at : self.at + 1].strip() in ("", ")"):
                raise FilterError("there is nothing after the minus", begin, "write it right before what shall not match: -state:failed")
            inner = self._factor(depth + 1)
            return lambda row, now: not inner(row, now)
        if character == "(":
            self.at += 1
            inner = self.alternatives(depth + 1)
            if self.peek() != ")":
                raise FilterError("this parenthesis is not closed", begin, "add )")
            self.at += 1
            return inner
        return self._term()

    def _term(self) -> Test:
        begin = self.at
        key, _ = self._word(at_operator=True)
        operator_at, operator = self._operator()
        if not operator:
            return compile_word(key)
        if not key:
            raise FilterError(f"a key is missing before {operator!r}", begin, "for example state:running; quote it to search for it")
        values, places = self._values(key, operator)
        if key.startswith("cfg."):
            self.config_keys.append((key.removeprefix("cfg."), begin))
        try:
            return compile_term(key, operator, values)
        except BadTermError as error:
            position = {"key": begin, "operator": operator_at, "value": places[error.value]}[error.part]
            raise FilterError(error.message, position, error.next_step) from None

    def _operator(self) -> tuple[int, str]:
        """The operator here; a comparison may have spaces around it, a colon none before it."""
        place = self.at
        while place < len(self.text) and self.text[place].isspace():
            place += 1
        operator = next((sign for sign in OPERATORS if self.text.startswith(sign, place)), "")
        if not operator or (operator == ":" and place != self.at):
            return place, ""
        self.at = place + len(operator)
        if operator != ":":
            self.peek()
        return place, operator

    def _values(self, key: str, operator: str) -> tuple[list[str], list[int]]:
        values: list[str] = []
        places: list[int] = []
        while True:
            places.append(self.at)
            value, quoted = self._word(at_comma=True)
            if not value and not quoted:
                raise FilterError(f"a value is missing after {key}{operator}", places[-1], f"write it right after it: {key}{operator}VALUE")
            values.append(value)
            if self.text[self.at : self.at + 1] != ",":
                return values, places
            self.at += 1

    def _word(self, *, at_operator: bool = False, at_comma: bool = False) -> tuple[str, bool]:
        """Up to a space, a parenthesis, and if wanted an operator or a comma; whether a part of it stood in quotes."""
        parts: list[str] = []
        quoted = False
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in _QUOTES and (not parts or quoted or character == '"'):
                end = self.text.find(character, self.at + 1)
                if end < 0:
                    raise FilterError("this quote is not closed", self.at, f"add {character}")
                parts.append(self.text[self.at + 1 : end])
                self.at, quoted = end + 1, True
                continue
            if character.isspace() or character in "()" or (at_comma and character == ","):
                break
            if at_operator and any(self.text.startswith(sign, self.at) for sign in OPERATORS):
                break
            parts.append(character)
            self.at += 1
        return "".join(parts), quoted

    def _keyword(self, word: str, *, take: bool = True) -> bool:
        """Whether `or` or `and` stands here by itself."""
        self.peek()
        after = self.text[self.at + len(word) : self.at + len(word) + 1]
        found = self.text[self.at : self.at + len(word)].casefold() == word and (not after.strip() or after in "()")
        if found and take:
            self.at += len(word)
        return found


# In halves and without generators: this is asked of ten thousand runs at each key that is pressed, and a term may have thousands.
def _either(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    first, second = _either(tests[: len(tests) // 2]), _either(tests[len(tests) // 2 :])
    return lambda row, now: first(row, now) or second(row, now)


def _both(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    first, second = _both(tests[: len(tests) // 2]), _both(tests[len(tests) // 2 :])
    return lambda row, now: first(row, now) and second(row, now)
