"""`runtimes list|check|install`: the serving engines and quantizers of this box."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import MISSING, one_line, print_json, print_table, say
from llmops_tui.errors import LlmopsError

if TYPE_CHECKING:
    from llmops_tui.specs.answers_requests import RuntimeInfo


def list_runtimes(args: argparse.Namespace) -> int:
    """Which there are and where they lie; nothing is run to find out."""
    found = connect(args).serving.runtimes()
    if args.json:
        print_json(found)
        return 0
    rows = [
        [runtime["name"], runtime["version"] or MISSING, runtime["source"] or "not installed", runtime["purpose"],
         runtime["python"] or runtime["told"]]
        for runtime in found
    ]  # fmt: skip
    print_table(["NAME", "VERSION", "FROM", "FOR", "WHERE"], rows)
    return 0


def check(args: argparse.Namespace) -> int:
    """Ask each what it is and can; exit code 1 where one cannot work."""
    serving = connect(args).serving
    names = list(dict.fromkeys(args.name)) or [runtime["name"] for runtime in serving.runtimes() if runtime["source"]]
    if not names:
        raise LlmopsError("no runtime is installed", "see `llmops-tui runtimes list`, then `llmops-tui runtimes install NAME`")
    checked: list[RuntimeInfo] = []
    for name in names:
        checked.append(serving.check_runtime(name))
        if not args.json:
            print(one_line(verdict(checked[-1])), flush=True)
    if args.json:
        print_json(checked)
    return 1 if any(runtime["problem"] for runtime in checked) else 0


def install(args: argparse.Namespace) -> int:
    """A supervised run makes the environment; followed to its end unless `--no-wait`."""
    client = connect(args)
    run = client.serving.install_runtime(args.name, args.wheels)
    if args.no_wait:
        if args.json:
            print_json(run)
        else:
            print(run["id"])
        return 0
    from llmops_tui.commands.follow import follow, follow_json

    if args.json:
        return follow_json(client, run["id"])
    say(f"{run['id']} makes the environment of {args.name}")
    return follow(client, run["id"])


def verdict(runtime: RuntimeInfo) -> str:
    """`llamacpp 0.2.4: works, on GPU (NVIDIA H100)`, or what is wrong with it."""
    head = f"{runtime['name']} {runtime['version']}".strip()
    if runtime["problem"]:
        return f"{head}: {runtime['problem']}"
    if not runtime["source"]:
        return f"{head}: not installed; `llmops-tui runtimes install {runtime['name']}`"
    devices = f" ({', '.join(runtime['devices'])})" if runtime["devices"] else ""
    where = f"on GPU{devices}" if runtime["gpu"] else "on the CPU"
    return f"{head}: works, {where}" + (f"; {runtime['warning']}" if runtime["warning"] else "")
