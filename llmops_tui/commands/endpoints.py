"""`endpoints list|show|stop`: what is served."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.output import MISSING, ago, coloured, duration, number, one_line, print_fields, print_json, print_table, say
from llmops_tui.errors import LlmopsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmops_tui.specs.answers_serving import EndpointDetail, EndpointSummary, VersionState

_STATE_COLOURS = {"ready": "32", "remote": "32", "starting": "36", "degraded": "33", "asleep": "36", "cold": "36", "broken": "31"}


def list_endpoints(args: argparse.Namespace) -> int:
    """Every endpoint with the shares its versions have now."""
    endpoints = connect(args).serving.endpoints()
    if args.json:
        print_json(endpoints)
        return 0
    if not endpoints:
        say("no endpoints; `llmops-tui endpoints start MODEL` serves one")
        return 0
    rows = [
        [
            endpoint["name"], endpoint["state"], shares(endpoint), servers_text(endpoint),
            ago(endpoint["last_used"]) if endpoint["last_used"] else MISSING, pending_text(endpoint) or endpoint["reason"],
        ]
        for endpoint in endpoints
    ]  # fmt: skip
    print_table(["NAME", "STATE", "ROUTE", "SERVERS", "LAST USED", "REASON"], rows)
    return 0


def show(args: argparse.Namespace) -> int:
    """One endpoint: facts, versions, servers, history, and a request to copy."""
    endpoint = connect(args).serving.endpoint(args.name)
    if args.json:
        print_json(endpoint)
        return 0
    print_fields(facts_of(endpoint))
    print("\nversions")
    print_table(
        ["VERSION", "STATE", "SHARE", "WEIGHT", "MIRROR", "SERVERS", "IN FLIGHT", "REQUESTS", "ERRORS", "MODEL", "REASON"],
        [version_row(version) for version in endpoint["versions"]],
        right=range(2, 9),
    )
    if endpoint["replicas"]:
        print("\nservers")
        rows = [
            [
                server["run"], server["version"], server["state"], server["runtime"], f"{server['host']}:{server['port'] or MISSING}",
                f"{server['slots']} x {server['context']:,}", str(server["outstanding"]), ago(server["started_at"]), server["cause"],
            ]
            for server in endpoint["replicas"]
        ]  # fmt: skip
        print_table(["RUN", "VERSION", "STATE", "RUNTIME", "ADDRESS", "SLOTS", "OUTSTANDING", "SINCE", "CAUSE"], rows, right=[6])
    print("\nhistory")
    now = time.time()
    history = [
        [clock(change["t"], now), change["by"], change["what"], f"{weights_text(change['before'])} -> {weights_text(change['after'])}"]
        for change in endpoint["history"][-10:]
    ]
    print_table(["WHEN", "BY", "WHAT", "WEIGHTS"], history)
    print(f"\n{endpoint['curl']}")
    return 0


def stop(args: argparse.Namespace) -> int:
    """After one question; `--yes` answers it, and without a terminal it has to."""
    serving = connect(args).serving
    name = serving.endpoint(args.name)["name"]
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"stopping {name} needs an answer and there is no terminal", "use --yes")
        sys.stderr.write(f"stop {name}? Requests for it are refused from then on. [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise LlmopsError(f"{name} goes on", "answer y, or use --yes")
    done = serving.stop(name)
    if args.json:
        print_json(done)
    else:
        print(one_line(done["done"]))
    return 0


def facts_of(endpoint: EndpointDetail) -> list[tuple[str, str]]:
    """What stands above the tables, as `(name, words)`."""
    unload = f"after {duration(endpoint['idle_unload_seconds'])} without a request" if endpoint["idle_unload_seconds"] else ""
    state = coloured(endpoint["state"], _STATE_COLOURS.get(endpoint["state"], ""))
    previous = endpoint["previous"]
    return [
        ("endpoint", endpoint["name"]),
        ("aliases", ", ".join(endpoint["aliases"])),
        ("state", state + (f": {one_line(endpoint['reason'])}" if endpoint["reason"] else "")),
        ("under way", pending_text(endpoint)),
        ("address", f"{endpoint['url']}  (model: {endpoint['name']})"),
        ("route", shares(endpoint)),
        ("rollback to", weights_text(previous) if previous else ""),
        ("sticky", endpoint["sticky"] if endpoint["sticky"] != "none" else ""),
        ("balance", endpoint["balance"]),
        ("fallbacks", ", ".join(endpoint["fallbacks"])),
        ("unload", "never: it is pinned" if endpoint["pinned"] else unload),
        ("on demand", "started by the first request" if endpoint["on_demand"] else ""),
        ("last used", ago(endpoint["last_used"]) if endpoint["last_used"] else "not yet"),
        ("owner", endpoint["owner"]),
        ("started", ago(endpoint["created_at"])),
    ]


def version_row(version: VersionState) -> list[str]:
    """One line of the table of versions."""
    weight = number(version["weight"]) + (f" -> {number(target)}" if (target := version["target_weight"]) is not None else "")
    model = version["model"] or f"provider {version['provider']}"
    own = f"on {version['adapter_of']}" if version["adapter_of"] else f"{version['ready']}/{version['replicas']}"
    warm = f"warm until {clock(version['warm_until'], time.time())}" if version["warm_until"] else ""
    return [
        version["name"], version["state"], f"{version['share']:.0%}" if version["share"] else MISSING, weight,
        f"{version['mirror']:.0%}" if version["mirror"] else MISSING,
MISSING if version["provider"] else own,
        str(version["in_flight"]), str(version["requests"]), str(version["errors"]), model, version["reason"] or warm,
    ]  # fmt: skip


def shares(endpoint: EndpointSummary) -> str:
    """`v3 95% v4 5%, mirror v4 10%`."""
    told = " ".join(f"{version['name']} {version['share']:.3g}%" for version in _percents(endpoint) if version["share"] > 0)
    mirrors = " ".join(f"{version['name']} {version['mirror']:.3g}%" for version in _percents(endpoint) if version["mirror"] > 0)
    return ", ".join(part for part in (told or MISSING, f"mirror {mirrors}" if mirrors else "") if part)


def servers_text(endpoint: EndpointSummary) -> str:
    """`2/2`: servers that answer, of those wished for the versions with requests."""
    own = [version for version in endpoint["versions"] if not version["provider"] and not version["adapter_of"]]
    wished = sum(version["replicas"] for version in own if version["weight"] > 0)
    ready = sum(version["ready"] for version in own if version["weight"] > 0)
    if not own:
        return "remote"
    return f"{ready}/{wished}"


def pending_text(endpoint: EndpointSummary) -> str:
    """`swap to v4 since 12s`, empty where nothing is under way."""
    pending = endpoint["pending"]
    return f"{pending['what']} to {weights_text(pending['weights'])} since {duration(time.time() - pending['since'])}" if pending else ""


def weights_text(weights: Mapping[str, float] | None) -> str:
    """`v3=95 v4=5`."""
    return " ".join(f"{name}={weight:g}" for name, weight in (weights or {}).items()) or "nothing"


def _percents(endpoint: EndpointSummary) -> list[VersionState]:
    return [{**version, "share": version["share"] * 100, "mirror": version["mirror"] * 100} for version in endpoint["versions"]]
