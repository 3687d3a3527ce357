"""Whether the line to the terminal keeps up: what was written and not yet taken, by the terminal's own account."""

from __future__ import annotations

import array
import contextlib
import fcntl
import sys
import termios

_BACKED_UP_BYTES = 512
_SLOW_AFTER = 3
_QUICK_AFTER = 30


def waiting_bytes(descriptor: int | None = None) -> int:
    """Bytes in the terminal's output queue (`TIOCOUTQ`, man 4 tty_ioctl); 0 where there is no terminal."""
    count = array.array("i", [0])
    with contextlib.suppress(OSError, ValueError):
        fcntl.ioctl(sys.__stderr__.fileno() if descriptor is None and sys.__stderr__ else descriptor or 2, termios.TIOCOUTQ, count)
    return count[0]


class LineSpeed:
    """Judges one look a second: slow after three full queues in a row, quick again after thirty empty ones."""

    def __init__(self) -> None:
        self.slow = False
        self._run = 0

    def look(self, waiting: int) -> bool:
        """Note how much waits now; whether the judgement changed."""
        against = (waiting > _BACKED_UP_BYTES) != self.slow
        self._run = self._run + 1 if against else 0
        if self._run < (_QUICK_AFTER if self.slow else _SLOW_AFTER):
            return False
        self.slow, self._run = not self.slow, 0
        return True
