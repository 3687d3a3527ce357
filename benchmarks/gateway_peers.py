"""The fronts that our gateway is measured beside, each with one worker and no more than passing on: nginx, an aiohttp proxy, LiteLLM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gateway_rig import FRONT_CORE, SECRET, Front, OurGateway, Throughput, Tools, free_port, pinned, wait_until_open
from peer_environment import peer_python

LITELLM = "litellm[proxy]==1.106.0"
AIOHTTP = "aiohttp==3.14.5"

_NGINX = """
master_process off; daemon off; pid {place}/nginx.pid; error_log {place}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
  keepalive_requests 100000000;
  upstream replicas {{ {servers} keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{ proxy_pass http://replicas; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""

_AIOHTTP = """
import itertools, sys
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
turns = itertools.cycle([f"http://127.0.0.1:{port}" for port in sys.argv[2:]])
async def session(app):
    app["session"] = ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None), auto_decompress=False)
    yield
    await app["session"].close()
async def passes(request):
    headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length", "connection")}
    asked = request.app["session"].request(request.method, next(turns) + request.path, data=await request.read(), headers=headers)
    async with asked as answer:
        if answer.headers.get("Transfer-Encoding") != "chunked":
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)
        stream = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})
        await stream.prepare(request)
        async for data in answer.content.iter_any():
            await stream.write(data)
        await stream.write_eof()
        return stream
app = web.Application()
app.cleanup_ctx.append(session)
app.router.add_route("*", "/{path:.*}", passes)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
"""


def nginx(place: Path, ports: Sequence[int], ahead: bool = False) -> Front:
    """A plain reverse proxy, upstream connections kept. Raises FileNotFoundError where nginx is not installed."""
    if shutil.which("nginx") is None:
        raise FileNotFoundError("nginx is not installed (apt-get install nginx-light)")
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{each};" for each in ports)
    (place / "nginx.conf").write_text(_NGINX.format(place=place, port=port, servers=servers))
    return _started([*pinned(FRONT_CORE, ahead), "nginx", "-p", str(place), "-c", str(place / "nginx.conf")], port, place)


def aiohttp_proxy(place: Path, ports: Sequence[int]) -> Front:
    """aiohttp's server in front of aiohttp's client, nothing else. Raises subprocess.CalledProcessError where it cannot be installed."""
    place.mkdir(parents=True, exist_ok=True)
    program = place / "proxy.py"
    program.write_text(_AIOHTTP)
    port = free_port()
    python = peer_python("aiohttp", [AIOHTTP])
    return _started([*pinned(FRONT_CORE), str(python), str(program), str(port), *map(str, ports)], port, place)


def litellm(place: Path, ports: Sequence[int]) -> Front:
    """LiteLLM's proxy with one worker, the same model on each replica. Raises subprocess.CalledProcessError as above."""
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    python = peer_python("litellm", [LITELLM])
    models = [
        {"model_name": "dummy", "litellm_params": {"model": "openai/dummy", "api_base": f"http://127.0.0.1:{each}/v1", "api_key": "none"}}
        for each in ports
    ]
    (place / "config.yaml").write_text(json.dumps({"model_list": models, "general_settings": {"master_key": SECRET}}))
    words = [
        "--config",
        str(place / "config.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
        "--telemetry",
        "False",
    ]
    return _started([*pinned(FRONT_CORE), str(python.with_name("litellm")), *words], port, place)


PEERS = {"nginx": nginx, "aiohttp proxy": aiohttp_proxy, "LiteLLM proxy": litellm}


def side_by_side(
    tools: Tools, home: Path, request: Path, seconds: float, rounds: int, ports: Sequence[int], without: Sequence[str] = ()
) -> tuple[dict[str, Throughput], float]:
    """Ours and each peer that can be had here at 64 connections, in turns, and our resident MiB at the end; stderr says who is missing."""
    fronts: dict[str, Front] = {"llmops-tui": OurGateway(home / "ours", ports)}
    try:
        for name, start in PEERS.items():
            if name in without:
                continue
            try:
                fronts[name] = start(home / name.split()[0], ports)
            except (FileNotFoundError, RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{name} is not measured: {error}", file=sys.stderr)
        found = {name: Throughput() for name in fronts}
        for front in fronts.values():
            warm_up(tools, front, request)
        for front in fronts.values():
            front.go_ahead()
        for _ in range(rounds):
            for name, front in fronts.items():
                found[name].measure(name, tools, front, request, 64, seconds)
        return found, fronts["llmops-tui"].rss_mib()
    finally:
        for front in fronts.values():
            front.close()


def warm_up(tools: Tools, front: Front, request: Path, seconds: float = 90) -> None:
    """Ask until 64 connections are answered as fast as they ask; LiteLLM sets up its clients with the first requests."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        told = tools.load(front.port, [request], 64, 1, 0)
        if told["answers"] > 64 and not told["unanswered"]:
            return


def ratios(found: dict[str, Throughput]) -> dict[str, float]:
    """Ours over each peer's, by the CPU second."""
    ours = found["llmops-tui"].by_core
    return {name: round(ours / peer.by_core, 3) for name, peer in found.items() if name != "llmops-tui"}


def show(found: dict[str, Throughput], what: str) -> None:
    ours = found["llmops-tui"]
    print(f"{'':16}{what + ' a CPU second':>26}{'ratio':>8}{'a second by the wall':>24}{'ratio':>8}{'CPU of its core':>18}")
    for name, each in found.items():
        by_core, by_wall = ours.by_core / each.by_core, ours.by_wall / each.by_wall
        print(
            f"{name:16}{each.by_core:>26,.0f}{by_core:>8.2f}{each.by_wall:>24,.0f}{by_wall:>8.2f}{each.cpu_seconds / each.seconds:>17.0%}"
        )


def _started(command: list[str], port: int, place: Path) -> Front:
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with (place / "output.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)
    front = Front(process, port)
    try:
        wait_until_open(process, port)
    except BaseException:
        front.close()
        raise
    return front
