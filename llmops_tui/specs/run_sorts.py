"""What runs can be sorted by, besides their `cfg.…` and `metric.…` columns. Standard library only: the TUI imports this."""

from __future__ import annotations

SORTS = ("submitted", "started", "ended", "duration", "id", "state", "kind", "name", "owner", "priority", "attempt")
# One wants to see the newest, the longest, or the first of the queue, when nothing else is said.
_DESCENDING = frozenset({"submitted", "started", "ended", "duration", "priority", "attempt"})


def descends(sort: str) -> bool:
    """Whether the key is usually read from the greatest down; "" is the default, `submitted`."""
    return (sort or "submitted") in _DESCENDING
