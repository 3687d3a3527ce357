"""`endpoints keys list|create|revoke` and `endpoints gateway`: the door and who may come in."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import MISSING, ago, duration, number, one_line, print_fields, print_json, print_table, say, size

if TYPE_CHECKING:
    from llmops_tui.specs.answers_serving import GatewayInfo, KeyInfo


def list_keys(args: argparse.Namespace) -> int:
    """Every key without its secret."""
    keys = connect(args).serving.keys()
    if args.json:
        print_json(keys)
        return 0
    if not keys:
        say("no keys; `llmops-tui endpoints keys create NAME` makes one")
        return 0
    rows = [
        [key["id"], key["name"], "revoked" if key["revoked"] else "open", ", ".join(key["endpoints"]), limits_text(key),
         key["owner"], ago(key["created_at"])]
        for key in keys
    ]  # fmt: skip
    print_table(["ID", "NAME", "STATE", "ENDPOINTS", "LIMITS", "OWNER", "CREATED"], rows)
    return 0


def create(args: argparse.Namespace) -> int:
    """The secret on stdout, alone, and what it opens on stderr."""
    made = connect(args).serving.create_key(
        args.name,
        endpoints=args.endpoint or ["*"],
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        tokens_per_day=args.tokens_per_day,
        concurrent=args.concurrent,
    )
    if args.json:
        print_json(made)
        return 0
    print(made["secret"])
    opened = "every endpoint" if made["endpoints"] == ["*"] else ", ".join(made["endpoints"])
    say(f"{made['id']} opens {one_line(opened)} ({limits_text(made)}); this is the only time that its secret is shown")
    return 0


def revoke(args: argparse.Namespace) -> int:
    """From the next request on it opens nothing."""
    gone = connect(args).serving.revoke_key(args.id)
    if args.json:
        print_json(gone)
    else:
        print(one_line(f"{gone['id']} ({gone['name']}) is revoked"))
    return 0


def gateway(args: argparse.Namespace) -> int:
    """The process in front of all endpoints; exit code 1 where one is needed and none runs."""
    found = connect(args).serving.gateway()
    if args.json:
        print_json(found)
    else:
        print_fields(gateway_facts(found))
        for warning in found["warnings"]:
            say(f"llmops-tui: warning: {one_line(warning)}")
    return 1 if found["state"] == "failed" else 0


def gateway_facts(found: GatewayInfo) -> list[tuple[str, str]]:
    """As `(name, words)`."""
    state = {"off": "off: no endpoint needs it"}.get(found["state"], found["state"])
    return [
        ("gateway", state + (f": {one_line(found['problem'])}" if found["problem"] else "")),
        ("address", found["url"]),
        ("keys", "needed" if found["auth"] == "keys" else "not needed: only this box reaches it"),
        ("pid", str(found["pid"] or "")),
        ("since", f"{duration(found['uptime_seconds'])}" if found["uptime_seconds"] is not None else ""),
        ("memory", size(found["rss_bytes"]) if found["rss_bytes"] else ""),
        ("connections", number(found["connections"]) if found["connections"] is not None else ""),
        ("in flight", number(found["in_flight"]) if found["in_flight"] is not None else ""),
        ("requests", number(found["requests_total"]) if found["requests_total"] is not None else ""),
        ("configuration", f"revision {found['revision']}" if found["revision"] else MISSING),
    ]


def limits_text(key: KeyInfo) -> str:
    """`60 requests/min, 100,000 tokens/day`; `no limits` without any."""
    limits = (
        (key["requests_per_minute"], "requests/min"),
        (key["tokens_per_minute"], "tokens/min"),
        (key["tokens_per_day"], "tokens/day"),
        (key["concurrent"], "at a time"),
    )
    return ", ".join(f"{value:,.10g} {unit}" for value, unit in limits if value) or "no limits"
