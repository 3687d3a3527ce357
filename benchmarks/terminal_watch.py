"""A program on a pseudo-terminal: how much CPU until it painted something, and what it takes and sends while it is left alone."""

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
from dataclasses import dataclass
from pathlib import Path

ROWS, COLUMNS = 40, 140
_TICKS = os.sysconf("SC_CLK_TCK")
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[@-Z\\^_])")


@dataclass
class Measured:
    """CPU seconds until `text` stood on the terminal, then shares and bytes a second of the quiet time."""

    paint_cpu_seconds: float
    idle_cpu: float
    bytes_per_second: float
    rss_mib: float


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def watch(
    argv: list[str], text: str, settle_seconds: float, idle_seconds: float, environment: dict[str, str], keys: bytes = b""
) -> Measured:
    """Run a program on a pseudo-terminal until `text` is painted, press `keys`, let it settle, then watch it for `idle_seconds`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        seen, deadline = b"", time.monotonic() + 60
        while text.encode() not in _ESCAPES.sub(b"", seen):
            if time.monotonic() > deadline:
                raise SystemExit(f"{argv[0]} did not paint {text!r} within 60 s; it said: {_ESCAPES.sub(b'', seen)[-400:]!r}")
            seen += _read(terminal, 0.005)
        paint = cpu_seconds(pid)
        if keys:
            os.write(terminal, keys)
        _drain(terminal, settle_seconds)
        before, began = cpu_seconds(pid), time.monotonic()
        count = _drain(terminal, idle_seconds)
        spent = time.monotonic() - began
        return Measured(paint, (cpu_seconds(pid) - before) / spent, count / spent, rss_mib(pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read(terminal: int, seconds: float) -> bytes:
    if not select.select([terminal], [], [], seconds)[0]:
        return b""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def _drain(terminal: int, seconds: float) -> int:
    count, deadline = 0, time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        count += len(_read(terminal, left))
    return count
