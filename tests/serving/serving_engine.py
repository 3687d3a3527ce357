"""An engine that serves: its state directory, a runtime to choose, a gateway on a free port, and nothing of it left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_tui.client import Client
from llmops_tui.errors import EngineUnavailableError, LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.answers_serving import EndpointDetail
from llmops_tui.specs.states import ENDED
from tests.running_engine import kill_engine
from tests.waiting import wait_for

_READY_SECONDS = 60.0


@dataclass
class Serving:
    """`start` an endpoint, `ask` it through the gateway."""

    client: Client
    root: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)

    def start_engine(self) -> None:
        """Another one, after the first was killed."""
        engine = subprocess.Popen(
            [sys.executable, "-m", "llmops_tui.engine.daemon", "--home", str(self.root)],
            env={**os.environ, **self.environment}, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda: self.client.answers() or engine.poll() is not None, 60, "the engine answers")
        assert engine.poll() is None, "the engine did not start"

    def start(self, name: str, *versions: Mapping[str, Any] | Path, wait: bool = True, **spec: Any) -> EndpointDetail:
        listed = [{"model": str(version)} if isinstance(version, Path) else dict(version) for version in versions]
        self.client.serving.start({"name": name, "versions": listed, **spec}, str(self.root))
        return self.until(name, "ready") if wait else self.client.serving.endpoint(name)

    def until(self, name: str, *states: str, seconds: float = _READY_SECONDS) -> EndpointDetail:
        """The endpoint once it is in one of these states."""

        def look() -> EndpointDetail | None:
            found = self.client.serving.endpoint(name)
            return found if found["state"] in states else None

        found = wait_for(look, seconds, f"{name} to be {' or '.join(states)}")
        assert found is not None
        return found

    def ask(self, model: str, *, path: str = "/v1/chat/completions", seconds: float = 60.0, **body: Any) -> tuple[int, dict[str, Any]]:
        """Status and answer; 0 where the connection broke."""
        asked = {"messages": [{"role": "user", "content": "Hello"}]} if path.endswith("chat/completions") else {"prompt": "Hello"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps({"model": model, "max_tokens": 8, "temperature": 0, **asked, **body}).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError as error:
            return 0, {"error": str(error)}

    def says(self, model: str) -> str:
        """The answer's text."""
        status, answer = self.ask(model)
        assert status == 200, answer
        return str(answer["choices"][0]["message"]["content"])

    def stop(self, name: str) -> None:
        """And wait until its servers are gone."""
        self.client.serving.stop(name)
        wait_for(lambda: not self.living(name), 60, f"the servers of {name} to end")

    def living(self, name: str) -> list[str]:
        """The runs of an endpoint that have not ended."""
        rows = self.client.runs(limit=200)["runs"]
        return [row["id"] for row in rows if row["kind"] == "serve" and row["name"] == name and row["state"] not in ENDED]

    def run_file(self, run: str, name: str) -> Path:
        return self.root / "runs" / run / name

    def events(self, run: str, kind: str = "serving") -> list[dict[str, Any]]:
        lines = self.run_file(run, "events.jsonl").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line))["type"] == kind]

    def server_pid(self, run: str) -> int:
        """The server's own process, below its keeper."""
        return int(json.loads(self.run_file(run, "artifacts/replica.json").read_bytes())["pid"])

    def gateway_pid(self) -> int:
        pid = self.client.serving.gateway()["pid"]
        assert pid is not None
        return pid


class Load:
    """Requests one after another in threads, until it is stopped: `failed` are those that were not answered with 200."""

    def __init__(self, serving: Serving, model: str, threads: int = 4) -> None:
        self._serving = serving
        self._model = model
        self._over = threading.Event()
        self.answers: list[tuple[float, int, str]] = []
        self._threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _go_on(self) -> None:
        while not self._over.is_set():
            status, answer = self._serving.ask(self._model)
            said = answer["choices"][0]["message"]["content"] if status == 200 else json.dumps(answer)
            self.answers.append((time.time(), status, said))

    @property
    def failed(self) -> list[tuple[float, int, str]]:
        return [answer for answer in self.answers if answer[1] != 200]

    def saw(self, text: str) -> bool:
        return any(said == text for _, _, said in self.answers)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving_engine(root: Path, runtime: Path | None, settings: str = "", environment: dict[str, str] | None = None) -> Iterator[Serving]:
    """Without a runtime of its own it has the project's, which is the real llama.cpp."""
    root.mkdir(parents=True)
    port = free_port()
    probe = "" if environment else '[gpus]\nprobe = "none"\n'
    named = f'[runtimes]\nllamacpp = "{runtime}"\n' if runtime else ""
    (root / "config.toml").write_text(
        f"{probe}[engine]\nsample_seconds = 0.2\npause_ingest_free_bytes = 0\nrefuse_start_free_bytes = 0\n"
        f"[serving]\nport = {port}\n{settings}{named}"
    )
    serving = Serving(Client(Home(root, explicit=True)), root, port, environment or {})
    try:
        serving.start_engine()
        yield serving
    finally:
        _end(serving)


def _end(serving: Serving) -> None:
    """Endpoints by the engine, then whatever it could not."""
    calls = serving.client.serving
    with contextlib.suppress(EngineUnavailableError, LlmopsError, AssertionError):
        for endpoint in calls.endpoints():
            calls.stop(endpoint["name"])
        for row in serving.client.runs(limit=200)["runs"]:
            if row["state"] not in ENDED:
                serving.client.stop_run(row["id"])
        wait_for(lambda: all(row["state"] in ENDED for row in serving.client.runs(limit=200)["runs"]), 30)
        wait_for(lambda: calls.gateway()["state"] == "off", 30)
    kill_engine(serving.client.home)
    for pid in _processes_of(serving.root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes_of(root: Path) -> list[int]:
    """Those that name this test's state directory: shims, servers, a gateway."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(root) in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found
