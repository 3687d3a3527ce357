"""A program on a pseudo-terminal that is driven by keys: what it painted, what it used, and whether it still runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from pathlib import Path

ROWS, COLUMNS = 40, 140
_TICKS = os.sysconf("SC_CLK_TCK")
_KEPT_BYTES = 1 << 18
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[@-Z\\^_])")


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, environment)
        os.set_blocking(self._terminal, False)
        self.resize(COLUMNS, ROWS)
        self._seen = self._before = b""
        self._ended: int | None = None

    def resize(self, columns: int, rows: int) -> None:
        """Another size of the terminal; the program is told."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def cpu_seconds(self) -> float:
        """User and system time of all its threads, those that ended too."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def press(self, keys: str | bytes) -> None:
        """Type; what was painted before is forgotten, but for `history`."""
        self._before, self._seen = (self._before + self._seen)[-_KEPT_BYTES:], b""
        data = keys.encode() if isinstance(keys, str) else keys
        while data and self.exit_code() is None:  # a program that has left reads no more, and the terminal's queue is short
            if select.select([], [self._terminal], [], 0.05)[1]:
                data = data[os.write(self._terminal, data) :]
            else:
                self.read(0.0)  # it may wait for what it painted to be taken

    def painted(self) -> str:
        """What was painted since the last key, without colours and moves."""
        return _ESCAPES.sub("", self._seen.decode(errors="replace"))

    def history(self) -> str:
        """The end of all that was painted, without colours and moves."""
        return _ESCAPES.sub("", (self._before + self._seen).decode(errors="replace"))

    def read(self, seconds: float) -> None:
        """Take what comes in that time, and what has come by its end."""
        deadline = time.monotonic() + seconds
        while select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                self._seen += os.read(self._terminal, 1 << 16)
            except OSError:
                return

    def wait(self, text: str, seconds: float = 120.0) -> None:
        """Until the text was painted since the last key."""
        deadline = time.monotonic() + seconds
        while text not in self.painted():
            if time.monotonic() > deadline:
                raise SystemExit(f"did not paint {text!r} within {seconds:.0f} s; it said: {self.painted()[-600:]!r}")
            self.read(0.05)

    def quiet_cpu(self, seconds: float) -> float:
        """CPU seconds until a stretch of `seconds` used no more than at rest; bounded by a minute."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            self.read(seconds)
            if self.cpu_seconds() - before <= 0.06 * seconds + 1 / _TICKS:
                break
        return self.cpu_seconds()

    def rest(self, seconds: float) -> float:
        """The share of a core it takes with nobody at the keys."""
        before, begin = self.cpu_seconds(), time.monotonic()
        self.read(seconds)
        return (self.cpu_seconds() - before) / (time.monotonic() - begin)

    def exit_code(self) -> int | None:
        """What it ended with; None while it runs."""
        if self._ended is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self._ended = os.waitstatus_to_exitcode(status) if done else None
        return self._ended

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.exit_code() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._terminal)
