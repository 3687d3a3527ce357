"""The server's process: in a process group of its own, so that a stop reaches the keeper first and the server after it drained.

It gets the run's output file as its own, and every inherited lock: the run is over when the last of its tree is gone. Where the
keeper is killed, the kernel kills the server too (PR_SET_PDEATHSIG). Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 32 << 10
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_FIRST_PORT, _LAST_PORT = 9001, 9999
# Loaded before any fork: between fork and exec nothing may be.
_LIBC = ctypes.CDLL(None, use_errno=True)


class ServerProcess:
    """One start of the server. `log` is the run's output, which it writes to as its own."""

    def __init__(self, argv: list[str], environment: Mapping[str, str], log: Path) -> None:
        """Raises OSError where the program cannot be started."""
        self._log = log
        self._log_begin = _size(log)
        self._group_killed = False
        self._child = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            close_fds=False,
            process_group=0,
            preexec_fn=_die_with_the_keeper,
        )
        self.pid = self._child.pid

    @property
    def returncode(self) -> int | None:
        """None while it lives."""
        return self._child.poll()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, patience_seconds: float) -> None:
        """TERM, patience, KILL: the process and all it started (vLLM's engine core is a process of its own)."""
        self._signal(signal.SIGTERM)
        if not self.wait(patience_seconds):
            self._signal(signal.SIGKILL)
            self._child.wait()
        self._signal(signal.SIGKILL)

    def tail(self) -> str:
        """The end of what it wrote since it was started."""
        size = _size(self._log)
        # Shorter than when it began: the log was rotated under it.
        begin = max(self._log_begin if size >= self._log_begin else 0, size - _TAIL_BYTES)
        with contextlib.suppress(OSError), open(self._log, "rb") as file:
            file.seek(begin)
            return file.read(_TAIL_BYTES).decode("utf-8", "replace")
        return ""

    def listens_on(self, port: int) -> bool:
        """Whether it is one of its processes that listens there, and not somebody else who answers in its place."""
        wanted = {f"socket:[{inode}]" for inode in _listeners(port)}
        return any(wanted & _descriptors(pid) for pid in _group(self.pid))

    def rss_bytes(self) -> int:
        """What its processes hold of the host's memory, shared pages counted in each; 0 once they are gone."""
        return sum(_resident(pid) for pid in _family(self.pid))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class PortClaim:
    """A port that no other keeper of this box takes meanwhile: between looking for one and listening on it a server needs seconds.

    The claim is a name that only one socket of the box can have (an abstract one, man 7 unix), and goes with the process.
    """

    def __init__(self) -> None:
        self.port = 0
        self._holder: socket.socket | None = None

    def take(self, host: str, port: int) -> bool:
        """Claim this port; False where somebody listens there or another keeper is about to. Raises OSError for an address not ours."""
        if port == self.port and self._holder is not None:
            return port_is_free(host, port)
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0llmops-tui-port-{port}")
        except OSError:
            holder.close()
            return False
        if not port_is_free(host, port):
            holder.close()
            return False
        self.let_go()
        self.port, self._holder = port, holder
        return True

    def take_any(self, host: str, avoid: frozenset[int] = frozenset()) -> int:
        """The first free one from 9001 on; any free one where those are taken. Raises OSError for an address that is not ours."""
        for port in range(_FIRST_PORT, _LAST_PORT + 1):
            if port not in avoid and self.take(host, port):
                return port
        with socket.socket() as one:
            one.bind((host, 0))
            return int(one.getsockname()[1])

    def let_go(self) -> None:
        """Another may have it."""
        if self._holder is not None:
            self._holder.close()
        self.port, self._holder = 0, None


def free_port(host: str) -> int:
    """A port that nobody listens on or is about to. Raises OSError for an address that is not ours."""
    claim = PortClaim()
    try:
        return claim.take_any(host)
    finally:
        claim.let_go()


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError where the address itself cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except PermissionError:
            return False
        except OSError as error:
            if error.errno == 98:
                return False
            raise
    return True


def memory_available_bytes() -> int:
    """What the host can give without swapping (/proc/meminfo)."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _die_with_the_keeper() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _family(pid: int) -> list[int]:
    """A process and all below it; asked often, so not found by looking through all of /proc (man 5 proc, children)."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with contextlib.suppress(OSError), open(f"/proc/{parent}/task/{task}/children") as file:
                    found.extend(int(child) for child in file.read().split())
    return found


def _group(leader: int) -> list[int]:
    """The processes of a process group, wherever in the tree they are."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == leader:
                found.append(int(name))
    return found


def _listeners(port: int) -> list[str]:
    """The inodes of the sockets that listen on a local port (/proc/net/tcp, tcp6; state 0A)."""
    found = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(name) as file:
            found += [part[9] for line in file if (part := line.split())[1].endswith(f":{port:04X}") and part[3] == "0A"]
    return found


def _descriptors(pid: int) -> set[str]:
    """What its open descriptors lead to."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
