"""`endpoints version add|remove` and `endpoints adapter add|remove`: candidates beside what answers."""

from __future__ import annotations

import argparse
from typing import Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.endpoints_route import serve_settings
from llmops_tui.commands.endpoints_wait import answer
from llmops_tui.commands.output import say
from llmops_tui.errors import UsageError


def add_version(args: argparse.Namespace) -> int:
    """A version without requests yet."""
    if bool(args.model) == bool(args.provider):
        raise UsageError("name a model or a provider, one of them", "see `llmops-tui endpoints version add --help`")
    serve = serve_settings(args)
    if args.provider and serve:
        raise UsageError("a provider has no servers of ours to set up", f"leave out {', '.join(serve)}")
    version: dict[str, Any] = {"name": args.called, "replicas": args.replicas}
    version |= {"provider": args.provider} if args.provider else {"model": args.model, "serve": serve}
    client = connect(args)
    changed = client.serving.add_version(args.name, version)
    name = changed["versions"][-1]["name"]
    code = answer(args, client, changed, f"{name} is added, without requests yet")
    if not args.json:
        say(f"`llmops-tui endpoints route {changed['name']} …` gives it some")
    return code


def add_adapter(args: argparse.Namespace) -> int:
    """An adapter on servers that go on answering."""
    client = connect(args)
    changed = client.serving.add_adapter(args.name, args.adapter, args.model, args.version)
    code = answer(args, client, changed, f"{args.adapter} is loaded on the servers")
    if not args.json:
        say(f"requests name it {changed['name']}:{args.adapter}; `llmops-tui endpoints route` gives it a share of all")
    return code


def remove_version(args: argparse.Namespace) -> int:
    """A version or an adapter that gets no requests."""
    client = connect(args)
    return answer(args, client, client.serving.remove_version(args.name, args.version), f"{args.version} is removed")
