"""The engine as a process: `python -m llmops_tui.engine.daemon --home DIR`. Nothing is touched before the lock is held."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import logging.handlers
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_tui.engine.lifeline import AnotherEngineError, listen, remove_traces, take_lock, unwritable, write_note
from llmops_tui.errors import EngineUnavailableError, LlmopsError, UsageError
from llmops_tui.paths import Home, find_home

if TYPE_CHECKING:
    from llmops_tui.engine.parts import Parts
    from llmops_tui.engine.people import People
    from llmops_tui.specs.settings import PeopleSettings

_LOG_BYTES = 8 << 20
_LINGERING_SECONDS = 2
log = logging.getLogger("llmops_tui.engine")


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; the exit code. An error is one line on stderr (and to the client that started this)."""
    parser = argparse.ArgumentParser(prog="python -m llmops_tui.engine.daemon", description="The engine of one state directory.")
    parser.add_argument("--home", help="state directory; default $LLMOPS_HOME, else $XDG_STATE_HOME/llmops-tui")
    parser.add_argument("--config", type=Path, help="settings file")
    parser.add_argument("--foreground", action="store_true", help="stay in this terminal and log to it; the default without --detach")
    parser.add_argument("--shared", action="store_true", help="serve the group of --group, or of people.group in the settings")
    parser.add_argument("--group", default="", metavar="NAME", help="the Unix group to serve")
    parser.add_argument("--read-only", action="store_true", help="refuse every change")
    parser.add_argument("--detach", action="store_true", help="go on in a process of its own")
    parser.add_argument("--report", type=int, metavar="FD", help="descriptor that takes one line of JSON once it is ready or has failed")
    options = parser.parse_args(arguments)
    home = find_home(options.home)
    if options.report is not None:
        os.set_inheritable(options.report, False)  # no job may hold the pipe a client waits on
    if options.detach and os.fork():
        # Not sys.exit: the parent has nothing to finish. The client waits for this process, and the engine is no child of it.
        os._exit(0)
    report = _Report(options.report)
    try:
        _refuse_inside_a_job(home)
        lock = take_lock(home)
    except AnotherEngineError as error:
        if options.detach:
            report.send({"elsewhere": True})
            return 0
        return _fail(error, report)
    except LlmopsError as error:
        return _fail(error, report)
    _log_to(home, foreground=not options.detach)
    try:
        _serve(home, options, report)
    except LlmopsError as error:
        log.error("the engine stops: %s", error)
        return _fail(error, report)
    except OSError as error:
        log.exception("the engine stops")
        return _fail(unwritable(home, error), report)
    except Exception as error:
        log.exception("the engine stops")
        return _fail(LlmopsError(f"the engine failed: {type(error).__name__}: {error}", f"see {home.engine_log}"), report)
    os.close(lock)
    return 0


def _refuse_inside_a_job(home: Home) -> None:
    """When a job ends its shim ends all its descendants: an engine among them, and the shims and jobs it started meanwhile."""
    run = os.environ.get("LLMOPS_RUN_DIR", "")
    if run and os.path.realpath(os.path.dirname(run)) == os.path.realpath(home.runs):
        raise EngineUnavailableError(
            f"no engine runs, and one started by the job {os.path.basename(run)} would end with it, and its runs with it",
            "start it from a shell: `llmops-tui engine start`",
        )


class _Report:
    """The pipe to the client that started this engine; it may be gone."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def send(self, value: dict[str, object]) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, json.dumps(value).encode() + b"\n")
            os.close(self._descriptor)
            self._descriptor = None


def _fail(error: LlmopsError, report: _Report) -> int:
    report.send(error.to_json())
    print(f"llmops-tui: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def _serve(home: Home, options: argparse.Namespace, report: _Report) -> None:
    # Imported here: one of ten engines that start at once wins the lock, the others leave without this second of work.
    from llmops_tui.engine.parts import Parts
    from llmops_tui.engine.shared_home import open_to_group
    from llmops_tui.specs.settings import load_settings

    settings = load_settings(options.config or home.config)
    people = _people(settings.people, options)
    if people.gid is not None:
        open_to_group(home, people.gid, people.group)
    socket_path = home.socket if people.gid is None else home.shared_socket
    parts = Parts.open(home, settings, people)
    try:
        listener = listen(socket_path, people.gid)
    except BaseException:
        parts.close()
        raise
    try:
        asyncio.run(_run(parts, listener, socket_path, report))
    finally:
        parts.close()
        remove_traces(home, socket_path)
    log.info("engine stopped")


def _people(settings: PeopleSettings, options: argparse.Namespace) -> People:
    """Who may come, by the command line and the settings. Raises UsageError where no group is named, PermissionDeniedError."""
    from llmops_tui.engine.people import People

    group = options.group or settings.group
    if options.shared and not group:
        raise UsageError("a shared engine needs a group", "name it: --group NAME, or people.group in the settings")
    read_only = options.read_only or settings.read_only or os.environ.get("LLMOPS_READ_ONLY", "0") not in ("", "0")
    return People(settings, group=group, read_only=read_only)


async def _run(parts: Parts, listener: socket.socket, socket_path: Path, report: _Report) -> None:
    import uvicorn

    from llmops_tui.engine.api import create_app
    from llmops_tui.engine.peers import PeerCheckedProtocol
    from llmops_tui.engine.shared_home import show_note

    home, gid = parts.home, parts.people.gid

    class Protocol(PeerCheckedProtocol):
        """For those whom this engine serves."""

        people = parts.people

    class Server(uvicorn.Server):
        """uvicorn without its ten ticks a second and its own way with signals."""

        async def main_loop(self) -> None:
            write_note(home, socket_path)
            if gid is not None:
                show_note(home, gid)
            log.info("engine %d serves %s at %s", os.getpid(), home.root, socket_path)
            report.send({"ready": os.getpid()})
            # What was imported and built so far stays for ever: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            await parts.serve_until_stopped()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parts.stopping.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    await parts.start()
    config = uvicorn.Config(
        create_app(parts),
        http=Protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_LINGERING_SECONDS,
        limit_concurrency=512,
    )
    try:
        await Server(config).serve(sockets=[listener])
    finally:
        parts.stopping.set()
        await parts.stop()


def _log_to(home: Home, foreground: bool) -> None:
    """Everything goes to engine.log, which stays bounded; in the foreground to the terminal too."""
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    engine_log = _EngineLog(home.engine_log, maxBytes=_LOG_BYTES, backupCount=1)
    handlers: list[logging.Handler] = [engine_log]
    if foreground:
        handlers.append(logging.StreamHandler(sys.stderr))
    else:
        engine_log.take_outputs()
    for handler in handlers:
        handler.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # A client that never reads is cut off when the engine stops: uvicorn says so in one line, the tracebacks say no more.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
    )
    faulthandler.enable()
    threading.excepthook = lambda failed: log.error(
        "thread %s failed",
        failed.thread.name if failed.thread else "?",
        exc_info=(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback),
    )


class _EngineLog(logging.handlers.RotatingFileHandler):
    """Readable for its user alone. A detached engine's stdout and stderr follow the file when it is rotated."""

    _has_outputs = False

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600))

    def take_outputs(self) -> None:
        """Let everything that is written past the log (a crash in a library) land in the file too."""
        self._has_outputs = True
        self.acquire()
        try:
            if self.stream is None:
                self.stream = self._open()
            os.dup2(self.stream.fileno(), 1)
            os.dup2(self.stream.fileno(), 2)
        finally:
            self.release()

    def doRollover(self) -> None:  # noqa: N802  # logging's name
        super().doRollover()
        if self._has_outputs:
            self.take_outputs()


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    # Threads may hang in a GPU driver or in a long reading: everything that matters is written by now.
    sys.stderr.flush()
    os._exit(exit_code)
