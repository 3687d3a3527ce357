"""One ssh connection to another box: one authentication, through which programs are run there and its sockets forwarded to here.

The connection is OpenSSH's own master (ControlMaster); its sockets lie in a directory that only this user may enter. It ends with
this process, however that ends: the other side of the connection reads a pipe that only we hold open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from llmops_tui.ssh_command import LINE_OPTIONS, check_host, remote_command
from llmops_tui.ssh_words import LinkError, RemoteError, explain

# ssh binds its control socket under a name of 17 characters more; sun_path holds 107.
_LONGEST_DIRECTORY = 107 - len("/control") - 17
_PREFIX = "llmops-tui-ssh-"
_YOUNG_SECONDS = 60.0
_READY = "llmops-tui-ready"
_KEPT_LINES = 20
_NOT_FOUND = 127
_SSH_FAILED = 255
_ASK_SECONDS = 60.0
_WAIT_END_SECONDS = 5.0
_OPTIONS = {
    **LINE_OPTIONS, "ControlMaster": "yes", "ControlPersist": "no", "ExitOnForwardFailure": "yes", "StreamLocalBindUnlink": "yes",
    "StreamLocalBindMask": "0177",
}  # fmt: skip


class SshLink:
    """A connection from `open` to `close`. `ended` is called, from a thread, when it breaks by itself after it stood."""

    def __init__(self, host: str, ended: Callable[[], None]) -> None:
        self.host = check_host(host)
        self.remote_home = "/"
        self._ended = ended
        self._directory: Path | None = None
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._echo = False
        self._forwards = 0
        self._stands = False

    @property
    def pid(self) -> int | None:
        """The ssh process; None where there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._process is not None and self._process.poll() is None

    @property
    def reason(self) -> LinkError:
        """Why it does not stand."""
        return explain(self.host, list(self._said))

    def open(self, ask: bool) -> None:
        """Connect. With `ask` ssh may use this process's terminal for its questions, and this is the main thread; else it asks nothing.

        Raises QuestionError, LinkError.
        """
        self._directory, self._lock = private_directory()
        self._echo = ask
        options = {**_OPTIONS, "BatchMode": "no" if ask else "yes", "ControlPath": str(self._directory / "control")}
        shell = "sh -c " + shlex.quote(f'echo {_READY} "$HOME"; exec cat')
        command = ["ssh", "-T", *(f"-o{name}={value}" for name, value in options.items()), "--", self.host, shell]
        # Ctrl+C ends the asking (the event loop, where there is one, would only note it); later it is meant for the program that has the
        # terminal, and ssh respects that it is to ignore it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ask else None
        try:
            process = self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=not ask
            )
            if ask:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self._begin(process)
        except FileNotFoundError:
            self.close()
            raise LinkError("--host needs the program ssh, which is not installed", "install an OpenSSH client") from None
        finally:
            if ask:
                signal.signal(signal.SIGINT, before)

    def _begin(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the connection stands."""
        listener = threading.Thread(target=self._listen, args=(process,), name="llmops-tui-ssh-words", daemon=True)
        listener.start()
        try:
            self._await_ready(process)
        except BaseException:
            process.terminate()
            listener.join(_WAIT_END_SECONDS)
            self.close()
            raise
        self._echo = False
        if not self.remote_home:
            listener.join(_WAIT_END_SECONDS)
            self.close()
            raise self.reason
        self._stands = True
        threading.Thread(target=self._watch, args=(process,), name="llmops-tui-ssh-end", daemon=True).start()

    def run(self, arguments: Sequence[str]) -> str:
        """What `llmops-tui` with these arguments prints there. Raises RemoteError where it fails, LinkError where the connection does."""
        done = self._through([self.host, remote_command(arguments)])
        if done.returncode == _SSH_FAILED:
            raise self.reason if not self.alive else explain(self.host, done.stderr.decode(errors="replace").splitlines())
        if done.returncode == _NOT_FOUND:
            raise RemoteError(
                f"there is no llmops-tui on {self.host} where ssh looks for programs",
                f"install it there, or link it into ~/.local/bin there; `ssh {self.host} llmops-tui --version` shows what ssh finds",
                _NOT_FOUND,
            )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            message, _, step = lines[-1].removeprefix("llmops-tui: ").rpartition("; ")
            raise RemoteError(*((f"{self.host}: {message}", step) if message else (f"{self.host}: {step}", "")), done.returncode)
        return done.stdout.decode(errors="replace")

    def forward(self, remote: str) -> Path:
        """A socket here that is the socket `remote` there. Raises LinkError."""
        if self._directory is None:
            raise self.reason
        self._forwards += 1
        local = self._directory / f"{self._forwards}.sock"
        escaped = remote.replace(":", "\\:")
        done = self._through(["-O", "forward", "-L", f"{local}:{escaped}", self.host])
        if done.returncode:
            raise explain(self.host, done.stderr.decode(errors="replace").splitlines())
        return local

    def forwards_nothing(self) -> bool:
        """Whether the other side has said that it forwards no sockets."""
        return any("administratively prohibited" in line for line in self._said)

    def close(self) -> None:
        """End the connection; again is fine."""
        self._stands = False
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_WAIT_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Read until the shell there speaks; what its start-up files print before that is not meant for us."""
        self.remote_home = ""
        if process.stdout is None:
            return
        for line in process.stdout:
            mark, _, home = line.decode(errors="replace").strip().partition(" ")
            if mark == _READY:
                self.remote_home = home or "/"
                return
        process.wait()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keep what ssh says."""
        if process.stderr is None:
            return
        with process.stderr as stderr:
            for raw in stderr:
                line = raw.decode(errors="replace").strip()
                if line:
                    self._said.append(line)
                    if self._echo:
                        print(line, file=sys.stderr, flush=True)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Tell when it ends. What it says may end later: a proxy command of its own may still hold the pipe."""
        process.wait()
        if self._stands:
            self._ended()

    def _through(self, words: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """ssh through the connection that stands, and never around it: no configuration is read, and it may not connect by itself."""
        if self._directory is None or not self.alive:
            raise self.reason
        control = ["-F", "none", "-S", str(self._directory / "control"), "-oBatchMode=yes", "-oProxyCommand=false", "-T"]
        order, rest = (words[:-1], words[-1:]) if words[0] == "-O" else ([], words)
        try:
            return subprocess.run(
                ["ssh", *control, *order, "--", *rest], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_ASK_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise LinkError(
                f"{self.host} did not answer within {_ASK_SECONDS:g} s", f"`ssh {self.host}` on a terminal shows more"
            ) from None


def private_directory() -> tuple[Path, int]:
    """A new directory that only this user may enter, with a path short enough for sockets in it, and the lock that says it is in use.

    Those of consoles that were killed are removed: the lock went with their process.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in (runtime, tempfile.gettempdir(), "/tmp"):
        if parent and os.access(parent, os.W_OK | os.X_OK) and len(os.fsencode(parent)) + 24 <= _LONGEST_DIRECTORY:
            for old in Path(parent).glob(f"{_PREFIX}*"):
                _sweep(old)
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = os.open(made / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            return made, lock
    raise LinkError("there is no directory for the sockets of ssh", "set XDG_RUNTIME_DIR to one of your own")


def _sweep(old: Path) -> None:
    """Remove a directory that nobody uses any more; a young one may be without its lock yet."""
    with contextlib.suppress(OSError):  # another user's, in use, or just gone
        if old.stat().st_uid != os.geteuid() or time.time() - old.stat().st_mtime < _YOUNG_SECONDS:
            return
        lock = os.open(old / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            os.close(lock)
