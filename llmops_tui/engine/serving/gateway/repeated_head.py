"""The head of a message that came before: a program writes the same one each time but for the length of the body, and what was read and
checked once means the same again. What differs in anything else is for the parser."""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
MOST_DIGITS = 15


class RepeatedHead:
    """One head in two parts: what stands before the digits of its length, and what stands behind them."""

    __slots__ = ("_after", "_before")

    def __init__(self) -> None:
        self._before = self._after = b""  # empty until one was learnt

    def learn(self, message: bytes) -> bool:
        """Take the head of a message that a parser found good and whole; False where it does not say its body's length."""
        at = message.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(message, 0, at)
        if at < 4 or length is None or int(length[1]) != len(message) - at:
            return False
        self._before = message[: length.start(1)]
        self._after = message[length.end(1) : at]
        return True

    def body_of(self, message: bytes) -> bytes | None:
        """The body of a message that has this head, and behind it what its own length says and no more; None of any other."""
        before, after = self._before, self._after
        if not before or not message.startswith(before):
            return None
        begin = len(before)
        end = message.find(b"\r", begin, begin + MOST_DIGITS + 1)
        if not message.startswith(after, end):
            return None
        body = message[end + len(after) :]
        return body if message[begin:end] == b"%d" % len(body) else None
