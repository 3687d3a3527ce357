"""Waiting until what was wished of an endpoint holds, saying meanwhile what goes on."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from llmops_tui.commands.endpoints import pending_text, shares
from llmops_tui.commands.follow import ProgressLine
from llmops_tui.commands.output import duration, one_line, print_json, say
from llmops_tui.errors import EngineUnavailableError, LlmopsError

if TYPE_CHECKING:
    from llmops_tui.client import Client
    from llmops_tui.specs.answers_serving import EndpointSummary

_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 30.0


def settle(client: Client, endpoint: EndpointSummary, *, every_server: bool = False) -> EndpointSummary:
    """Wait until nothing is under way and the endpoint answers (or sleeps until it is asked); progress on stderr.

    `every_server`: until each server that is wished for answers, where otherwise one a version is enough.

    Raises LlmopsError where it cannot: a version is broken, the change was given up, the gateway does not run.
    Ctrl-C leaves the endpoint alone.
    """
    line, began, waited = ProgressLine(), time.monotonic(), False
    asked, name = endpoint["pending"], endpoint["name"]
    try:
        while True:
            said = outcome(endpoint, client)
            if said or (said == "" and not (every_server and endpoint["state"] == "degraded")):
                break
            waited = True
            spent = f" ({duration(time.monotonic() - began)})" if sys.stderr.isatty() else ""
            line.show(f"{name} {progress(endpoint)}{spent}")
            time.sleep(_POLL_SECONDS)
            endpoint = _again(client, name, line)
    except KeyboardInterrupt:
        line.end()
        say(f"{name} goes on; `llmops-tui endpoints show {name}` tells how far it is")
        raise
    finally:
        line.end()
    if said:
        raise LlmopsError(said, _next_step(endpoint))
    if asked is not None and any(version["weight"] <= 0 for version in endpoint["versions"] if version["name"] in asked["weights"]):
        last = client.serving.endpoint(name)["history"][-1]
        raise LlmopsError(f"{name}: {last['what']}", f"the route is as it was: {shares(endpoint)}")
    if waited:
        say(f"{name} {endpoint['state']} in {time.monotonic() - began:.1f} s")
    return endpoint


def outcome(endpoint: EndpointSummary, client: Client) -> str | None:
    """None while it is under way; else what is wrong, empty when it is well."""
    name = endpoint["name"]
    if endpoint["state"] == "broken":
        return f"{name} does not answer: {endpoint['reason']}"
    if pending := endpoint["pending"]:
        broken = [version for version in endpoint["versions"] if version["name"] in pending["weights"] and version["state"] == "broken"]
        return f"{name}: {broken[0]['name']} does not start: {broken[0]['reason']}" if broken else None
    if endpoint["state"] == "starting":
        return None
    gateway = client.serving.gateway()
    if gateway["state"] == "failed":
        return gateway["problem"]
    return "" if gateway["state"] == "running" else None


def progress(endpoint: EndpointSummary) -> str:
    """What goes on, in a few words: `starting: v1 loads with llamacpp on port 9001`."""
    moving = [server for server in endpoint["replicas"] if server["state"] in ("waiting", "starting")]
    words = [
        f"{server['version']} {'waits' if server['state'] == 'waiting' else 'loads'}"
        + (f" with {server['runtime']}" if server["runtime"] else "")
        + (f" on port {server['port']}" if server["port"] else "")
        + (f": {server['cause']}" if server["cause"] else "")
        for server in moving
    ]
    head = pending_text(endpoint) or endpoint["state"]
    told = ", ".join(words) or endpoint["reason"]
    return one_line(f"{head}: {told}" if told else head)


def answer(args: argparse.Namespace, client: Client, endpoint: EndpointSummary, done: str = "", *, every_server: bool = False) -> int:
    """Wait unless `--no-wait` says otherwise, then print the endpoint: `done`, else its route, in a line."""
    if not getattr(args, "no_wait", True):
        endpoint = settle(client, endpoint, every_server=every_server)
    if args.json:
        print_json(endpoint)
        return 0
    print(one_line(f"{endpoint['name']} {endpoint['state']}: {pending_text(endpoint) or done or shares(endpoint)}"))
    return 0


def _again(client: Client, name: str, line: ProgressLine) -> EndpointSummary:
    """The endpoint now; a restart of the engine is waited out. Raises EngineUnavailableError when it stays away, NotFoundError."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return client.serving.endpoint(name)
        except EngineUnavailableError:
            if time.monotonic() > until:
                raise
            line.note("the engine is gone, the endpoint is not; connecting again …")
            time.sleep(_POLL_SECONDS)
            client.ensure_engine()


def _next_step(endpoint: EndpointSummary) -> str:
    run = next((server["run"] for server in reversed(endpoint["replicas"]) if server["run"] and server["state"] == "ended"), "")
    log = f"`llmops-tui runs logs {run} --tail 40` says more, " if run else ""
    verb = "rollback" if endpoint["pending"] else "stop"
    return f"{log}`llmops-tui endpoints {verb} {endpoint['name']}` gives it up"
