"""The two ways a notification leaves the engine: a program of the user's, and an HTTP POST to an address of the user's.

Both block and both are bounded in time: they are called from worker threads. `DeliveryError` says what went wrong in a line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

import llmops_tui
from llmops_tui.errors import UsageError

_KEPT_OUTPUT_BYTES = 4096
_READ_BYTES = 64 << 10
_POLL_SECONDS = 0.05
# A pipe takes that much at once, so that a hook that never reads its input holds nobody up.
_LONGEST_JSON_BYTES = 60_000
_ANSWER_BYTES = 200
log = logging.getLogger(__name__)


class DeliveryError(Exception):
    """A notification that did not arrive; the message says why in one line."""


@dataclass(frozen=True)
class Message:
    """What is sent. `data` are the event's own fields; `level` and `topic` as in specs/notable.py; `t` in Unix seconds."""

    type: str
    t: float
    run: str | None
    topic: str
    level: str
    title: str
    text: str
    host: str
    home: str
    data: dict[str, Any]

    def to_json(self) -> bytes:
        """One JSON object; an event too large for a pipe goes without its data."""
        body = json.dumps(asdict(self)).encode()
        return body if len(body) <= _LONGEST_JSON_BYTES else json.dumps({**asdict(self), "data": {}}).encode()


class Channel(Protocol):
    """`name` and `target` are for people: which way, and where to."""

    name: str
    target: str

    def send(self, message: Message) -> None:
        """Deliver it. Blocks no longer than its timeout, as far as the system allows; raises DeliveryError."""

    def cancel(self) -> None:
        """End a delivery that is under way. For any thread."""


class Hook:
    """A program: the message as JSON on its stdin and in LLMOPS_EVENT_*, its output in engine.log, its time limited."""

    name = "hook"

    def __init__(self, command: str, timeout_seconds: float) -> None:
        """Raises UsageError for a program that is not there."""
        argv = shlex.split(command)
        argv[0] = os.path.expanduser(argv[0])
        if shutil.which(argv[0]) is None:
            raise UsageError(
                f"[notify] command: there is no program {argv[0]!r} that could be run",
                "correct it in the settings, or take it out (docs/notifications.md)",
            )
        self.target = argv[0]
        self._argv = argv
        self._timeout = timeout_seconds
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Run it once. Whatever it started is ended with it when its time is over."""
        words = {"TYPE": message.type, "RUN": message.run or "", "TITLE": message.title, "TEXT": message.text, "LEVEL": message.level}
        environment = os.environ | {f"LLMOPS_EVENT_{name}": _clean(value) for name, value in words.items()}
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=Path.home() if Path.home().is_dir() else "/",
                start_new_session=True,
            )
        except OSError as error:
            raise DeliveryError(f"{self.target} could not be started: {error.strerror}") from None
        with self._lock:
            self._running.add(process)
        try:
            output, in_time = self._converse(process, message.to_json())
        finally:
            with self._lock:
                self._running.discard(process)
            if process.poll() is None:
                _end_group(process)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        said = _clean(output.decode(errors="replace")).strip()
        if said:
            log.info("%s said: %s", self.target, said)
        if not in_time:
            raise DeliveryError(f"{self.target} did not end within {self._timeout:g} s and was killed")
        if process.returncode:
            last = said.splitlines()[-1][:_ANSWER_BYTES] if said else ""
            raise DeliveryError(f"{self.target} ended with {_ending(process.returncode)}" + (f": {last}" if last else ""))

    def cancel(self) -> None:
        with self._lock:
            processes = list(self._running)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _converse(self, process: subprocess.Popen[bytes], body: bytes) -> tuple[bytes, bool]:
        """The beginning of its output, and whether it ended in time. What it left in the background may keep the pipe: not waited for."""
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):  # a program that does not read it is fine
            process.stdin.write(body)
            process.stdin.close()
        deadline = time.monotonic() + self._timeout
        kept = b""
        open_pipe = True
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                ended = process.poll() is not None
                if open_pipe and selector.select(0 if ended else _POLL_SECONDS):
                    chunk = os.read(process.stdout.fileno(), _READ_BYTES)
                    kept = (kept + chunk)[:_KEPT_OUTPUT_BYTES]
                    if not chunk:
                        open_pipe = False
                        selector.unregister(process.stdout)
                elif ended:
                    return kept, True
                elif not open_pipe:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()))
        return kept, process.poll() is not None


class Webhook:
    """A POST of the message as JSON. Redirects are followed on the same host only: an event goes nowhere it was not sent to."""

    name = "webhook"

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        # The path of such addresses is often the secret: it is shown nowhere.
        self.target = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._url = url
        self._timeout = timeout_seconds
        self._opener = urllib.request.build_opener(_SameHost)

    def send(self, message: Message) -> None:
        headers = {"content-type": "application/json", "user-agent": f"llmops-tui/{llmops_tui.__version__}"}
        request = urllib.request.Request(self._url, data=message.to_json(), headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout):
                return
        except urllib.error.HTTPError as error:
            with error:
                raise DeliveryError(f"{self.target} answered {error.code} {_clean(str(error.reason))}") from None
        except urllib.error.URLError as error:
            reason = error.reason
            raise DeliveryError(f"{self.target} was not reached: {getattr(reason, 'strerror', None) or reason}") from None
        except TimeoutError:
            raise DeliveryError(f"{self.target} did not answer within {self._timeout:g} s") from None
        except (OSError, HTTPException, ValueError) as error:
            raise DeliveryError(f"{self.target}: {type(error).__name__}: {_clean(str(error))[:_ANSWER_BYTES]}") from None

    def cancel(self) -> None:
        """It ends by itself within its timeout, and holds nothing but a thread."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    max_redirections = 3

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.hostname != before.hostname or (before.scheme, after.scheme) == ("https", "http"):
            raise urllib.error.HTTPError(req.full_url, code, "and sends us on to another host: not followed", headers, fp)
        if code == 303:
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        return urllib.request.Request(newurl, data=req.data, headers=dict(req.header_items()), method="POST")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _clean(text: str) -> str:
    """Without control characters but line ends: it goes into an environment and into a log."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)
