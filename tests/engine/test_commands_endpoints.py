"""The commands of serving against a real engine and a real gateway; what answers is a server of the test's own, as a provider."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.catalog_files import write_model
from tests.engine.test_commands import Shell
from tests.gateway.fake_backend import FakeBackend, delta, says
from tests.waiting import wait_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, backend: FakeBackend) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("home")
    provider = f'base_url = "http://127.0.0.1:{backend.port}/v1"\nmodel = "m"\n'
    (home / "config.toml").write_text(
        f'[gpus]\nprobe = "none"\n[serving]\nport = {free_port()}\n'
        f"[serving.providers.near]\n{provider}[serving.providers.far]\n{provider}"
        f'[serving.providers.paid]\n{provider}key_env = "NO_SUCH_VARIABLE_HERE"\n'
    )
    shell = Shell(home)
    shell("engine", "start")
    try:
        shell("endpoints", "start", "--provider", "near", "--name", "chat", "--alias", "gpt-4o")
        yield shell
    finally:
        for endpoint in shell.json("endpoints", "list"):
            shell("endpoints", "stop", endpoint["name"], "--yes")
        wait_for(lambda: shell.json("endpoints", "gateway")["pid"] is None, what="the gateway to be gone")
        shell("engine", "stop")


@pytest.fixture(autouse=True)
def _as_usual(backend: FakeBackend) -> Iterator[None]:
    yield
    backend.script.clear()


def test_start_waits_until_it_answers_and_prints_a_request_that_works(shell: Shell, backend: FakeBackend) -> None:
    line = shell("endpoints", "start", "--provider", "near", "--name", "other").strip()
    assert line.startswith("curl http://127.0.0.1:")
    done = subprocess.run(["sh", "-c", f"{line} -s"], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "hello"
    assert "other is stopped" in shell("endpoints", "stop", "other", "--yes")
    assert "no endpoint 'other'" in shell.error("endpoints", "show", "other", code=4)


def test_list_show_and_gateway_say_the_same_to_people_and_programs(shell: Shell) -> None:
    assert [row.split()[:4] for row in shell("endpoints", "list").splitlines()[1:]] == [["chat", "ready", "v1", "100%"]]
    shown = shell.json("endpoints", "show", "gpt-4o")  # by its alias
    assert (shown["name"], shown["state"], shown["versions"][0]["state"]) == ("chat", "ready", "remote")
    page = shell("endpoints", "show", "chat")
    assert shown["curl"] in page
    assert "provider near" in page
    gateway = shell.json("endpoints", "gateway")
    assert gateway["state"] == "running"
    assert str(gateway["pid"]) in shell("endpoints", "gateway")


def test_a_prompt_is_answered_on_stdout_with_figures_and_the_id_on_stderr(shell: Shell, backend: FakeBackend) -> None:
    asked = shell.full("endpoints", "chat", "chat", "--system", "Be brief.", "--temperature", "0", "--max-tokens", "9", "hi")
    assert (asked.returncode, asked.stdout) == (0, "hello you\n")
    assert "3 tokens" in asked.stderr
    identity = asked.stderr.split()[-1]
    assert identity.startswith("req_")
    body = backend.seen[-1].body
    assert [(message["role"], message["content"]) for message in body["messages"]] == [("system", "Be brief."), ("user", "hi")]
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (0, 9, True)
    assert f"noted for {identity}" in shell("endpoints", "feedback", identity, "up", "--comment", "quick")
    assert "noted" in shell("endpoints", "feedback", identity, "--correction", "-", stdin="Hello you.\n")
    assert shell.full("endpoints", "chat", "chat", "hi", "--quiet").stderr == ""


def test_the_prompt_may_come_from_stdin_and_json_is_a_line_a_chunk(shell: Shell, backend: FakeBackend) -> None:
    lines = [json.loads(line) for line in shell("endpoints", "chat", "chat", "--json", stdin="from stdin\n").splitlines()]
    assert backend.seen[-1].body["messages"] == [{"role": "user", "content": "from stdin"}]
    assert lines[-1]["type"] == "answer"
    assert (lines[-1]["text"], lines[-1]["finish"], lines[-1]["completion_tokens"]) == ("hello you", "stop", 3)
    assert "the prompt is empty" in shell.error("endpoints", "chat", "chat", stdin=" \n", code=2)


def test_an_answer_that_breaks_off_is_printed_so_far_and_is_an_error(shell: Shell, backend: FakeBackend) -> None:
    async def breaks(asked: Any) -> None:
        await asked.events_head()
        await asked.event(delta("half an"))
        asked.close()

    backend.script.append(breaks)
    done = shell.full("endpoints", "chat", "chat", "hi")
    assert (done.returncode, done.stdout) == (1, "half an\n")
    assert done.stderr.splitlines()[-1].startswith("llmops-tui: ")


def test_what_the_gateway_refuses_is_one_line(shell: Shell) -> None:
    assert "temperature" in shell.error("endpoints", "chat", "chat", "hi", "--temperature", "1000", code=2)
    assert "no version 'v9'" in shell.error("endpoints", "chat", "chat", "hi", "--version", "v9", code=4)
    assert "no endpoint 'nobody'" in shell.error("endpoints", "chat", "nobody", "hi", code=4)
    assert "x-request-id" in shell.error("endpoints", "feedback", "nonsense", "up", code=2)


def test_a_refusal_of_the_server_behind_is_told(shell: Shell, backend: FakeBackend) -> None:
    backend.script.append(says(400, b'{"error":{"message":"too many tokens for me","type":"invalid_request_error"}}'))
    assert "too many tokens for me" in shell.error("endpoints", "chat", "chat", "hi", code=2)


def test_ctrl_c_gives_an_answer_up_and_the_server_hears_of_it(shell: Shell, backend: FakeBackend) -> None:
    async def waits_on_and_on(asked: Any) -> None:
        await asked.events_head()
        await asked.event(delta("begun"))
        await asked.reader.read(1)
        asked.backend.closed_on.append(asked.path)

    backend.script.append(waits_on_and_on)
    backend.closed_on.clear()
    with subprocess.Popen(
        shell.command("endpoints", "chat", "chat", "hi"), env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asking:  # fmt: skip
        assert asking.stdout is not None
        assert asking.stdout.read(5) == b"begun"
        asking.send_signal(signal.SIGINT)
        assert asking.wait(15) == 130
    wait_for(lambda: backend.closed_on, what="the server to be told")


def test_versions_are_added_routed_mirrored_rolled_back_and_removed(shell: Shell) -> None:
    assert "without requests yet" in shell("endpoints", "version", "add", "chat", "--provider", "far", "--as", "far")
    assert "v1 95% far 5%" in shell("endpoints", "route", "chat", "v1=95", "far=5")
    assert "mirror far 10%" in shell("endpoints", "route", "chat", "--mirror", "far=10%", "--sticky", "session", "--balance", "prefix")
    shown = shell.json("endpoints", "show", "chat")
    assert (shown["sticky"], shown["balance"], shown["previous"]) == ("session", "prefix", {"v1": 100.0})
    assert "has no version 'v9'" in shell.error("endpoints", "route", "chat", "v9=1", code=4)
    assert "add up to 0" in shell.error("endpoints", "route", "chat", "v1=0", code=2)
    assert shell.error("endpoints", "version", "remove", "chat", "far", code=1)
    assert "v1 100%" in shell("endpoints", "rollback", "chat")
    assert "mirror" not in shell("endpoints", "route", "chat", "--mirror", "none")
    assert "far is removed" in shell("endpoints", "version", "remove", "chat", "far")
    assert [change["what"] for change in shell.json("endpoints", "show", "chat")["history"]][-1].startswith("removed")


def test_pin_and_unpin_are_told_and_kept(shell: Shell) -> None:
    assert "never unloaded" in shell("endpoints", "pin", "chat")
    assert shell.json("endpoints", "show", "chat")["pinned"] is True
    shell("endpoints", "unpin", "chat")
    assert shell.json("endpoints", "show", "chat")["pinned"] is False


def test_unloading_what_has_no_servers_here_or_is_pinned_is_refused_and_waking_what_is_awake_changes_nothing(shell: Shell) -> None:
    assert "no servers here" in shell.error("endpoints", "unload", "chat", code=1)
    shell("endpoints", "pin", "chat")
    assert "unpin chat" in shell.error("endpoints", "unload", "chat", code=1)
    shell("endpoints", "unpin", "chat")
    before = shell.json("endpoints", "show", "chat")
    assert shell("endpoints", "wake", "chat").startswith("chat ready")
    assert shell.json("endpoints", "show", "chat")["history"] == before["history"]


def test_a_keys_secret_is_printed_once_and_revoking_it_is_kept(shell: Shell) -> None:
    made = shell.full("endpoints", "keys", "create", "web", "--endpoint", "chat", "--requests-per-minute", "60")
    secret = made.stdout.strip()
    assert secret.startswith("lk-")
    assert "60 requests/min" in made.stderr
    listed = shell("endpoints", "keys", "list")
    assert "web" in listed
    assert secret not in listed
    assert all(secret not in path.read_text(errors="replace") for path in shell.home.rglob("*.json"))
    assert "in use" in shell.error("endpoints", "keys", "create", "web", code=1)
    assert "no endpoint 'nobody'" in shell.error("endpoints", "keys", "create", "x", "--endpoint", "nobody", code=4)
    assert "is revoked" in shell("endpoints", "keys", "revoke", "web")
    assert [key["revoked"] for key in shell.json("endpoints", "keys", "list")] == [True]
    assert "no key 'nobody'" in shell.error("endpoints", "keys", "revoke", "nobody", code=4)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--provider", "near", "--name", "chat"), 1, "the name 'chat' is in use"),
        (("--provider", "near", "--name", "x", "--alias", "gpt-4o"), 1, "it leads to chat"),
        (("--provider", "nowhere", "--name", "x"), 4, "no provider 'nowhere'"),
        (("--provider", "paid", "--name", "x"), 2, "NO_SUCH_VARIABLE_HERE"),
        (("--provider", "near", "--name", "Not A Name"), 2, "name: use 1 to 40 of"),
        (("--provider", "near", "--name", "x", "--set", "retires=2"), 2, "retires: unknown key"),
        (("--provider", "near", "--name", "x", "--set", "sticky=often"), 2, "sticky:"),
        (("--provider", "near", "--name", "x", "--set", "fallbacks=[nobody]"), 4, "no endpoint 'nobody'"),
        (("/nowhere/model.gguf",), 4, "no file at /nowhere/model.gguf"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line_and_nothing_is_kept(
    shell: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    for more in ((), ("--dry-run",)):
        assert said in shell.error("endpoints", "start", *words, *more, code=code)
    assert [endpoint["name"] for endpoint in shell.json("endpoints", "list")] == ["chat"]


def test_a_dry_run_says_what_it_would_be_and_starts_nothing(shell: Shell, tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_model(model)
    checked = shell.json("endpoints", "start", str(model), "--name", "tiny", "--context", "64", "--slots", "2", "--dry-run")
    assert checked["spec"]["name"] == "tiny"
    assert [(server["version"], server["context"], server["slots"]) for server in checked["servers"]] == [("v1", 64, 2)]
    assert "could be served; nothing was started" in shell("endpoints", "start", str(model), "--name", "tiny", "--dry-run")
    assert "slotts: unknown key" in shell.error(
        "endpoints", "start", str(model), "--name", "t", "--set", "serve.slotts=1", "--dry-run", code=2
    )
    assert [endpoint["name"] for endpoint in shell.json("endpoints", "list")] == ["chat"]


def test_stopping_asks_and_without_a_terminal_wants_yes(shell: Shell) -> None:
    assert "use --yes" in shell.error("endpoints", "stop", "chat", code=2)
    assert shell.json("endpoints", "show", "chat")["state"] == "ready"


def test_latency_is_told_by_window_and_as_a_history(shell: Shell) -> None:
    shell("endpoints", "chat", "chat", "hi", "--quiet")
    wait_for(lambda: shell.json("endpoints", "latency", "chat")["versions"].get("v1", {}).get("windows"), 30, "the last minutes of v1")
    assert "TTFT" in shell("endpoints", "latency", "chat")
    assert shell.json("endpoints", "latency", "chat", "--since", "1h", "--points", "4")["endpoint"] == "chat"


def test_runtimes_are_listed_and_an_unknown_one_is_refused(shell: Shell) -> None:
    names = [runtime["name"] for runtime in shell.json("runtimes", "list")]
    assert {"llamacpp", "vllm", "transformers"} <= set(names)
    assert all(name in shell("runtimes", "list") for name in names)
    shell.error("runtimes", "check", "ollama", code=4)
    shell.error("runtimes", "install", "ollama", code=4)
    shell.error("runtimes", "install", "llm-compressor", "--wheels", "/nowhere/wheels", code=4)
    checked = shell.json("runtimes", "check", "transformers")
    assert checked[0]["checked"] is True


def test_reading_commands_import_none_of_the_heavy_packages(shell: Shell) -> None:
    code = (
        "import sys\nfrom llmops_tui.cli import run_cli\nassert run_cli(['endpoints', 'list', '--json']) == 0\n"
        "heavy = {'pydantic', 'textual', 'rich', 'yaml', 'numpy', 'duckdb', 'torch', 'asyncio', 'fastapi'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([os.sys.executable, "-c", code], env=shell.environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
