"""A million requests through the gateway while engine and gateway are killed: is each answer's record stored, and once?

    python benchmarks/record_kills.py [--quick]

A real engine, its gateway and an endpoint on a server that answers at once; 32 connections ask without a pause. At twenty random moments
kill -9 hits the engine or the gateway in turn; the engine is started again by the next client, the gateway by the engine. In the end all is
stopped and the database is held against what the clients saw: every answer that came whole must be recorded once. What was under way when
the gateway died has no answer, and its client sees that; its record may be there or not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import uvloop

from llmops_tui.client import Client
from llmops_tui.data.rundir import is_locked
from llmops_tui.data.store import Store
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings

KILLS = 20
QUICK_KILLS = 8
CONNECTIONS = 32
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"x-request-id: *(\S+)", re.IGNORECASE)
_BODY = json.dumps({"model": "quick", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 8}).encode()

SERVER = """
import asyncio, json, re, sys, uvloop
choice = {"index": 0, "message": {"role": "assistant", "content": "something"}, "finish_reason": "stop"}
body = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice],
    "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}}).encode()
answer = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body
length = re.compile(rb"content-length: *(\\d+)", re.I)
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        while (head := self.data.find(b"\\r\\n\\r\\n")) >= 0:
            found = length.search(self.data, 0, head)
            end = head + 4 + (int(found[1]) if found else 0)
            if len(self.data) < end:
                return
            self.data = self.data[end:]
            self.transport.write(answer)
async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""


class Asker(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.data = b""
        self.asked = False
        self.transport: asyncio.Transport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's are of no class of asyncio's
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        assert self.transport is not None
        self.asked = self.load.more()
        if self.asked:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
                _BODY
            )
            self.transport.write(head + _BODY)
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (head := self.data.find(b"\r\n\r\n")) >= 0:
            length, identity = _LENGTH.search(self.data, 0, head), _ID.search(self.data, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self.data) < end:
                return
            status = int(self.data[9:12])
            self.data = self.data[end:]
            self.load.answered(status, identity[1].decode() if identity else "")
            self.asked = False
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self.asked:
            self.load.broken += 1
        if not self.lost.done():
            self.lost.set_result(None)


class Load:
    """Asks until so many answers came, over connections that are opened again whenever they are lost."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.count = count
        self.ids: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self.refused = 0
        self.under_way = 0

    def more(self) -> bool:
        return len(self.ids) < self.count

    def answered(self, status: int, identity: str) -> None:
        self.statuses[status] += 1
        self.ids.append(identity)

    async def connection(self) -> None:
        loop = asyncio.get_running_loop()
        while self.more():
            try:
                _, asker = await loop.create_connection(lambda: Asker(self), "127.0.0.1", self.port)
            except OSError:
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            await asker.lost

    async def run(self) -> None:
        await asyncio.gather(*(self.connection() for _ in range(CONNECTIONS)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40,000 requests, 8 deaths: about a minute")
    parser.add_argument("--requests", type=int, help="another number of them")
    asked = parser.parse_args()
    count = asked.requests or (40_000 if asked.quick else 1_000_000)
    kills = QUICK_KILLS if asked.quick else KILLS
    with tempfile.TemporaryDirectory(prefix="llmops-kills-") as scratch:
        home = Home(Path(scratch) / "home", explicit=True)
        home.root.mkdir()
        ports = free_port(), free_port()
        home.config.write_text(
            f'[gpus]\nprobe = "none"\n[serving]\nport = {ports[0]}\n[serving.providers.quick]\n'
            f'base_url = "http://127.0.0.1:{ports[1]}/v1"\nmodel = "m"\n'
        )
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(ports[1])])
        try:
            client = Client(home)
            client.ensure_engine()
            client.serving.start({"name": "quick", "versions": [{"name": "v1", "provider": "quick", "weight": 1}]})
            wait_until(lambda: client.serving.endpoint("quick")["state"] == "ready", 60)
            began = time.monotonic()
            load, killed = ask_and_kill(home, client, ports[0], count, kills)
            seconds = time.monotonic() - began
            client.ensure_engine()
            wait_until(lambda: lives(home, "gateway"), 60)  # one that is only being started would outlive its stop
            client.serving.stop("quick")
            wait_until(lambda: not is_locked(home.gateway / "gateway.lock"), 60)
            wait_until(lambda: stored_count(client) >= len(load.ids), 120)
        finally:
            kill_all(home)
            server.kill()
            server.wait()
        return judge(home, load, killed, kills, seconds)


def ask_and_kill(home: Home, client: Client, port: int, count: int, kills: int) -> tuple[Load, Counter[str]]:
    """The load in a thread; here the deaths, spread over it at random."""
    load, dice, killed = Load(port, count), random.Random(20), Counter[str]()
    thread = threading.Thread(target=lambda: uvloop.run(load.run()))
    thread.start()
    moments = sorted(dice.uniform(0.02, 0.98) * count for _ in range(kills))
    for number, moment in enumerate(moments):
        while len(load.ids) < moment and thread.is_alive():
            time.sleep(0.005)
        victim = ("engine", "gateway")[number % 2]
        wait_until(lambda: lives(home, "engine") and lives(home, "gateway"), 60)
        if kill(home, victim):
            killed[victim] += 1
            wait_until(lambda victim=victim: not lives(home, victim), 30)  # type: ignore[misc]
        with contextlib.suppress(LlmopsError):
            client.ensure_engine(30)
    thread.join()
    return load, killed


def lives(home: Home, victim: str) -> bool:
    """Whether its lock is held and it has noted its pid."""
    lock, note = (
        (home.engine_lock, home.engine_json) if victim == "engine" else (home.gateway / "gateway.lock", home.gateway / "state.json")
    )
    with contextlib.suppress(OSError, ValueError, KeyError):
        os.kill(int(json.loads(note.read_bytes())["pid"]), 0)
        return is_locked(lock)
    return False


def kill(home: Home, victim: str) -> bool:
    note = home.engine_json if victim == "engine" else home.gateway / "state.json"
    try:
        os.kill(int(json.loads(note.read_bytes())["pid"]), signal.SIGKILL)
    except (OSError, ValueError, KeyError):
        return False
    return True


def kill_all(home: Home) -> None:
    for victim in ("engine", "gateway"):
        kill(home, victim)
    wait_until(lambda: not is_locked(home.engine_lock) and not is_locked(home.gateway / "gateway.lock"), 30)


def stored_count(client: Client) -> int:
    return int(client.sql("SELECT count(*) FROM requests")["rows"][0][0])


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"something did not come about within {seconds:g} s")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def judge(home: Home, load: Load, killed: Counter[str], kills: int, seconds: float) -> int:
    store = Store.open(home.database, EngineSettings())
    stored = [row[0] for row in store.read(lambda con: con.execute("SELECT id FROM requests").fetchall())]
    store.close()
    kept = set(stored)
    lost, doubled = len(set(load.ids) - kept), len(stored) - len(kept)
    unseen = len(kept - set(load.ids))
    unnamed = load.ids.count("")
    print(f"{len(load.ids):,} answers in {seconds:.0f} s over {CONNECTIONS} connections: {dict(load.statuses)}")
    print(f"killed: engine {killed['engine']} times, gateway {killed['gateway']} times")
    print(f"requests that died with a gateway, each seen by its client: {load.broken}; refused while none ran: {load.refused:,}")
    print(f"stored: {len(stored):,}; answered and not stored: {lost}; stored twice: {doubled}; recorded, but the answer died: {unseen}")
    enough = sum(killed.values()) == kills
    holds = not lost and not doubled and not unnamed and unseen <= load.broken and enough
    told = {
        "benchmark": "record_kills", "ours": {"answers": len(load.ids), "kills": sum(killed.values()), "lost": lost, "doubled": doubled},
        "peer": None, "ratio": None, "bar": {"lost": 0, "doubled": 0}, "holds": holds,
    }  # fmt: skip
    print(json.dumps(told))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
