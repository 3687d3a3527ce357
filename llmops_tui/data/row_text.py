"""A text of a row, and why a row cannot be used. Standard library only."""

from __future__ import annotations


class BadRowError(Exception):
    """Why a row cannot be used; the caller adds the row's number."""


def checked_text(value: object, what: str, present: bool = True) -> str:
    """A text with something in it, that can be written as UTF-8. Raises BadRowError naming `what`."""
    if not isinstance(value, str):
        if not present:
            raise BadRowError(f"{what} is missing")
        raise BadRowError(f"{what} is {'null' if value is None else type(value).__name__}, not text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRowError(f"{what} holds half a surrogate pair at character {error.start + 1}, which is no text") from None
    if not value or value.isspace():
        raise BadRowError(f"{what} is empty")
    return value
