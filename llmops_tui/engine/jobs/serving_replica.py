"""One replica's life: its server started, proven by a real answer, watched, drained, put to sleep, and started again when it dies.

States, each told as a `serving` event: starting → ready → (draining → sleeping → starting …) → stopped; restarting after a death.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.jobs.serving_backoff import RestartRule, Restarts
from llmops_tui.engine.jobs.serving_http import Answer, ask, completion_text
from llmops_tui.engine.jobs.serving_metrics import ServingMeter
from llmops_tui.engine.jobs.serving_process import PortClaim, ServerProcess
from llmops_tui.engine.serving.causes import Cause, cause_of
from llmops_tui.engine.serving.launchers.choice import LAUNCHERS
from llmops_tui.engine.serving.launchers.launcher import Call, Reading
from llmops_tui.engine.serving.launchers.plan import Plan
from llmops_tui.errors import LlmopsError

_CANARY_TOKENS = 8
_PROBE_SECONDS = 60.0
_METRICS_SECONDS = 1.0
_ADAPTER_SECONDS = 120.0
_SLEEP_SECONDS = 120.0
_END_SECONDS = 5.0
_POLL_SECONDS = 0.1


class Replica:
    """`pause` waits so long, and returns early when something was asked; `interrupted` tells that the run is to end."""

    def __init__(
        self,
        plan: Plan,
        workspace: Path,
        log: Path,
        events: EventWriter,
        rule: RestartRule,
        ready_seconds: float,
        pause: Callable[[float], None],
        interrupted: Callable[[], bool],
    ) -> None:
        self.state = "starting"
        self._plan = plan
        self._launcher = LAUNCHERS[plan.runtime]
        self._workspace = workspace
        self._log = log
        self._events = events
        self._restarts = Restarts(rule)
        self._ready_seconds = ready_seconds
        self._pause = pause
        self._interrupted = interrupted
        self._server: ServerProcess | None = None
        self._meter = ServingMeter()
        self._port = plan.port
        self._claim = PortClaim()
        self._taken: frozenset[int] = frozenset()
        self._name = self._launcher.upstream_name(plan, workspace)
        self._adapters = {adapter.name: adapter.path for adapter in plan.adapters}
        self._canary: str | None = None
        self._started = time.monotonic()
        self._reading = Reading()

    # --- starting ---

    def start(self) -> bool:
        """Start and try again within the bound, until it answers. False: the run is to end. Raises LlmopsError with the cause."""
        while not self._interrupted():
            cause = self._try_to_start()
            if cause is None:
                return True
            if self._interrupted():
                return False
            self._wait_before_restart(cause)
        return False

    def _try_to_start(self) -> Cause | None:
        """None where it is ready, or the run is to end; else why not."""
        problem = self._choose_port()
        if problem is not None:
            return problem
        argv = self._launcher.argv(self._plan, self._port, self._workspace)
        environment = {**os.environ, **self._launcher.environment(self._plan)}
        self._tell("starting")
        self._events.phase(f"starting {self._plan.runtime}")
        self._started = time.monotonic()
        self._meter.restart()
        try:
            self._server = ServerProcess(argv, environment, self._log)
        except OSError as error:
            return Cause(f"{argv[0]} could not be started: {error.strerror}", lasting=True)
        return self._wait_until_ready(self._server)

    def _choose_port(self) -> Cause | None:
        wanted = self._plan.port
        if wanted:
            return None if self._claim.take(self._plan.host, wanted) else Cause(f"port {wanted} is in use", port=True)
        if not self._port or self._port in self._taken or not self._claim.take(self._plan.host, self._port):
            self._port = self._claim.take_any(self._plan.host, self._taken)
        return None

    def _wait_until_ready(self, server: ServerProcess) -> Cause | None:
        deadline = time.monotonic() + self._ready_seconds
        answer = Answer(0, "")
        while not self._interrupted():
            if (code := server.returncode) is not None:
                return self._cause(code)
            left = deadline - time.monotonic()
            if left <= 0:
                said = f": {answer.text.strip()[:200]}" if answer.text else ""
                server.end(_END_SECONDS)
                return Cause(f"no answer within {self._ready_seconds:g} s{said}")
            answer = self._ask(self._launcher.probe(self._name, _CANARY_TOKENS if self._canary is None else 1), min(left, _PROBE_SECONDS))
            if (text := completion_text(answer)) is not None and server.listens_on(self._port):
                if self._canary is None:
                    self._canary = text
                self._be_ready()
                return None
            self._pause(_POLL_SECONDS)
        return None

    def _be_ready(self) -> None:
        self._write_replica()
        seconds = round(time.monotonic() - self._started, 3)
        self._tell("ready", seconds=seconds, **self._facts())
        self._events.phase(f"ready on {self._plan.host}:{self._port}")

    def _wait_before_restart(self, cause: Cause) -> None:
        """Raises LlmopsError where nothing is to be gained by another start, or too many died."""
        if cause.port and not self._plan.port:
            self._taken |= {self._port}
        pause = None if cause.lasting else self._restarts.after_death(time.monotonic())
        if pause is None:
            deaths = self._restarts.deaths
            often = "" if cause.lasting or deaths < 2 else f", {deaths} times"
            raise LlmopsError(f"{self._plan.runtime} ended{often}: {cause.words}", "see the run's log")
        self._forget_replica()
        self._tell("restarting", cause=cause.words, seconds=pause)
        self._events.phase(f"starts again in {pause:g} s: {cause.words}"[:200])
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0 and not self._interrupted():
            self._pause(left)

    # --- while it is ready ---

    def look(self) -> bool:
        """Whether it still lives; where not it was started again. False: the run is to end. Raises LlmopsError."""
        if self.state not in ("ready", "draining") or self._server is None or self._server.returncode is None:
            return True
        cause = self._cause(self._server.returncode)
        self._wait_before_restart(cause)
        return self.start()

    def measure(self, step: int) -> None:
        """One reading of its own metrics, noted where it says something new."""
        if self.state not in ("ready", "draining") or self._server is None:
            return
        self._reading = self._read()
        values = self._meter.values(self._reading, self._server.rss_bytes(), time.monotonic())
        if values:
            self._events.metrics(step, values)

    def drain(self, seconds: float, *, then: str = "") -> bool:
        """Wait until it answers nobody any more; whether it came to that in time. The gateway sends nothing new once told."""
        if self.state in ("sleeping", "stopped") or self._server is None:
            return True
        self._tell("draining")
        self._events.phase(f"drains{then}")
        until = time.monotonic() + seconds
        while self._server.returncode is None:
            reading = self._read()
            busy = self._connections() if reading.running is None else reading.running + (reading.waiting or 0)
            if not busy:
                return True
            if (left := until - time.monotonic()) <= 0:
                return False
            time.sleep(min(left, _POLL_SECONDS))
        return True

    def undrain(self) -> None:
        """Take requests again after a drain that led nowhere."""
        if self.state == "draining":
            self._be_ready()

    def sleep(self, seconds: float) -> str:
        """Drain, then give the memory back; what came of it."""
        if self.state == "sleeping":
            return "sleeps already"
        if not self.drain(seconds, then=" before it sleeps"):
            self.undrain()
            return f"was still answering after {seconds:g} s, so it stays awake"
        self._forget_replica()
        if self._launcher.sleeps(self._plan):
            answer = self._ask(Call("/sleep?level=1", {}), _SLEEP_SECONDS)
            if not answer.ok:
                self._end_server()
        else:
            self._end_server()
        self._tell("sleeping")
        self._events.phase("sleeps")
        return "sleeps"

    def wake(self) -> str:
        """Take the memory again and prove by the canary that it answers as before. Raises LlmopsError where it does not come back."""
        if self.state != "sleeping":
            return "is awake"
        begun = time.monotonic()
        if self._server is not None and self._server.returncode is None:
            self._tell("starting")
            self._ask(Call("/wake_up", {}), _SLEEP_SECONDS)
            answer = self._ask(self._launcher.probe(self._name, _CANARY_TOKENS), _PROBE_SECONDS)
            if completion_text(answer) == self._canary:
                self._be_ready()
                return f"awake after {time.monotonic() - begun:.1f} s, and answers as before"
            self._tell("restarting", cause="it answered otherwise after it woke than before it slept")
            self._end_server()
        self.start()
        return f"awake after {time.monotonic() - begun:.1f} s, started anew"

    def adapter(self, command: str, name: str, path: str) -> str:
        """Load or unload one; what came of it."""
        loads = command == "load_adapter"
        make = self._launcher.load_adapter(self._plan, name, path) if loads else self._launcher.unload_adapter(self._plan, name)
        if make is None:
            if self._launcher.hot_adapters:
                return f"refused: {name!r} is not among the adapters it was started with, and there is no room for others"
            return f"refused: {self._plan.runtime} takes no adapters while it runs; serve it as a replica of its own"
        answer = self._ask(make, _ADAPTER_SECONDS)
        if not answer.ok:
            return f"refused by {self._plan.runtime}: {answer.text.strip()[:300]}"
        if loads:
            self._adapters[name] = path
        elif self._plan.runtime != "llamacpp":
            self._adapters.pop(name, None)
        self._be_ready()
        return f"{'loaded' if loads else 'unloaded'} {name}"

    def stop(self) -> None:
        """End it now; drain before."""
        self._forget_replica()
        self._end_server()
        self._tell("stopped")

    # --- asking ---

    def _ask(self, call: Call, seconds: float) -> Answer:
        return ask(self._plan.host, self._port, call, seconds)

    def _read(self) -> Reading:
        if not self._launcher.metrics_path:
            return Reading()
        answer = self._ask(Call(self._launcher.metrics_path), _METRICS_SECONDS)
        return self._launcher.read(answer.text) if answer.ok else Reading()

    def _connections(self) -> int:
        """How many hold a connection to its port: what is known of a server that tells no metrics."""
        return established(self._port)

    def _cause(self, code: int) -> Cause:
        server = self._server
        return cause_of(code, server.tail() if server is not None else "")

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.end(_END_SECONDS)
            self._server = None

    # --- telling ---

    def _facts(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "host": plan.host, "port": self._port, "runtime": plan.runtime, "runtime_version": plan.runtime_version,
            "model_name": self._name, "context_per_slot": plan.context, "slots": plan.slots, "threads": plan.threads,
            "gpus": [uuid for uuid in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if uuid],
            "adapters": sorted(self._adapters), "takes_adapters": self._launcher.takes_adapters(plan),
            "pid": self._server.pid if self._server else 0, "attempt": int(os.environ.get("LLMOPS_ATTEMPT", "0")),
        }  # fmt: skip

    def _tell(self, state: str, **more: object) -> None:
        self.state = state
        self._events.write("serving", **{"state": state, "host": self._plan.host, "port": self._port, "cause": "", **more})

    @property
    def _replica_file(self) -> Path:
        return self._workspace / "replica.json"

    def _write_replica(self) -> None:
        write_whole(self._replica_file, self._facts())

    def _forget_replica(self) -> None:
        self._replica_file.unlink(missing_ok=True)


def write_whole(path: Path, values: Mapping[str, Any]) -> None:
    """A JSON file that nobody sees half written."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(values))
    temporary.replace(path)


def established(port: int) -> int:
    """Connections to a local port (/proc/net/tcp, tcp6; state 01)."""
    wanted, count = f":{port:04X}", 0
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as file:
                count += sum(1 for line in file if (part := line.split())[1].endswith(wanted) and part[3] == "01")
        except (OSError, IndexError):
            continue
    return count
