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


def compiled(pattern: str, regex: bool, ignore_case: bool) -> re.Pattern[str]:
    """The pattern as a regular expression whose ^ and $ mean lines. Raises UsageError that names the character that is wrong."""
    broken = "empty" if not pattern else f"longer than {LONGEST_PATTERN} characters" if len(pattern) > LONGEST_PATTERN else ""
    if broken or "\n" in pattern or "\r" in pattern:
        message = f"pattern: {broken or 'a line break is found in no line'}"
        raise UsageError(message, "say what to look for", [{"field": "pattern", "message": message}])
    flags = re.MULTILINE | (re.IGNORECASE if ignore_case else 0)
    try:
        return re.compile(pattern if regex else re.escape(pattern), flags)
    except (re.error, OverflowError, RecursionError) as error:
        position = error.pos if isinstance(error, re.error) and error.pos is not None else 0
        what = error.msg if isinstance(error, re.error) else "too large"
        message = f"pattern: {what} at character {position + 1} of {pattern!r}"
        raise UsageError(message, r"a backslash takes its meaning from a sign: \(", [{"field": "pattern", "message": message}]) from error


def smart_case(pattern: str, regex: bool) -> bool:
    """Whether case is ignored: where nobody wrote a capital letter (the class letters of regular expressions are none)."""
    return not any(letter.isupper() for letter in (re.sub(r"\\.", "", pattern) if regex else pattern))
