"""The gateway as the process that it is: killed, stopped, alone, with a full disk; records and budgets are there after each."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.serving.gateway.process import GatewayProcess
from llmops_tui.engine.serving.gateway.spool import Spool
from tests.gateway.fake_backend import FakeBackend, Gate, stream
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, post, read_until
from tests.waiting import wait_for

Start = Callable[[dict[str, Any]], RunningGateway]


class GatewayAlone:
    """python -m llmops_tui.engine.serving.gateway HOME, without an engine."""

    def __init__(self, home: Path, configuration: dict[str, Any]) -> None:
        self.home = home
        self.directory = home / "serving" / "gateway"
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "config.json").write_text(json.dumps(configuration))
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        state = self.directory / "state.json"
        state.unlink(missing_ok=True)
        command = [sys.executable, "-m", "llmops_tui.engine.serving.gateway", str(self.home)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        wait_for(lambda: state.exists() or self.process.poll() is not None, 30)
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
        self.port = int(json.loads(state.read_text())["port"])
        return self.process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def chat(self, key: str = "") -> int:
        """The status; OSError when the gateway is not there or dies before it has answered whole."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(chat_body()), {"Authorization": f"Bearer {key}"} if key else {})
            response = connection.getresponse()
            response.read()
            return response.status
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()

    def records(self) -> list[dict[str, Any]]:
        spool = self.directory / "spool"
        return [json.loads(line) for path in sorted(spool.glob("requests-*.jsonl")) for line in path.read_bytes().splitlines()]


@pytest.fixture
def alone(tmp_path: Path, backend: FakeBackend) -> Iterator[GatewayAlone]:
    rule = {"id": "k", "sha256": hashlib.sha256(b"secret").hexdigest(), "tokens_per_day": 1_000_000}
    gateway = GatewayAlone(tmp_path / "home", config({"r1": backend}, keys=[rule]))
    yield gateway
    gateway.kill()


def test_no_answered_request_is_without_its_record_over_kills_at_random_moments(alone: GatewayAlone) -> None:
    answered = 0
    lock = threading.Lock()
    stop = threading.Event()

    def asks() -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                status = alone.chat("secret")
            except OSError:
                stop.wait(0.01)
                continue
            assert status == 200
            with lock:
                answered += 1

    def reached(wanted: int) -> bool:
        return answered >= wanted

    askers = [threading.Thread(target=asks) for _ in range(4)]
    for asker in askers:
        asker.start()
    for round_number in range(4):
        wanted = answered + 40 + 13 * round_number
        wait_for(partial(reached, wanted), 30)
        alone.kill()
        alone.start()
    stop.set()
    for asker in askers:
        asker.join(20)
    lines = alone.records()
    assert len({line["id"] for line in lines}) == len(lines), "no id and no line twice, in one process or another"
    good = sum(line["status"] == 200 for line in lines)
    assert answered <= good <= answered + 4 * 5, "records may be there of answers that their clients did not live to see"
    assert len(lines) - good <= 4 * 5
    status = control(alone, "GET", "/control/status")
    assert status["keys"]["today_tokens"] == {"k": sum((line["prompt_tokens"] or 0) + (line["completion_tokens"] or 0) for line in lines)}


def control(gateway: GatewayAlone, method: str, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(gateway.directory / "control.sock"))
    connection.request(method, path)
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def test_a_gateway_that_is_told_to_stop_lets_what_is_under_way_end_and_takes_nothing_new(alone: GatewayAlone, backend: FakeBackend) -> None:
    gate = Gate(backend)
    backend.script.append(stream(["one", "two"], gate.passed))
    with socket.create_connection(("127.0.0.1", alone.port), timeout=10) as connection:
        connection.sendall(post(chat_body(stream=True)))
        read_until(connection, b"assistant")
        alone.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(alone.port))
        gate.open()
        answer = read_until(connection, b"0\r\n\r\n")
    assert b"two" in answer
    assert b"[DONE]" in answer
    assert alone.process.wait(10) == 0
    assert [line["status"] for line in alone.records()] == [200]
    assert not (alone.directory / "state.json").exists()


def refuses(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return False
    except OSError:
        return True


def test_a_second_gateway_for_the_same_directory_is_refused(alone: GatewayAlone) -> None:
    command = [sys.executable, "-m", "llmops_tui.engine.serving.gateway", str(alone.home)]
    second = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert second.returncode == 3
    assert b"another gateway already serves" in second.stderr
    assert alone.chat() == 200


def test_the_light_imports_of_the_gateway_stay_light() -> None:
    code = "import sys, llmops_tui.engine.serving.gateway.process as p; print([m for m in sys.modules if m.split('.')[0] in "
    code += "('duckdb', 'fastapi', 'pydantic', 'numpy', 'torch', 'textual', 'httpx', 'aiohttp')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


def test_a_full_disk_costs_no_answer_and_no_record_once_there_is_room(
    backend: FakeBackend, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = start(config({"r1": backend}))
    full = True
    write = os.write

    def writes(descriptor: int, data: bytes) -> int:
        if full and b'"type":"request"' in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", writes)
    ids = [gateway.chat().headers["x-request-id"] for _ in range(20)]
    assert gateway.status()["spool"] == {"waiting": 20, "lost": 0}
    full = False
    wait_for(lambda: gateway.status()["spool"]["waiting"] == 0)
    assert [line["id"] for line in gateway.records()] == ids


def test_what_a_full_disk_keeps_waiting_is_bounded_and_what_is_lost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "texts")

    def refuses_all(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuses_all)
    for _ in range(50):
        spool.write(b"x" * (1 << 20) + b"\n")
    assert (spool.waiting, spool.lost) == (31, 19)
    monkeypatch.undo()
    spool.retry()
    assert spool.waiting == 0
    spool.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 31 * ((1 << 20) + 1)


def test_without_an_engine_the_gateway_serves_and_starts_again(alone: GatewayAlone) -> None:
    assert alone.chat() == 200
    (alone.directory / "config.json").unlink()
    alone.kill()
    alone.start()
    assert alone.chat() == 200


def test_a_stop_that_is_asked_for_on_the_control_socket_ends_the_process(alone: GatewayAlone) -> None:
    assert control(alone, "POST", "/control/stop") == {"in_flight": 0}
    assert alone.process.wait(10) == 0


def test_endpoints_without_versions_or_replicas_are_said_and_not_stuck(start: Start) -> None:
    gateway = start(config({}, {"m": {"versions": []}, "n": endpoint()}))
    assert [gateway.chat(model=name).status for name in ("m", "n")] == [503, 503]


def test_a_gateway_whose_home_is_gone_ends_once_nobody_asks(backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_tui.engine.serving.gateway.process._LEFT_SECONDS", 0.1)
    gateway = RunningGateway(tmp_path / "home" / "serving" / "gateway", config({"r1": backend}))
    try:
        os.rename(tmp_path / "home", tmp_path / "away")
        wait_for(gateway.process._ended.is_set, 20, "the gateway ends")
        with pytest.raises(ConnectionError):
            gateway.chat()
    finally:
        gateway.close()


def test_a_home_is_left_only_while_it_is_gone_and_nobody_asks(tmp_path: Path) -> None:
    async def play() -> None:
        process = GatewayProcess(asyncio.get_running_loop(), home)
        core = process.gateway.core
        left = process._is_left
        assert [left(0.0), left(100.0)] == [False, False]
        home.rename(tmp_path / "away")
        assert [left(200.0), left(259.0)] == [False, False]
        core.requests_total += 1  # it goes on for those who ask, and waits anew
        assert [left(260.0), left(319.0)] == [False, False]
        (tmp_path / "away").rename(home)
        assert [left(321.0), left(500.0)] == [False, False]
        home.rename(tmp_path / "away")
        home.mkdir()  # another one in its place is not its own
        assert [left(600.0), left(660.0)] == [False, True]
        core.close()

    home = tmp_path / "gateway"
    home.mkdir()
    asyncio.run(play())
