"""The ranks of another box, as their launcher (ranks.py) has them: through ssh, with `llmops-tui engine ranks` at the other end.

Both sides speak lines of JSON. Ours: what is to be started (`ask`), the files that the box lacks (`files`, and after its line their
content), that it begins (`begin`), signals, and an empty object every few seconds: where they stay out, the ranks there are ended.
Theirs: `seen`, `ready` once the files are there, and `ended` for each rank. What ranks print there comes by stderr, and into the log
with the name of the box before it. What the other side says is checked: it may be another version, or no llmops-tui at all.
"""

from __future__ import annotations

import contextlib
import errno
import json
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from llmops_tui.engine.jobs.rank_group import Rank
from llmops_tui.errors import ConflictError, EngineUnavailableError, LlmopsError
from llmops_tui.ssh_command import program_on
from llmops_tui.ssh_words import explain

COMMAND = ("engine", "ranks")
BEAT_SECONDS = 5.0
_NOT_FOUND, _SSH_FAILED = 127, 255
_KEPT_LINES = 5
_LAST_WORDS_SECONDS = 2.0
_CHUNK_BYTES = 1 << 20


class OtherBox:
    """`count` ranks from `first` on, on the box `ssh host` reaches. What goes wrong with it before they start is `problem`."""

    def __init__(self, host: str, first: int, count: int) -> None:
        self.host = host
        self.ranks = [Rank(number, host) for number in range(first, first + count)]
        self.heard = False
        self.seen: dict[str, Any] = {}
        self.ready = False
        self.problem: LlmopsError | None = None
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._process = subprocess.Popen(program_on(host, COMMAND), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._readers = [
            threading.Thread(target=work, args=(stream,), daemon=True)
            for work, stream in ((self._listen, self._process.stdout), (self._echo, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._beat, daemon=True).start()

    def ask(self, wish: Mapping[str, Any]) -> None:
        """Whether it can take part; `seen` or `problem` will say."""
        self._send({"ask": {"count": len(self.ranks), "first": self.ranks[0].number, **wish}})

    def send(self, run: Path, files: Sequence[Path]) -> None:
        """Send these files of the run, where the box does not see them itself; `ready` or `problem` will say."""
        sent = [] if self.seen["shared"] else list(files)
        threading.Thread(target=self._send_files, args=(run, sent), daemon=True).start()

    def begin(self, wish: Mapping[str, Any]) -> None:
        """Let the ranks start."""
        self._send({"begin": wish})

    def poll(self) -> None:
        ended = self._process.poll()
        if ended is not None and not self._closed.is_set():
            self._closed.set()
            for reader in self._readers:  # a proxy command of ssh's may still hold the pipes
                reader.join(_LAST_WORDS_SECONDS)
        while not self._told.empty():
            told = self._told.get()
            try:
                self._take(told)
            except (KeyError, TypeError, ValueError, StopIteration, AttributeError):
                self.problem = EngineUnavailableError(
                    f"{self.host} says what is not understood here: {str(told)[:200]}", "install the same llmops-tui on both"
                )
                self._process.terminate()
        if ended is not None and not self.ready:
            self.problem = self.problem or self._why(ended)
        if ended is not None and any(rank.code is None for rank in self.ranks):
            lost = (self.problem or self._why(ended)).message
            for rank in self.ranks:
                if rank.code is None:
                    rank.code, rank.ended_at, rank.lost = 1, time.time(), lost

    def terminate(self) -> None:
        self._send({"signal": "TERM"})

    def kill(self) -> None:
        for rank in self.ranks:
            rank.killed_by_us |= rank.code is None
        self._send({"signal": "KILL"})

    def close(self) -> None:
        """Let go of it: what still runs there ends."""
        self._closed.set()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(BEAT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _take(self, told: Mapping[str, Any]) -> None:
        self.heard = True
        if "seen" in told:
            seen = told["seen"]
            self.seen = {"shared": bool(seen["shared"]), "client": str(seen["client"])}
            if seen["problem"]:
                self.problem = ConflictError(f"{self.host}: {seen['problem']}", str(seen["step"]))
        elif "ready" in told:
            self.ready = True
        elif "ended" in told:
            ended = told["ended"]
            code, ended_at = int(ended["code"]), time.time() - float(ended["ago"])
            end = dict(ended["end"])
            if end:  # by the clock of here
                end |= {"t": ended_at - float(ended["end_ago"]), "status": str(end["status"]), "error": str(end["error"])}
            rank = next(rank for rank in self.ranks if rank.number == ended["rank"])
            rank.code, rank.end, rank.ended_at = code, end, ended_at

    def _why(self, code: int) -> LlmopsError:
        """Why there is nobody at the other end any more."""
        if code == _NOT_FOUND:
            return EngineUnavailableError(
                f"there is no llmops-tui on {self.host} where ssh looks for programs",
                "install it there, or link it into ~/.local/bin there",
            )
        if code == _SSH_FAILED:
            problem = explain(self.host, list(self._said))
            step = "" if "tried again" in problem.next_step or "made again" in problem.next_step else problem.next_step
            return EngineUnavailableError(problem.message, step)
        said = self._said[-1].removeprefix("llmops-tui: ") if self._said else f"`llmops-tui {' '.join(COMMAND)}` ended with code {code}"
        return EngineUnavailableError(f"{self.host}: {said}")

    def _send(self, message: Mapping[str, Any]) -> None:
        with self._writing:
            self._write(json.dumps(message).encode() + b"\n")

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self._send({})

    def _send_files(self, run: Path, files: Sequence[Path]) -> None:
        try:
            sizes = [(str(file.relative_to(run)), file.stat().st_size) for file in files]
            with self._writing:
                self._write(json.dumps({"files": sizes}).encode() + b"\n")
                for file, (_, size) in zip(files, sizes, strict=True):
                    self._write_file(file, size)
        except OSError as error:
            self.problem = LlmopsError(f"{error.filename or run} could not be sent to {self.host}: {error.strerror or error}")

    def _write_file(self, file: Path, size: int) -> None:
        """Raises OSError for a file that became shorter: half a checkpoint must not be taken for a whole one."""
        with open(file, "rb") as source:
            while size > 0 and self._process.poll() is None and not self._closed.is_set():
                chunk = source.read(min(size, _CHUNK_BYTES))
                if not chunk:
                    raise OSError(errno.EIO, "it became shorter meanwhile", str(file))
                self._write(chunk)
                size -= len(chunk)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # gone: `poll` says why
            if self._process.stdin is not None:
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def _listen(self, stream: IO[bytes]) -> None:
        """What start-up files of the shell there print is not meant for us."""
        for line in stream:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict):
                    self._told.put(told)

    def _echo(self, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            self._said.append(line)
            print(f"{self.host}: {line}", file=sys.stderr, flush=True)
