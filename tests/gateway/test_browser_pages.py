"""Without keys the gateway answers this box's programs, and no web page that a browser on it shows."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import openai
import pytest

from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.pages_of_browsers import check_page
from tests.gateway.fake_backend import FakeBackend
from tests.gateway.running import RunningGateway, chat_body, config, key

Start = Callable[[dict[str, Any]], RunningGateway]
PATHS = (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/health"), ("GET", "/metrics"), ("POST", "/v1/feedback"))
FOREIGN_ORIGINS = [
    "http://evil.example", "https://evil.example:8700", "null", "http://localhost.evil.example", "http://127.0.0.1.evil.example",
    "http://127.0.0.1@evil.example", "http://evil.example/127.0.0.1", "http://[2001:db8::1]", "http://192.168.1.2", "file://", "localhost",
    "http://localhost http://evil.example", "chrome-extension://abc", "http://", "http://localhost, http://localhost", "x" * 5000,
    "http://\xe9vil.example",
]  # fmt: skip
FOREIGN_HOSTS = [
    "evil.example", "evil.example:8700", "localhost.evil.example", "127.0.0.1.evil.example:80", "192.168.1.2:8700", "[2001:db8::1]:8700",
    "localhost:80:80", "user@localhost", "localhost/", "[::1", "::1:8700", "8.8.8.8", ".", "x" * 5000, "\xe9vil",
]  # fmt: skip
OUR_HOSTS = ["localhost", "LOCALHOST:8700", "127.0.0.1", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:8700", "localhost.:80", "localhost:"]
OUR_ORIGINS = ["http://localhost:3000", "https://localhost", "http://127.0.0.1:8080", "http://[::1]:3000", "HTTP://LOCALHOST"]


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example:8700"}, {"Origin": "null"}])
def test_a_page_of_another_site_is_answered_nowhere_and_its_try_is_recorded(
    backend: FakeBackend, gateway: RunningGateway, headers: dict[str, str]
) -> None:
    for method, path in PATHS:
        refused = gateway.request(method, path, chat_body() if method == "POST" else None, headers)
        assert (refused.status, refused.error["type"]) == (403, "permission_error")
        assert refused.error["code"] == ("foreign_host" if "Host" in headers else "foreign_origin")
        assert gateway.record(path=path)["status"] == 403
    preflight = gateway.request("OPTIONS", "/v1/chat/completions", headers=headers)
    assert preflight.status == 403
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert not backend.asked()


def test_with_keys_it_is_the_key_that_counts(backend: FakeBackend, start: Start) -> None:
    gateway = start(config({"r1": backend}, auth="keys", keys=[key("a")]))
    foreign = {"Origin": "https://chat.example", "Host": "llm.example"}
    assert gateway.chat(headers={**foreign, "Authorization": "Bearer a"}).status == 200
    assert gateway.chat(headers=foreign).status == 401
    assert gateway.reload({**config({"r1": backend}), "revision": 2})[0] == 200
    assert gateway.chat(headers=foreign).status == 403


def test_programs_and_pages_of_this_box_are_answered(gateway: RunningGateway) -> None:
    for host in (*OUR_HOSTS, socket.gethostname(), f"{socket.gethostname()}:8700"):
        assert gateway.chat(headers={"Host": host}).status == 200
    for origin in OUR_ORIGINS:
        assert gateway.chat(headers={"Origin": origin}).status == 200
    assert gateway.raw(b"GET /v1/models HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200"), "what says no Host is no browser"


def test_the_clients_that_people_use_are_answered(gateway: RunningGateway) -> None:
    for host in ("127.0.0.1", "localhost"):
        client = openai.OpenAI(base_url=f"http://{host}:{gateway.port}/v1", api_key="none", max_retries=0)
        said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        assert said.choices[0].message.content == "hello"
        client.close()
    curl = shutil.which("curl")
    if curl is not None:
        body = json.dumps(chat_body())
        url = f"http://localhost:{gateway.port}/v1/chat/completions"
        done = subprocess.run([curl, "-4", "-sS", "--noproxy", "*", url, "-d", body], capture_output=True, timeout=20, check=True)
        assert json.loads(done.stdout)["choices"]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_an_origin_that_only_looks_like_ours_is_foreign(origin: str) -> None:
    with pytest.raises(GatewayError) as refused:
        check_page(b"localhost", origin.encode("latin-1"), "127.0.0.1")
    assert (refused.value.status, refused.value.code) == (403, "foreign_origin")
    assert len(refused.value.message) < 500


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_host_that_only_looks_like_ours_is_foreign(host: str) -> None:
    with pytest.raises(GatewayError) as refused:
        check_page(host.encode("latin-1"), b"", "127.0.0.1")
    assert (refused.value.status, refused.value.code) == (403, "foreign_host")


def test_the_address_that_is_listened_on_is_ours() -> None:
    check_page(b"Box.lan:8700", b"http://box.lan", "box.LAN")
    with pytest.raises(GatewayError):
        check_page(b"box.lan:8700", b"", "127.0.0.1")


def test_a_second_origin_does_not_hide_the_first(gateway: RunningGateway) -> None:
    answer = gateway.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nOrigin: http://localhost\r\n"
                         b"Connection: close\r\n\r\n")  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 403")


def test_two_hosts_are_no_host(gateway: RunningGateway) -> None:
    answer = gateway.raw(b"GET /health HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert gateway.record(status=400)["error"] == "there are two Host headers"
