"""What the serving benchmarks share: an engine of their own with real llama.cpp replicas, the model, and requests timed to the token."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_tui.client import Client
from llmops_tui.commands.demo_assets import MODEL, is_intact, obtain, prepare
from llmops_tui.engine.serving.launchers.llamacpp import LlamaCpp
from llmops_tui.engine.serving.launchers.plan import Plan
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.states import ENDED

QUESTIONS = [
    "What is a budget?", "How do bees make honey?", "Name three rivers.", "Why is the sky blue?", "What is inflation?",
    "How is bread baked?", "What does a lawyer do?", "Tell me about the moon.", "What is a loan?", "How do planes fly?",
]  # fmt: skip


def model_files(gguf: str, directory: str) -> tuple[Path, Path]:
    """SmolLM2-135M-Instruct as GGUF and as a directory: those named, else fetched once as the demo does."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmops-tui" / "benchmarks"

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    fetched = cache / "demo" / Path(MODEL.member).name
    if not gguf and not is_intact(fetched, MODEL.sha256):
        fetched.parent.mkdir(parents=True, exist_ok=True)
        obtain(MODEL, fetched, say)
    return Path(gguf) if gguf else fetched, Path(directory) if directory else prepare(cache, say).model


@dataclass
class Answer:
    """One request, as its client saw it. `status` 0: no answer. Times are of the monotonic clock."""

    began: float
    ended: float = 0.0
    status: int = 0
    tokens: int = 0
    text: str = ""
    version: str = ""
    replica: str = ""
    error: str = ""

    @property
    def good(self) -> bool:
        return self.status == 200 and not self.error


def ask(port: int, model: str, question: str, tokens: int, timeout: float = 120.0, **more: Any) -> Answer:
    """A streamed chat completion. A stream that ends without a finish reason has failed."""
    answer = Answer(time.monotonic())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    body = {
        "model": model, "messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, **more,
    }  # fmt: skip
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        answer.status = response.status
        answer.version, answer.replica = response.getheader("x-llmops-version", ""), response.getheader("x-llmops-replica", "")
        if response.status != 200:
            answer.error = response.read(500).decode(errors="replace")
        else:
            _read(response, answer)
    except (OSError, http.client.HTTPException) as error:
        answer.error = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
        answer.ended = time.monotonic()
    return answer


def _read(response: http.client.HTTPResponse, answer: Answer) -> None:
    chunks, finished = 0, False
    for raw in response:
        if not raw.startswith(b"data:"):
            continue
        data = raw[5:].strip()
        if data == b"[DONE]":
            break
        event = json.loads(data)
        if "error" in event:
            answer.error = str(event["error"])
            return
        for choice in event.get("choices") or ():
            piece = (choice.get("delta") or {}).get("content") or ""
            chunks += bool(piece)
            answer.text += piece
            finished = finished or choice.get("finish_reason") is not None
        if usage := event.get("usage"):
            answer.tokens = int(usage["completion_tokens"])
    answer.tokens = answer.tokens or chunks
    answer.error = "" if finished else "the stream broke off"


@dataclass(frozen=True)
class Speed:
    """Tokens a second by the wall, and by the CPU seconds of everything that took part in answering."""

    wall: float
    cpu: float


def speed(
    port: int, model: str, streams: int, tokens: int, processes: Sequence[int], first: int = 0, extra: Mapping[str, Any] | None = None
) -> Speed:
    """So many streams at the same time, once, until the last one ended. Raises LlmopsError for a failed one."""
    answers: list[Answer] = []
    threads = [
        threading.Thread(
            target=lambda n=n: answers.append(ask(port, model, QUESTIONS[(first + n) % len(QUESTIONS)], tokens, **(extra or {})))
        )
        for n in range(streams)
    ]
    begun, spent = time.monotonic(), cpu_seconds(processes)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.monotonic() - begun, cpu_seconds(processes) - spent
    if bad := next((answer for answer in answers if not answer.good), None):
        raise LlmopsError(f"a request to port {port} failed: {bad.status} {bad.error}")
    made = sum(answer.tokens for answer in answers)
    return Speed(made / seconds, made / cpu)


def cpu_seconds(processes: Sequence[int]) -> float:
    """User and system time of all threads of these processes so far, to the nanosecond: /proc tells it in hundredths of a second alone.

    The clock of a process has this number on Linux (kernel, include/linux/posix-timers_types.h: MAKE_PROCESS_CPUCLOCK).
    """
    scheduler_clock = 2
    return sum(time.clock_gettime((~pid << 3) | scheduler_clock) for pid in processes)


@dataclass
class Load:
    """A closed loop of `streams` clients until it is stopped; every answer is kept."""

    port: int
    model: str
    streams: int = 8
    tokens: int = 24
    answers: list[Answer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._go_on, args=(n,), daemon=True) for n in range(self.streams)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(180)

    def _go_on(self, number: int) -> None:
        while not self._over.is_set():
            answer = ask(self.port, self.model, QUESTIONS[number % len(QUESTIONS)], self.tokens)
            self.answers.append(answer)
            if not answer.good:
                time.sleep(0.05)  # a client that is refused does not ask again at once

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.good]


@dataclass
class Served:
    """An engine with its gateway."""

    client: Client
    port: int
    root: Path

    def start(self, name: str, versions: list[dict[str, Any]], seconds: float = 180.0, **spec: Any) -> None:
        """An endpoint, ready when this returns."""
        self.client.serving.start({"name": name, "versions": versions, **spec}, str(self.root))
        self.until(name, lambda endpoint: endpoint["state"] == "ready", seconds)

    def until(self, name: str, condition: Any, seconds: float = 120.0) -> float:
        """Wait for a condition on an endpoint; the monotonic time when it held. Raises LlmopsError."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.client.serving.endpoint(name)
            if condition(found):
                return time.monotonic()
            if time.monotonic() > deadline:
                raise LlmopsError(f"{name} did not come so far within {seconds:g} s: it is {found['state']}, {found['reason']}")
            time.sleep(0.05)

    def serving_processes(self, name: str) -> list[int]:
        """Who takes part in answering: the gateway and each server."""
        gateway = self.client.serving.gateway()["pid"]
        assert gateway is not None
        return [gateway, *(self.server_pid(replica["run"]) for replica in self.client.serving.endpoint(name)["replicas"])]

    def keepers(self, name: str) -> list[int]:
        """Who looks after its servers, whether they answer or not."""
        pids = [self.server_pid(replica["run"]) for replica in self.client.serving.endpoint(name)["replicas"]]
        return [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids]

    def server_pid(self, run: str) -> int:
        """The server's own process."""
        return int(json.loads((self.root / "runs" / run / "artifacts" / "replica.json").read_bytes())["pid"])


@contextlib.contextmanager
def served(*, gpu: bool = False, settings: str = "") -> Iterator[Served]:
    """An engine in a state directory of its own, which sees no GPU unless asked; everything of it is ended afterwards."""
    scratch = Path(tempfile.mkdtemp(prefix="llmops-serving."))
    root, port = scratch / "state", free_port()
    root.mkdir()
    probe = "auto" if gpu else "none"
    (root / "config.toml").write_text(f'[gpus]\nprobe = "{probe}"\n[serving]\nport = {port}\n{settings}')
    client = Client(Home(root, explicit=True))
    try:
        client.ensure_engine(60)
        yield Served(client, port, root)
    finally:
        with contextlib.suppress(LlmopsError):
            _end(client)
        shutil.rmtree(scratch, ignore_errors=True)


def _end(client: Client) -> None:
    for endpoint in client.serving.endpoints():
        client.serving.stop(endpoint["name"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ended = all(row["state"] in ENDED for row in client.runs(limit=200)["runs"])
        if ended and client.serving.gateway()["state"] == "off":
            break
        time.sleep(0.1)
    client.stop_engine()


@contextlib.contextmanager
def bare_llamacpp(model: Path, slots: int, context: int, threads: int, port: int = 0, name: str = "bare") -> Iterator[tuple[int, int]]:
    """llama.cpp's own server alone, as our launcher would start it; its port and its process."""
    port = port or free_port()
    plan = Plan("llamacpp", sys.executable, "", str(model), name, context, slots, threads, "127.0.0.1", port)
    with tempfile.TemporaryDirectory(prefix="bare.") as scratch:
        command = Command(LlamaCpp().argv(plan, port, Path(scratch)))
        with program(command, port) as pid:
            yield port, pid


@dataclass(frozen=True)
class Command:
    """A command line and what its environment has besides."""

    argv: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def program(command: Command, port: int, seconds: float = 180.0) -> Iterator[int]:
    """A server that runs until the block ends, once it answers a completion; its process id. Raises LlmopsError."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command.argv, env={**os.environ, **command.environment}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            deadline = time.monotonic() + seconds
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise LlmopsError(f"{command.argv[0]} did not serve: {log.read()[-800:].decode(errors='replace')}")
                time.sleep(0.2)
            yield server.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
