"""The client against a scripted engine that breaks, lies and comes back; and what it costs to import."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.errors import EngineUnavailableError, InsufficientResourcesError, LlmopsError, NotFoundError
from llmops_tui.paths import Home

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(text: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


def _answer(status: int, value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


class ScriptedEngine:
    """Answers one connection after another with the bytes of its script, then hangs up; remembers what was asked."""

    def __init__(self, path: Path, script: list[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.asked: list[str] = []
        self._script = script
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self.held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for part in self._script:
            connection, _ = self._socket.accept()
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            self.asked.append(request.split(b"\r\n")[0].decode())
            connection.sendall(part)
            if part.endswith(b"HOLD"):
                self.held.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        for held in (self._socket, *self.held):
            held.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, explicit=True)


@pytest.fixture
def scripted(home: Home) -> Iterator[Callable[..., ScriptedEngine]]:
    engines: list[ScriptedEngine] = []

    def make(*script: bytes) -> ScriptedEngine:
        engines.append(ScriptedEngine(home.socket, list(script)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def test_importing_the_client_loads_nothing_heavy() -> None:
    script = """
import sys
import llmops_tui.client
heavy = {"asyncio", "pydantic", "fastapi", "numpy", "duckdb", "subprocess", "textual", "rich", "httptools", "yaml"}
print(sorted(heavy & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"],
                          capture_output=True, text=True, check=True).stdout == "[]\n"  # fmt: skip


def test_without_an_engine_the_next_step_is_told(home: Home) -> None:
    with pytest.raises(EngineUnavailableError, match=r"no engine runs for .*; start it with `llmops-tui engine start`"):
        Client(home).status()


def test_an_engines_error_is_raised_as_it_was(home: Home, scripted: Callable[..., ScriptedEngine]) -> None:
    error = InsufficientResourcesError("the disk has 3 GB, the run needs 5", "free some")
    scripted(_answer(507, error.to_json()))
    with pytest.raises(InsufficientResourcesError) as caught:
        Client(home).status()
    assert str(caught.value) == str(error)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", b"HTTP/1.1 500 X\r\n\r\nboom"]
)
def test_an_engine_that_breaks_off_or_talks_nonsense_is_an_error_of_ours(
    home: Home, scripted: Callable[..., ScriptedEngine], said: bytes
) -> None:
    scripted(said)
    with pytest.raises(LlmopsError):
        Client(home).status()


def test_an_engine_that_hangs_is_given_up_after_the_timeout(home: Home, scripted: Callable[..., ScriptedEngine]) -> None:
    scripted(b"HOLD")
    with pytest.raises(EngineUnavailableError, match=r"did not answer|connection to the engine broke"):
        Client(home).engine(timeout=0.2)


def test_a_run_stream_that_breaks_goes_on_after_the_last_line_seen(home: Home, scripted: Callable[..., ScriptedEngine]) -> None:
    engine = scripted(
        _STREAM_HEAD + _chunk('id: 10\ndata: {"step":1}\n\n') + _chunk('id: 20\ndata: {"step":2}\n\nid: 30\nda'),
        b"",
        _STREAM_HEAD + _chunk(": still here\n\n") + _chunk('id: 30\ndata: {"step":3}\n\nevent: end\ndata: {"state":"failed"}\n\n'),
    )
    watched: list[bool] = []
    stream = Client(home).stream_run("train-x-0001", on_connection=watched.append)
    assert [(event.offset, event.event["step"]) for event in stream] == [(10, 1), (20, 2), (30, 3)]
    assert stream.final_state == "failed"
    assert [asked.split()[1] for asked in engine.asked] == [f"/v1/runs/train-x-0001/stream?offset={at}" for at in (0, 20, 20)]
    assert watched == [True, False, True]


def test_an_event_stream_goes_on_after_the_last_number_and_tells_of_a_new_database(
    home: Home, scripted: Callable[..., ScriptedEngine]
) -> None:
    def event(seq: int) -> str:
        value = {"seq": seq, "t": 1.0, "type": "run.state", "run": "r", "data": {}}
        return f"event: engine\nid: {seq}\ndata: {json.dumps(value)}\n\n"

    def hello(epoch: str, after: int) -> str:
        return f'event: hello\ndata: {{"epoch":"{epoch}","after":{after}}}\n\n'

    engine = scripted(
        _STREAM_HEAD + _chunk(hello("one", 7) + event(8)),
        _STREAM_HEAD + _chunk(hello("one", 8) + event(9)),
        _STREAM_HEAD + _chunk(hello("two", 0) + event(1)),
    )
    stream = iter(Client(home).stream_events())
    seen = [next(stream) for _ in range(4)]
    assert [(found["type"], found["seq"]) for found in seen] == [("run.state", 8), ("run.state", 9), ("stream.reset", 0), ("run.state", 1)]
    assert [asked.split()[1].partition("?")[2] for asked in engine.asked] == ["", "epoch=one&after=8", "epoch=one&after=9"]


def test_a_stream_of_a_run_that_is_gone_raises_and_does_not_try_for_ever(home: Home, scripted: Callable[..., ScriptedEngine]) -> None:
    scripted(_answer(404, NotFoundError("no run x").to_json()))
    with pytest.raises(NotFoundError, match="no run x"):
        list(Client(home).stream_run("x"))


def test_a_stream_gives_up_on_an_engine_that_stays_away(home: Home) -> None:
    with pytest.raises(EngineUnavailableError):
        list(Client(home).stream_events(give_up_seconds=0.1))


def test_closing_a_stream_from_another_thread_ends_its_reader_at_once(home: Home, scripted: Callable[..., ScriptedEngine]) -> None:
    scripted(_STREAM_HEAD + _chunk('id: 10\ndata: {"step":1}\n\n') + b"HOLD")
    stream, first = Client(home).stream_run("x"), threading.Event()

    def read() -> None:
        for _ in stream:
            first.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert first.wait(10)
    stream.close()
    reader.join(10)
    assert not reader.is_alive()


@pytest.mark.parametrize("run_id", ["", "..", ".", "../../etc", "a/b"])
def test_what_cannot_be_a_run_is_not_asked_for(tmp_path: Path, run_id: str) -> None:
    client = Client(Home(tmp_path))
    for ask in (client.run, client.remove, client.stop_run, client.log, client.run_events):
        with pytest.raises(NotFoundError, match="no run"):
            ask(run_id)
