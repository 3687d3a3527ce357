"""What a log's bytes mean as text, for the engine that searches them and the faces that show them. Standard library only.

What is searched is what a terminal would have shown: escape sequences count as nothing, so a word that changes colour in its middle is
one word; what a carriage return overwrote was on the screen once, and is found.
"""

from __future__ import annotations

import re

from llmops_tui.errors import UsageError

# ECMA-48: control sequences (CSI), control strings (OSC, DCS, SOS, PM, APC) up to their end, and all other escape sequences. An
# unfinished one ends with its line: a broken program must not hide the rest of its log.
_SEQUENCE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])"
ESCAPES = re.compile(_SEQUENCE)
ESCAPE_BYTES = re.compile(_SEQUENCE.encode())
PIECE_BYTES = 1 << 12
"""A longer line is shown in pieces: progress bars that never end a line must not make anybody read the whole file."""
LONGEST_PATTERN = 1000


class PatternError(UsageError):
    """A pattern that can't be looked for; `position` is the 0-based character that is wrong."""

    def __init__(self, what: str, pattern: str, position: int, next_step: str) -> None:
        message = f"pattern: {what} at character {position + 1} of {pattern!r}" if pattern else f"pattern: {what}"
        super().__init__(message, next_step, [{"field": "pattern", "message": message}])
        self.what = what
        self.position = position


def compiled(pattern: str, regex: bool, ignore_case: bool) -> re.Pattern[str]:
    """The pattern as a regular expression whose ^ and $ mean lines. Raises PatternError."""
    if not pattern:
        raise PatternError("empty", "", 0, "say what to look for")
    if len(pattern) > LONGEST_PATTERN:
        raise PatternError(f"longer than {LONGEST_PATTERN} characters", "", LONGEST_PATTERN, "look for a part of it")
    line_break = re.search(r"[\r\n]", pattern)
    if line_break:
        raise PatternError("a line break is in no line", pattern, line_break.start(), "leave it out")
    try:
        return re.compile(pattern if regex else re.escape(pattern), re.MULTILINE | (re.IGNORECASE if ignore_case else 0))
    except re.error as error:
        raise PatternError(error.msg, pattern, error.pos or 0, "a backslash before a sign makes it a plain character") from error
    except (OverflowError, RecursionError) as error:
        raise PatternError("too large", pattern, 0, "use smaller repeats") from error


def smart_case(pattern: str, regex: bool) -> bool:
    """Whether case is ignored: where nobody wrote a capital letter (the class letters of regular expressions are none)."""
    return not any(letter.isupper() for letter in (re.sub(r"\\.", "", pattern) if regex else pattern))
