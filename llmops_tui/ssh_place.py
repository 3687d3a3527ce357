"""An engine on another box, reached through ssh: the engine is found there, its socket forwarded, and both kept so by a thread."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from llmops_tui import __version__
from llmops_tui.client_transport import is_read_only
from llmops_tui.errors import ConflictError, EngineUnavailableError, LlmopsError
from llmops_tui.ssh_command import check_host
from llmops_tui.ssh_link import SshLink
from llmops_tui.ssh_words import LinkError, QuestionError

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_QUESTION_PAUSE_SECONDS = 600.0  # a box that refuses a key once more each second soon refuses everything
_DOUBT_SECONDS = 2.0


class SshPlace:
    """One box behind ssh. `home`: the state directory to use there, if not the default one.

    Whoever asks for the socket first begins the connection; it is made again for ever, with growing pauses, until `close`.
    """

    home = None

    def __init__(self, host: str, home_there: str | None = None) -> None:
        self.host = check_host(host)
        self._options = ["--home", home_there] if home_there else []
        self._link: SshLink | None = None
        self._opening: SshLink | None = None
        self._socket: Path | None = None
        self._remote_socket = ""
        self._problem: LlmopsError | None = None
        self._working = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._keeper: threading.Thread | None = None
        self._checked_at = 0.0

    @property
    def pid(self) -> int | None:
        """The ssh process, if one runs."""
        return self._link.pid if self._link is not None else None

    def connect(self, ask: bool = False, start: bool = False) -> None:
        """Reach the engine there now, and stay in reach. `ask`: ssh may use the terminal, this is the main thread; `start`: an engine may
        be started. Raises QuestionError, LinkError, and what the box says against it.
        """
        try:
            self._restore(ask, start)
        finally:
            self._keep()

    def close(self) -> None:
        """Let go of the box; again is fine."""
        self._closed = True
        self._wake.set()
        for link in (self._opening, self._link):  # without waiting for who may be connecting just now: its ssh ends, and so does it
            if link is not None:
                link.close()

    def socket_path(self) -> Path:
        """The socket here. Raises what keeps it from being there."""
        link = self._link
        if self._socket is not None and link is not None and link.alive:
            return self._socket
        self._keep()
        raise self._why()

    def owner(self) -> int | None:
        """Our own ssh answers there."""
        return None

    def directory(self) -> str:
        """The home directory there: what lies in ours is not there."""
        return self._link.remote_home if self._link is not None else "/"

    def explain(self, error: Exception, timeout: float) -> LlmopsError:
        """Is it the line, or the engine behind it?"""
        link = self._link
        if link is None or not link.alive:
            return self._why()
        if isinstance(error, TimeoutError):
            return EngineUnavailableError(f"the engine of {self.host} did not answer within {timeout:g} s", f"see its log on {self.host}")
        if link.forwards_nothing():
            return self._forwards_nothing()
        self._doubt()
        return self._problem or EngineUnavailableError(f"no engine answers on {self.host}", "r starts it")

    def start(self, wait_seconds: float, answers: Callable[[], bool], options: Sequence[str] = ()) -> None:
        """Start the engine there, connecting first if needed. Raises what keeps it from starting."""
        self.connect(start=True)
        deadline = time.monotonic() + wait_seconds
        while not answers():
            if self._link is not None and self._link.forwards_nothing():
                raise self._forwards_nothing()
            if time.monotonic() >= deadline:
                raise EngineUnavailableError(f"the engine of {self.host} runs, and its forwarded socket does not answer", "try again")
            time.sleep(0.05)

    def _restore(self, ask: bool, start: bool) -> None:
        """Whatever is missing: the connection, the engine, the forwarding. What was wrong is kept for those who ask."""
        with self._working:
            try:
                self._link_up(ask)
                self._find(start)
            except QuestionError as error:
                self._problem = QuestionError(f"{error.message}; `:host {self.host}` lets ssh ask you", error.next_step)
                raise
            except LlmopsError as error:
                self._problem = error
                raise
            self._problem = None

    def _link_up(self, ask: bool) -> None:
        if self._closed:
            raise LinkError(f"the connection to {self.host} was closed")
        if self._link is not None and self._link.alive:
            return
        if self._link is not None:
            self._problem = self._link.reason
            self._link.close()
        self._link, self._socket = None, None
        self._opening = SshLink(self.host, self._wake.set)
        try:
            self._opening.open(ask)
            self._link = self._opening
        finally:
            self._opening = None

    def _find(self, start: bool) -> None:
        link = self._link
        if link is None:
            return
        self._checked_at = time.monotonic()
        verb = "start" if start and not is_read_only() else "status"
        remote = _socket_of(link.run([*self._options, "engine", verb, "--json"]), self.host)
        if remote != self._remote_socket or self._socket is None:
            self._socket, self._remote_socket = link.forward(remote), remote

    def _keep(self) -> None:
        if self._keeper is None and not self._closed:
            self._keeper = threading.Thread(target=self._watch, name="llmops-tui-tunnel", daemon=True)
            self._keeper.start()

    def _watch(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._closed:
            link = self._link
            if link is not None and link.alive and self._problem is None:
                pause = _FIRST_PAUSE_SECONDS
                self._wake.wait()
                self._wake.clear()
                continue
            if self._problem is not None:
                self._wake.wait(_QUESTION_PAUSE_SECONDS if isinstance(self._problem, QuestionError) else pause)
                self._wake.clear()
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            with contextlib.suppress(LlmopsError):  # it is kept, for those who ask
                self._restore(ask=False, start=False)

    def _why(self) -> LlmopsError:
        """What keeps the engine out of reach."""
        link = self._link
        return self._problem or (LinkError(f"connecting to {self.host}") if link is None or link.alive else link.reason)

    def _forwards_nothing(self) -> LinkError:
        step = "set AllowStreamLocalForwarding yes in its sshd_config, or log in there"
        return LinkError(f"the sshd of {self.host} forwards no sockets", step)

    def _doubt(self) -> None:
        """The line stands and nothing answers behind it: the keeper looks whether an engine runs there, and where."""
        if time.monotonic() - self._checked_at > _DOUBT_SECONDS and self._problem is None:
            self._problem = EngineUnavailableError(f"no engine answers on {self.host}", "r starts it")
            self._wake.set()


def _socket_of(printed: str, host: str) -> str:
    """The socket in what `engine status --json` printed. Raises ConflictError where that llmops-tui does not tell it."""
    with contextlib.suppress(ValueError):
        info = json.loads(printed[printed.index("{") :])
        if isinstance(info, dict):
            if isinstance(path := info.get("socket"), str):
                return path
            version = info.get("version", "of another version")
            raise ConflictError(
                f"llmops-tui {version} on {host} does not say where its engine listens; here is {__version__}",
                f"update it there, or log in: `ssh -t {host} llmops-tui`",
            )
    raise ConflictError(f"llmops-tui on {host} answered with something else than JSON", f"see `ssh {host} llmops-tui engine status --json`")
