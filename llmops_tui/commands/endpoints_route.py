"""`endpoints route|rollback|swap|pin|unpin|unload|wake|scale`: who answers."""

from __future__ import annotations

import argparse
from typing import Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.endpoints_start import server_options
from llmops_tui.commands.endpoints_wait import answer
from llmops_tui.commands.spec_file import apply_setting
from llmops_tui.errors import UsageError


def route(args: argparse.Namespace) -> int:
    """Other weights, shadow traffic, or ways of choosing; what is not named stays."""
    weights = named_once(args.weights, "weight") or None
    mirror = None
    if args.mirror is not None:
        shares = [share for share in args.mirror if share is not None]
        if shares and len(shares) < len(args.mirror):
            raise UsageError("--mirror none ends all shadow traffic", "leave it out, or the shares")
        mirror = named_once(shares, "share")
    fallbacks = args.fallback
    if fallbacks is not None and "none" in fallbacks:
        if len(fallbacks) > 1:
            raise UsageError("--fallback none means nobody is asked", "leave it out, or the names")
        fallbacks = []
    if weights is None and mirror is None and fallbacks is None and args.sticky is None and args.balance is None:
        raise UsageError("nothing is to be changed", "give weights (v3=95 v4=5), --mirror, --sticky, --balance or --fallback")
    client = connect(args)
    changed = client.serving.route(args.name, weights=weights, mirror=mirror, sticky=args.sticky, balance=args.balance, fallbacks=fallbacks)
    return answer(args, client, changed)


def rollback(args: argparse.Namespace) -> int:
    """Back to the version before."""
    client = connect(args)
    return answer(args, client, client.serving.rollback(args.name))


def swap(args: argparse.Namespace) -> int:
    """A new version in the place of the one that answers."""
    client = connect(args)
    return answer(args, client, client.serving.swap(args.name, args.model, serve_settings(args) or None))


def pin(args: argparse.Namespace) -> int:
    """`pin` and `unpin`."""
    client = connect(args)
    changed = client.serving.pin(args.name, args.pinned)
    return answer(args, client, changed, "pinned, never unloaded" if args.pinned else "not pinned, unloaded as its spec says")


def unload(args: argparse.Namespace) -> int:
    """`unload`: asleep until the next request."""
    client = connect(args)
    return answer(args, client, client.serving.sleep(args.name), "unloaded; the next request starts it")


def wake(args: argparse.Namespace) -> int:
    """`wake`: its servers start without a request."""
    client = connect(args)
    return answer(args, client, client.serving.wake(args.name))


def scale(args: argparse.Namespace) -> int:
    """Another number of servers."""
    client = connect(args)
    return answer(args, client, client.serving.scale(args.name, args.count, args.version), every_server=True)


def serve_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Keys of a server's spec: `--set`, over it the options. Raises UsageError."""
    serve: dict[str, Any] = {}
    for setting in args.settings:
        apply_setting(serve, setting.removeprefix("serve."))
    return {**serve, **server_options(args)}


def named_once(pairs: list[tuple[str, float]], what: str) -> dict[str, float]:
    """Pairs as a mapping. Raises UsageError where a name is given twice: the last one would win silently."""
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"{twice} is given two {what}s", "give each version one")
    return dict(pairs)
