"""Where an engine is: in a state directory of this box, or on another box behind ssh (ssh_place.py)."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from llmops_tui.errors import EngineUnavailableError, LlmopsError, PermissionDeniedError
from llmops_tui.paths import Home

START_HINT = "start it with `llmops-tui engine start`"


class Place(Protocol):
    """What the client has to know of where its engine is."""

    @property
    def home(self) -> Home | None:
        """The state directory, where that is on this box."""

    def socket_path(self) -> Path:
        """Where to connect to. Raises EngineUnavailableError where there is nothing to connect to yet, saying why."""

    def owner(self) -> int | None:
        """The other user who may answer there; None: this one alone (and root)."""

    def directory(self) -> str:
        """The directory that relative paths of a request are meant from: one of the engine's box."""

    def explain(self, error: Exception, timeout: float) -> LlmopsError:
        """A failed connection in words; `timeout` in seconds is what was waited for the answer."""

    def start(self, wait_seconds: float, answers: Callable[[], bool], options: Sequence[str] = ()) -> None:
        """Start an engine there and return when it answers. Raises what kept it from starting."""


class LocalPlace:
    """The engine of a state directory of this box."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def socket_path(self) -> Path:
        """What the running engine wrote down (its environment may differ from ours), else the default."""
        try:
            noted = Path(json.loads(self.home.engine_json.read_bytes())["socket"])
            return noted if noted.exists() else self.home.socket
        except (OSError, ValueError, KeyError, TypeError):  # OSError: there is none, or it is not for us to see
            return self.home.socket

    def owner(self) -> int | None:
        """Whose state directory it is, where that is another user: whom one names may serve one."""
        return foreign_owner(self.home.root)

    def directory(self) -> str:
        """Ours."""
        return os.getcwd()

    def explain(self, error: Exception, timeout: float) -> LlmopsError:
        """What to do about it."""
        if isinstance(error, PermissionError):
            return PermissionDeniedError(
                f"the engine's socket {self.socket_path()} belongs to another user, and you are not in a group that it serves",
                "use a state directory of your own: --home DIR",
            )
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return EngineUnavailableError(f"no engine runs for {self.home.root}", start_hint(self.home))
        if isinstance(error, TimeoutError):
            return EngineUnavailableError(
                f"the engine of {self.home.root} did not answer within {timeout:g} s",
                f"see {self.home.engine_log}; a stopped process goes on after `kill -CONT PID`",
            )
        return EngineUnavailableError(f"the connection to the engine broke: {error or type(error).__name__}", "try again")

    def start(self, wait_seconds: float, answers: Callable[[], bool], options: Sequence[str] = ()) -> None:
        """In a session of its own."""
        from llmops_tui.engine_start import start_engine

        start_engine(self.home, wait_seconds, answers, options)


def foreign_owner(home: Path) -> int | None:
    """The other user whose state directory this is; None where it is ours, or not there, or not to be seen."""
    try:
        owner = os.stat(home).st_uid
    except OSError:
        return None
    return None if owner == os.geteuid() else owner


def start_hint(home: Home) -> str:
    """What to do where no engine runs: only its owner can start one."""
    owner = foreign_owner(home.root)
    if owner is None:
        return START_HINT
    return f"{user_name(owner)}, whose directory that is, can start it: `llmops-tui engine start --shared --group NAME`"


def user_name(uid: int) -> str:
    """The user's name; the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
