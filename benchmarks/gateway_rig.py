"""What the gateway's benchmarks share: the C backend and generator, our gateway with everything on, and figures of a process.

The front that is measured has a core of its own, backend and generator have another. On a machine that others use too, wall time says
how busy they were. So a measurement runs in short rounds ahead of other programs, where this user may do that (chrt), and each figure
comes by the wall and by the front's own CPU seconds; bars are held by the latter: what the single core gives when nobody takes part of it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECRET = "sk-benchmark"
TOKENS = 64
_CORES = sorted(os.sched_getaffinity(0))
FRONT_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
_MESSAGES = [
    {"role": "system", "content": "You answer questions about orders, returns and invoices of a shop, briefly and politely."},
    {"role": "user", "content": "My parcel with order number 48151623 was to come on Tuesday. Where is it, and can I still send it back?"},
]


def pinned(core: int, ahead: bool = False) -> list[str]:
    """The beginning of a command line that runs on this core; `ahead` of other programs where this user may do that.

    For a second at a time, or at part load: figures would else be the time that a neighbour's turns take. Otherwise the load's side is
    scheduled as a batch, so that its being woken is not an interrupt that the front pays for.
    """
    words = ["taskset", "-c", str(core)]
    if ahead and _may_go_ahead():
        return [*words, "chrt", "-r", "1"]
    return [*words, "chrt", "-b", "0"] if core == LOAD_CORE else words


@functools.cache
def _may_go_ahead() -> bool:
    if FRONT_CORE == LOAD_CORE:
        return False  # the load would leave the front nothing
    return subprocess.run(["chrt", "-r", "1", "true"], check=False, capture_output=True).returncode == 0


class Tools:
    """The two C programs, compiled into `directory`. Raises FileNotFoundError without gcc."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        for name in ("dummy_backend", "load_generator"):
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(directory / name), str(HERE / f"{name}.c")], check=True)
        self.json_request = self._request("json", {"max_tokens": 64, "temperature": 0.7})
        self.stream_request = self._request("stream", {"max_tokens": 64, "temperature": 0.7, "stream": True})

    def _request(self, name: str, fields: dict[str, Any]) -> Path:
        body = json.dumps({"model": "dummy", "messages": _MESSAGES, **fields}, separators=(",", ":"))
        path = self.directory / f"{name}.http"
        path.write_text(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: load-generator\r\nAccept: */*\r\n"
            f"Authorization: Bearer {SECRET}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        return path

    @contextmanager
    def backends(self, tokens: int = TOKENS, rate: float = 0, count: int = 2, ahead: bool = False) -> Iterator[list[int]]:
        """The ports of `count` dummy backends; rate 0: a stream at once."""
        command = [*pinned(LOAD_CORE, ahead), str(self.directory / "dummy_backend"), str(tokens), str(rate)]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        try:
            yield [int(each.stdout.readline()) for each in started if each.stdout is not None]
        finally:
            for each in started:
                each.kill()
                each.communicate()

    def load(
        self,
        port: int,
        requests: Sequence[Path],
        connections: int,
        seconds: float,
        warm: float = 0.5,
        rate: float = 0,
        spread: float = 0,
        count: int = 0,
        paced: bool = False,
        again: bool = False,
        ledger: Path | None = None,
        ahead: bool = False,
        busy: bool = False,
    ) -> dict[str, Any]:
        """Run the generator; what its last line says (its head tells what each word means)."""
        words = ["-c", str(connections), "-s", str(seconds), "-w", str(warm), "-r", str(rate), "-g", str(spread)]
        words += ["-n", str(count)] if count else []
        words += ["-p"] if paced else []
        words += ["-k"] if again else []
        words += ["-b"] if busy else []
        words += ["-l", str(ledger)] if ledger else []
        done = subprocess.run(
            [*pinned(LOAD_CORE, ahead), str(self.directory / "load_generator"), *words, str(port), *map(str, requests)],
            check=True, capture_output=True, text=True, timeout=seconds + warm + 60,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


class Front:
    """A running front: ours or a peer's."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children (man 5 proc, stat)."""
        return sum(_cpu_seconds(pid) for pid in _tree(self.process.pid))

    def go_ahead(self) -> None:
        """Run ahead of other programs from here on, where this user may do that."""
        if _may_go_ahead():
            for pid in _tree(self.process.pid):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))

    def rss_mib(self) -> float:
        return sum(_rss_bytes(pid) for pid in _tree(self.process.pid)) / (1 << 20)

    def close(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class OurGateway(Front):
    """Our gateway with everything on: two replicas, bearer keys with limits, record, metrics."""

    def __init__(self, home: Path, ports: Sequence[int], port: int = 0, ahead: bool = False, **limits: float) -> None:
        self.home = home
        self.directory = home / "serving" / "gateway"
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "config.json").write_text(json.dumps(configuration(ports, port, **limits)))
        (self.directory / "state.json").unlink(missing_ok=True)
        command = [*pinned(FRONT_CORE, ahead), sys.executable, "-m", "llmops_tui.engine.serving.gateway", str(home)]
        process = subprocess.Popen(command, cwd=HERE.parent)
        super().__init__(process, wait_for_port(process, self.directory / "state.json"))

    def records(self) -> Iterator[bytes]:
        """The lines of the spool."""
        for path in sorted((self.directory / "spool").glob("requests-*.jsonl")):
            with path.open("rb") as lines:
                yield from lines


def configuration(ports: Sequence[int], port: int = 0, **limits: float) -> dict[str, Any]:
    """The gateway's configuration: the endpoint `dummy` on a replica a port."""
    key = {
        "id": "key-1", "sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "requests_per_minute": 10**9, "tokens_per_minute": 10**12,
        "tokens_per_day": 10**15, "concurrent": 100_000,
    }  # fmt: skip
    replicas = {f"r{index}": {"port": each, "model": "dummy", "slots": 64} for index, each in enumerate(ports)}
    version = {"name": "v1", "model": "dummy@v1", "weight": 1, "replicas": list(replicas)}
    return {
        "revision": 1, "listen": {"host": "127.0.0.1", "port": port}, "auth": "keys", "limits": limits, "keys": [key],
        "replicas": replicas, "endpoints": {"dummy": {"versions": [version], "slo": {"ttft_ms": 500, "itl_ms": 50}}},
    }  # fmt: skip


@dataclass
class Throughput:
    """What a front gave over several rounds of a closed loop: `by_core` answers a CPU second of it, `by_wall` answers a second."""

    answers: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def by_core(self) -> float:
        return self.answers / self.cpu_seconds

    @property
    def by_wall(self) -> float:
        return self.answers / self.seconds

    def measure(self, name: str, tools: Tools, front: Front, request: Path, connections: int, seconds: float) -> None:
        """One more round of what is called so, with backends that went ahead too. Raises RuntimeError for an answer that is not whole."""
        before = front.cpu_seconds()
        told = tools.load(front.port, [request], connections, seconds, 0, ahead=True, busy=True)
        used = front.cpu_seconds() - before
        faults = {fault: told[fault] for fault in ("refused", "broken", "silently_cut", "unanswered") if told[fault]}
        if faults or not told["answers"]:
            raise RuntimeError(f"{name}: not every answer came whole: {faults or 'there was none'}")
        self.answers += told["answers"]
        self.cpu_seconds += used
        self.seconds += told["seconds"]
        time.sleep(seconds)  # who else is on this machine has waited as long


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], state: Path, seconds: float = 30) -> int:
    """The port that our gateway wrote down. Raises RuntimeError when it ended or did not say it in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        if state.exists():
            found = json.loads(state.read_text())
            if found["pid"] == process.pid:
                return int(found["port"])
        time.sleep(0.01)
    raise RuntimeError(f"the gateway did not start (exit status {process.poll()})")


def wait_until_open(process: subprocess.Popen[bytes], port: int, seconds: float = 240) -> None:
    """Until somebody listens there. Raises RuntimeError when the process ended or did not do it in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not listen on port {port} (exit status {process.poll()})")


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
