"""The gateway's process: its lock, its log, its sockets, its clock, its end."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import logging.handlers
import os
import resource
import signal
import time
from pathlib import Path
from time import monotonic

from llmops_tui.engine.serving.gateway.budgets import Budgets
from llmops_tui.engine.serving.gateway.config import GatewayConfig
from llmops_tui.engine.serving.gateway.control import Control
from llmops_tui.engine.serving.gateway.gateway import Gateway
from llmops_tui.engine.serving.gateway.health import HealthWatch
from llmops_tui.engine.serving.gateway.reload import ConfigFile

_BACKLOG = 2048
_LOG_BYTES = 8 << 20
_STOP_SECONDS = 30.0
# A gateway whose directory is gone for so long, and that nobody asked anything meanwhile, ends: no engine would ever find it again.
_LEFT_SECONDS = 60.0
_log = logging.getLogger("gateway")


class AnotherGatewayError(RuntimeError):
    """The lock is held: a gateway already serves this directory."""


def take_lock(directory: Path) -> int:
    """Hold HOME/serving/gateway/gateway.lock until this process ends. Raises AnotherGatewayError or OSError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AnotherGatewayError(f"another gateway already serves {directory}") from None
    return descriptor


def open_log(directory: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(directory / "gateway.log", maxBytes=_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    logging.getLogger("asyncio").addHandler(handler)


def most_descriptors() -> int:
    """Raise the bound on open files as far as it goes: a stream takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class GatewayProcess:
    """Everything that runs in one gateway process, on the running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        self._loop = loop
        self._directory = directory
        self._server: asyncio.Server | None = None
        self._control_server: asyncio.Server | None = None
        self._listening: tuple[str, int] | None = None
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self._left_since: float | None = None
        self._left_requests = 0
        self.gateway = Gateway(loop, directory)
        self.config = ConfigFile(directory / "config.json", self._apply)
        self.health = HealthWatch(self.gateway.core)
        self.budgets = Budgets(directory, self.gateway.core)
        self.control = Control(self.gateway, self.config, self.stop)
        self._place = _place_of(directory)

    async def start(self) -> None:
        """Open the sockets and start the clock. Raises OSError when a socket cannot be opened."""
        self.config.start()
        self.budgets.restore()
        config = self.gateway.core.config
        if config.revision or config.endpoints:
            await self._listen(config)
        # After the port: who is answered here may take it that requests are too.
        socket_path = self._directory / "control.sock"
        socket_path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._control_server = await self._loop.create_unix_server(self.control.connect, os.fspath(socket_path))
        finally:
            os.umask(before)
        self._spawn(self._beats())
        self._spawn(self._sweeps())
        self._spawn(self._relistens())

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._ended.wait()

    def stop(self) -> None:
        """Take no more connections, let what is under way end (30 s), then end."""
        if not self._stopping:
            self._stopping = True
            self._spawn(self._stop())

    async def close(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        self.health.close()
        for server in (self._server, self._control_server):
            if server is not None:
                server.close()
        self.gateway.core.send_endings()
        for client in [*self.gateway.clients, *self.control.clients]:
            client.close()
        self.budgets.save()
        await asyncio.sleep(0)
        self.gateway.core.close()
        (self._directory / "control.sock").unlink(missing_ok=True)

    def reload(self) -> None:
        self.config.reload()

    def _apply(self, config: GatewayConfig) -> None:
        self.gateway.apply(config)
        self._wanted.set()

    async def _listen(self, config: GatewayConfig) -> None:
        wanted = (config.host, config.port)
        if wanted == self._listening:
            return
        server = await self._loop.create_server(self.gateway.connect, config.host, config.port, backlog=_BACKLOG, reuse_address=True)
        if self._server is not None:
            self._server.close()  # only the door: the connections that came through it stay
        self._server = server
        self._listening = wanted
        self.port = int(server.sockets[0].getsockname()[1])
        self._write_state(config.host)
        _log.info("listening on %s port %d", config.host, self.port)

    async def _relistens(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            config = self.gateway.core.config
            try:
                await self._listen(config)
            except OSError as error:
                self.config.error = f"cannot listen on {config.host} port {config.port}: {error.strerror or error}"
                _log.error("%s", self.config.error)

    async def _beats(self) -> None:
        core = self.gateway.core
        while True:
            began = monotonic()
            self.config.check()
            self.health.tick()
            for replica in [*core.routes.replicas.values(), *core.routes.providers.values()]:
                replica.pool.sweep()
            for endpoint in core.routes.endpoints.values():
                if endpoint.waiting:
                    core.wake(endpoint)  # a circuit may have closed
            core.keys.turn_day()
            core.spool.retry()
            core.texts.retry()
            self.budgets.tick()
            if self._is_left(began):
                _log.warning("%s is gone, and nobody asks: the gateway ends", self._directory)
                self.stop()
            await asyncio.sleep(max(0.05, 1.0 - (monotonic() - began)))

    def _is_left(self, now: float) -> bool:
        """Whether its directory went a while ago and it is of no use since. While somebody asks, it answers."""
        core = self.gateway.core
        try:
            gone = _place_of(self._directory) != self._place
        except FileNotFoundError:
            gone = True
        except OSError:  # a disk that does not answer may do so again
            gone = False
        if not gone:
            self._left_since = None
        elif self._left_since is None or core.active or core.requests_total != self._left_requests:
            self._left_since, self._left_requests = now, core.requests_total
        return self._left_since is not None and now - self._left_since >= _LEFT_SECONDS

    async def _sweeps(self) -> None:
        core = self.gateway.core
        while True:
            limits = core.limits
            shortest = min(
                limits.header_seconds, limits.keepalive_seconds, limits.first_byte_seconds, limits.stall_seconds, limits.request_seconds
            )
            await asyncio.sleep(min(0.5, max(0.02, shortest / 4)))
            now = monotonic()
            for exchange in list(core.active):
                exchange.sweep(now)
            for client in list(self.gateway.clients):
                client.sweep(now)

    async def _stop(self) -> None:
        _log.info("stopping: %d requests under way", len(self.gateway.core.active))
        self.gateway.draining = True
        if self._server is not None:
            self._server.close()
        until = monotonic() + _STOP_SECONDS
        while self.gateway.core.active and monotonic() < until:  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(0.02)
        self._ended.set()

    def _spawn(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a part of the gateway failed", exc_info=task.exception())
            self._ended.set()

    def _write_state(self, host: str) -> None:
        state = {
            "pid": os.getpid(),
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "host": host,
            "port": self.port,
            "started_at": time.time(),
        }
        beside = self._directory / "state.json.new"
        beside.write_text(json.dumps(state))
        beside.replace(self._directory / "state.json")


def _place_of(directory: Path) -> tuple[int, int]:
    """Which directory it is, whatever lies there by that name later."""
    status = directory.stat()
    return status.st_dev, status.st_ino


async def serve(directory: Path) -> None:
    """Run a gateway until it is told to stop."""
    loop = asyncio.get_running_loop()
    process = GatewayProcess(loop, directory)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
    loop.add_signal_handler(signal.SIGHUP, process.reload)
    await process.start()
    # What exists now stays: the collector need not look at it again. What a request makes goes without it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        await process.run()
    finally:
        await process.close()
        (directory / "state.json").unlink(missing_ok=True)
