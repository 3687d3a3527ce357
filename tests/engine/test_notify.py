"""Notifications: real programs, a real HTTP server, and an engine that none of them can hold up."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.data.store import Store
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.notifier import Notifier
from llmops_tui.engine.notify_channels import DeliveryError, Hook, Message, Webhook
from llmops_tui.errors import ConflictError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings, NotifySettings, load_settings
from tests.waiting import wait_for

MESSAGE = Message(
    "run.state", 1.5, "train-a-0001", "failed", "bad", "train-a-0001 failed", "exit\x1b[31m code 3", "box", "/h", {"exit_code": 3}
)
_RECORD = """
import json, os, sys
event = json.load(sys.stdin)
words = {name: os.environ[name] for name in os.environ if name.startswith("LLMOPS_EVENT_")}
with open(sys.argv[1], "a") as file:
    file.write(json.dumps({"event": event, "words": words}) + "\\n")
"""


def python(code: str, *arguments: object) -> str:
    """A command line that runs Python."""
    return shlex.join([sys.executable, "-S", "-c", code, *map(str, arguments)])


@dataclass
class Server:
    """What it was sent, and how it answers."""

    url: str = ""
    got: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    location: str = ""
    hang: threading.Event | None = None


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            server.got.append({"path": self.path, "content_type": self.headers["content-type"], **json.loads(body)})
            if server.hang:
                server.hang.wait(60)
            elsewhere = server.location if self.path != "/moved" else ""
            self.send_response(server.status if elsewhere or not server.location else 200)
            if elsewhere:
                self.send_header("location", elsewhere)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        if server.hang:
            server.hang.set()
        listening.shutdown()
        listening.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


# --- the hook ---


def test_a_hook_gets_the_event_as_json_and_in_its_environment(tmp_path: Path) -> None:
    Hook(python(_RECORD, tmp_path / "told"), 30).send(MESSAGE)
    told = json.loads((tmp_path / "told").read_text())
    assert (told["event"]["type"], told["event"]["run"], told["event"]["data"]) == ("run.state", "train-a-0001", {"exit_code": 3})
    assert told["event"]["text"] == "exit\x1b[31m code 3"
    assert told["words"] == {
        "LLMOPS_EVENT_TYPE": "run.state", "LLMOPS_EVENT_RUN": "train-a-0001", "LLMOPS_EVENT_TITLE": "train-a-0001 failed",
        "LLMOPS_EVENT_TEXT": "exit [31m code 3", "LLMOPS_EVENT_LEVEL": "bad",
    }  # fmt: skip


def test_a_hook_is_no_shell(tmp_path: Path) -> None:
    Hook(f"{sys.executable} -c 'import sys; open(sys.argv[1], \"w\").write(sys.argv[2])' {tmp_path / 'told'} '$HOME; `id`'", 30).send(
        MESSAGE
    )
    assert (tmp_path / "told").read_text() == "$HOME; `id`"


def test_a_hook_that_hangs_is_killed_with_everything_it_started(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(300)"
    )
    with pytest.raises(DeliveryError, match=r"did not end within 2 s and was killed"):
        Hook(python(code, tmp_path / "pids"), 2).send(MESSAGE)
    wait_for(lambda: not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()))


def test_what_a_hook_leaves_in_the_background_keeps_nobody_waiting(tmp_path: Path) -> None:
    code = "import subprocess, sys; open(sys.argv[1], 'w').write(str(subprocess.Popen(['sleep', '300']).pid))"
    Hook(python(code, tmp_path / "pid"), 60).send(MESSAGE)
    left = int((tmp_path / "pid").read_text())
    assert alive(left)
    os.kill(left, 9)


def test_a_hook_that_talks_without_end_and_reads_nothing_is_cut_and_its_last_word_is_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with pytest.raises(DeliveryError, match=r"exit code 9: no such channel"):
        Hook(python("import sys; print('no such channel', file=sys.stderr); sys.exit(9)"), 30).send(MESSAGE)
    caplog.clear()
    Hook(python("import sys; sys.stdout.write('x' * 5_000_000)"), 30).send(MESSAGE)
    [record] = caplog.records
    assert len(record.getMessage()) < 5000


def test_a_hook_that_a_signal_ended_has_failed() -> None:
    with pytest.raises(DeliveryError, match="SIGKILL"):
        Hook(python("import os; os.kill(os.getpid(), 9)"), 30).send(MESSAGE)


def test_a_command_that_is_no_program_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"no program 'no-such-notifier'"):
        Hook("no-such-notifier --loud", 5)


# --- the webhook ---


def test_a_webhook_gets_a_post_of_json(server: Server) -> None:
    Webhook(f"{server.url}/services/secret", 10).send(MESSAGE)
    [got] = server.got
    assert (got["path"], got["content_type"], got["title"], got["level"]) == (
        "/services/secret",
        "application/json",
        "train-a-0001 failed",
        "bad",
    )


def test_a_server_that_refuses_or_is_not_there_is_said_without_the_secret_path(server: Server) -> None:
    server.status = 403
    with pytest.raises(DeliveryError) as refused:
        Webhook(f"{server.url}/services/secret", 10).send(MESSAGE)
    assert str(refused.value) == f"{server.url} answered 403 Forbidden"
    with pytest.raises(DeliveryError) as missing:
        Webhook("http://127.0.0.1:9/services/secret", 10).send(MESSAGE)
    assert str(missing.value) == "http://127.0.0.1:9 was not reached: Connection refused"


def test_a_server_that_hangs_is_given_up(server: Server) -> None:
    server.hang = threading.Event()
    with pytest.raises(DeliveryError, match=r"(did not answer within|was not reached: timed out)"):
        Webhook(server.url, 0.3).send(MESSAGE)


def test_a_redirect_is_followed_on_the_same_host_and_nowhere_else(server: Server) -> None:
    server.status, server.location = 307, f"{server.url}/moved"
    Webhook(f"{server.url}/first", 10).send(MESSAGE)
    assert [got["path"] for got in server.got] == ["/first", "/moved"]
    assert server.got[1]["title"] == MESSAGE.title
    with serving() as other:
        server.location = other.url.replace("127.0.0.1", "localhost")
        with pytest.raises(DeliveryError, match="another host"):
            Webhook(f"{server.url}/first", 10).send(MESSAGE)
        assert other.got == []


# --- the settings ---


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('command = "say \'unclosed"', "notify.command"),
        ('webhook = "ftp://example.org/x"', "must be an address like https://host/path"),
        ('webhook = "http://"', "must be an address like https://host/path"),
        ('on = ["failures"]', "notify.on"),
        ("timeout_seconds = 0", "notify.timeout_seconds"),
        ("comand = 1", "notify.comand"),
    ],
)
def test_wrong_settings_are_refused_in_one_line_that_names_them(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[notify]\n{line}\n")
    with pytest.raises(UsageError) as refused:
        load_settings(path)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_address_of_a_webhook_is_not_told_to_those_who_ask_for_the_settings() -> None:
    settings = NotifySettings.model_validate({"webhook": "https://example.org/services/secret"})
    assert "secret" not in json.dumps(settings.model_dump(mode="json"))


# --- the notifier ---


@dataclass
class Played:
    """A channel that does as it is told."""

    name: str = "hook"
    target: str = "played"
    problem: str = ""
    sent: list[Message] = field(default_factory=list)
    gate: threading.Event | None = None

    def send(self, message: Message) -> None:
        if self.gate:
            self.gate.wait(30)
        self.sent.append(message)
        if self.problem:
            raise DeliveryError(self.problem)

    def cancel(self) -> None:
        if self.gate:
            self.gate.set()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    store = Store.open(tmp_path / "db", EngineSettings())
    yield Hub(store)
    store.close()


async def until(condition: Any, what: str = "") -> None:
    await asyncio.to_thread(wait_for, condition, 15.0, what)


async def ended(hub: Hub, number: int, state: str = "failed") -> None:
    await hub.publish("run.state", f"train-a-{number:04d}", {"state": state, "reason": ""})


class Running:
    """A notifier at work."""

    def __init__(self, hub: Hub, channels: list[Played], **settings: Any) -> None:
        self._notifier = Notifier(NotifySettings(**settings), hub, Home(Path("/h")), channels)
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Notifier:
        self._task = asyncio.create_task(self._notifier.run(self._stop))
        return self._notifier

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await asyncio.wait_for(self._task, 10)
        self._notifier.close()


def failures(hub: Hub) -> list[str]:
    page = hub._page(0)
    return [f"{event['data']['channel']}: {event['data']['reason']}" for event in page if event["type"] == "notify.failed"]


async def test_only_the_topics_of_the_settings_are_sent_and_each_once(hub: Hub) -> None:
    played = Played()
    await ended(hub, 1)  # before its time
    async with Running(hub, [played], on=["failed"]):
        await ended(hub, 2, "succeeded")
        await ended(hub, 3)
        await hub.publish("gpu.lost", None, {"gpu": 0, "reason": ""})
        await ended(hub, 4, "hung")
        await until(lambda: len(played.sent) == 2)
    assert [message.run for message in played.sent] == ["train-a-0003", "train-a-0004"]


async def test_a_channel_that_fails_is_told_of_once_until_it_works_again(hub: Hub) -> None:
    broken, fine = Played(problem="exit code 1"), Played(name="webhook")
    async with Running(hub, [broken, fine]):
        for number in range(1, 6):
            await ended(hub, number)
        await until(lambda: len(broken.sent) == 5 and len(fine.sent) == 5)
        assert failures(hub) == ["hook: exit code 1"]
        broken.problem = ""
        await ended(hub, 6)
        await until(lambda: len(broken.sent) == 6 and len(fine.sent) == 6)
        broken.problem = "exit code 2"
        await ended(hub, 7)
        await until(lambda: len(failures(hub)) == 2)
    assert failures(hub) == ["hook: exit code 1", "hook: exit code 2"]
    assert [message.type for message in fine.sent] == ["run.state"] * 7  # the failure of one is no news for the other


async def test_more_than_can_be_sent_is_dropped_and_said_and_the_engine_goes_on(hub: Hub) -> None:
    slow = Played(gate=threading.Event())
    async with Running(hub, [slow], timeout_seconds=60) as notifier:
        for number in range(1, 151):
            hub.publish_soon("run.state", f"train-a-{number:04d}", {"state": "failed", "reason": ""})
        await hub.publish("engine.test", None, {})  # stored while the hook hangs
        await until(lambda: notifier._dropped >= 49)  # the sender may or may not have taken one before the queue was full
        dropped = notifier._dropped
        assert slow.gate
        slow.gate.set()
        await until(lambda: len(slow.sent) == 150 - dropped and failures(hub))
    assert failures(hub) == [f"queue: {dropped} notifications were left out: more than 100 waited to be sent"]


async def test_stopping_waits_for_no_hook(hub: Hub) -> None:
    slow = Played(gate=threading.Event())
    async with Running(hub, [slow], timeout_seconds=600) as notifier:
        await ended(hub, 1)
        await until(lambda: notifier._waiting.empty())
    assert slow.gate
    assert slow.gate.is_set()


async def test_a_test_says_of_each_way_what_became_of_it(hub: Hub) -> None:
    async with Running(hub, [Played(), Played(name="webhook", target="http://x", problem="refused")]) as notifier:
        results = await notifier.test()
    assert [(each["channel"], each["target"], each["delivered"], each["reason"]) for each in results] == [
        ("hook", "played", True, ""),
        ("webhook", "http://x", False, "refused"),
    ]
    assert failures(hub) == []  # whoever asked has the answer
    with pytest.raises(ConflictError, match="no notification is set up"):
        await Notifier(NotifySettings(), hub, Home(Path("/h")), []).test()


# --- the whole engine ---


@contextmanager
def running_engine(home: Home) -> Iterator[Client]:
    engine = subprocess.Popen([sys.executable, "-m", "llmops_tui.engine.daemon", "--home", str(home.root)])
    client = Client(home)
    try:
        wait_for(lambda: client.answers() or engine.poll() is not None, 30, "the engine answers")
        assert engine.poll() is None, "the engine did not start"
        yield client
    finally:
        engine.terminate()
        engine.wait(30)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home", explicit=True)
    home.root.mkdir()
    return home


def cli(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmops_tui", "--home", str(home.root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def command_run(client: Client, code: str) -> str:
    return client.submit({"kind": "command", "name": "x", "argv": [sys.executable, "-S", "-c", code]}, "/")["id"]


def test_a_run_that_fails_reaches_the_hook_and_the_webhook(home: Home, tmp_path: Path, server: Server) -> None:
    command = python(_RECORD, tmp_path / "told")
    home.config.write_text(f"[notify]\ncommand = {json.dumps(command)}\nwebhook = {json.dumps(server.url)}\non = ['failed']\n")
    with running_engine(home) as client:
        tested = cli(home, "engine", "notify-test", "--json")
        assert (tested.returncode, [each["delivered"] for each in json.loads(tested.stdout)["results"]]) == (0, [True, True])
        good, bad = command_run(client, "pass"), command_run(client, "raise SystemExit(3)")
        wait_for(lambda: len(server.got) == 2 and (tmp_path / "told").read_text().count("\n") == 2)
        wait_for(lambda: client.run(good)["state"] == "succeeded")
    told = [json.loads(line)["event"] for line in (tmp_path / "told").read_text().splitlines()]
    for events in (told, server.got):
        assert [(event["type"], event["run"]) for event in events] == [("notify.test", None), ("run.state", bad)]
    assert told[1]["title"] == f"{bad} failed"
    assert told[1]["home"] == str(home.root)


def test_a_hook_that_hangs_holds_up_neither_runs_nor_answers_nor_the_engines_end(home: Home, tmp_path: Path) -> None:
    command = python("import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(300)", tmp_path / "pids")
    home.config.write_text(f"[notify]\ncommand = {json.dumps(command)}\ntimeout_seconds = 600\n")
    with running_engine(home) as client:
        first = command_run(client, "pass")
        wait_for(lambda: client.run(first)["ended_at"] and (tmp_path / "pids").exists())
        second = command_run(client, "pass")
        wait_for(lambda: client.run(second)["ended_at"])
        assert client.status()["counts"] == {"succeeded": 2}
    wait_for(lambda: not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()))


def test_a_hook_that_is_no_program_stops_the_start_with_one_line(home: Home) -> None:
    home.config.write_text('[notify]\ncommand = "no-such-notifier --loud"\n')
    refused = cli(home, "engine", "start")
    assert (refused.returncode, refused.stdout) == (2, "")
    [line] = refused.stderr.splitlines()
    assert "[notify] command: there is no program 'no-such-notifier'" in line


def test_a_test_without_a_way_says_what_to_set(home: Home) -> None:
    with running_engine(home):
        answer = cli(home, "engine", "notify-test")
    assert answer.returncode == 1
    assert "set command or webhook under [notify]" in answer.stderr


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
