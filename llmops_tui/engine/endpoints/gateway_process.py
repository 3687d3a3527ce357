"""The gateway as a process: started in a session of its own, found again by its held lock, given its configuration.

It outlives the engine, and one that runs is never killed from here: it is asked to stop once no endpoint is left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket as sockets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import read_json
from llmops_tui.data.rundir import is_locked
from llmops_tui.engine.endpoints.compile import Config
from llmops_tui.engine.endpoints.gateway_control import GatewayGoneError, ask
from llmops_tui.engine.endpoints.keys import write_private
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home

_START_SECONDS = 15.0
_POLL_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_LOG_TAIL_BYTES = 4096
_LOG_BYTES = 8 << 20
log = logging.getLogger(__name__)


class GatewayProcess:
    """Belongs to the event loop's thread. `problem` says in one line why it is not as it should be; empty when it is."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._directory = home.gateway
        self._process: subprocess.Popen[bytes] | None = None
        self._published: Config | None = None
        self._lock = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0
        self.revision = 0
        self.problem = ""
        self.status: dict[str, Any] = {}

    @property
    def control(self) -> Path:
        return self._directory / "control.sock"

    def alive(self) -> bool:
        """Whether one holds its lock."""
        if self._process is not None:  # not asked of its lock: a probe takes it for a moment, in which it could not take it itself
            if self._process.poll() is None:
                return True
            self._process = None
        return is_locked(self._directory / "gateway.lock")

    async def publish(self, config: Config) -> None:
        """Write the configuration where it differs, and have a running gateway take it. Raises OSError (the disk)."""
        async with self._lock:
            if self._published is None:
                self._take_up()
            if config != self._published:
                revision = self.revision + 1
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                content = json.dumps({"revision": revision, **config}, indent=1).encode() + b"\n"
                await asyncio.to_thread(write_private, self._directory / "config.json", content)
                self._published, self.revision = config, revision
                await self._reload()

    async def keep(self) -> None:
        """Start one where none runs; call it after `publish`. What keeps it from running is in `problem`."""
        if self.alive():
            if self._failures and self.status:
                self._failures = 0
            return
        self.status = {}
        if time.monotonic() < self._not_before:
            return
        await self._start()

    async def look(self) -> dict[str, Any]:
        """Its status; the last one where it does not answer, with `problem` saying so."""
        try:
            self.status = await ask(self.control, "GET", "/control/status")
        except GatewayGoneError as error:
            if self.alive():
                self.problem = str(error)
            return self.status
        self.problem = ""
        if self.status.get("revision") != self.revision:
            async with self._lock:
                await self._reload()
        return self.status

    async def drain(self, replica: str, seconds: float) -> int:
        """Wait until a replica has no request in flight; how many it still has after `seconds`. Raises GatewayGoneError."""
        answer = await ask(self.control, "POST", "/control/drain", {"replica": replica, "seconds": seconds}, seconds=seconds + 5)
        left = answer.get("in_flight", 0)
        return left if isinstance(left, int) else 0

    async def stop(self) -> None:
        """Ask it to finish what is under way and end."""
        self.status, self._published = {}, None
        if self.alive():
            try:
                await ask(self.control, "POST", "/control/stop", {})
            except GatewayGoneError as error:
                log.warning("the gateway was not stopped: %s", error)

    def _take_up(self) -> None:
        """What an earlier engine wrote: the revision grows on from there."""
        try:
            found = read_json(self._directory / "config.json")
        except (OSError, ValueError):
            found = None
        if isinstance(found, dict):
            self.revision = int(found.pop("revision", 0))
            self._published = found

    async def _reload(self) -> None:
        if not self.alive():
            return
        try:
            answer = await ask(self.control, "POST", "/control/reload", {})
        except GatewayGoneError as error:
            # It also looks at the file once a second by itself.
            self.problem = str(error)
            return
        taken = answer.get("revision")
        self.problem = "" if taken == self.revision else f"the gateway keeps configuration {taken}, not {self.revision}: see gateway.log"

    async def _start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / "gateway.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmops_tui.engine.serving.gateway", os.fspath(self._home.root)],
                stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True, close_fds=True, cwd="/",
                env={**os.environ, "PYTHONPATH": _python_path()},
            )  # fmt: skip
        finally:
            os.close(descriptor)
        log.info("gateway %d starts", self._process.pid)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                self._process = None
                break
            try:
                self.status = await ask(self.control, "GET", "/control/status", seconds=2.0)
            except GatewayGoneError:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self.problem = ""
            return
        self._failures += 1
        self._not_before = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self._failures)
        self.problem = f"the gateway did not start: {_last_line(path) or 'it said nothing'}"
        log.warning(self.problem)


def check_port(host: str, port: int) -> None:
    """Whether the gateway could listen there. Raises ConflictError."""
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    with sockets.socket(family, sockets.SOCK_STREAM) as probe:
        probe.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConflictError(
                f"the gateway cannot listen on {host}:{port}: {error.strerror or error}",
                "set serving.host and serving.port in the settings",
            ) from None


def _python_path() -> str:
    """Where this program lies, so that `python -m` finds it from any directory."""
    package = os.fspath(Path(__file__).resolve().parents[3])
    return os.pathsep.join(dict.fromkeys([package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))


def _last_line(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((" ".join(line.split())[:300] for line in reversed(lines) if line.strip()), "")
