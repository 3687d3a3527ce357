"""`engine start|stop|status|backup|notify-test|ranks|service install`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from llmops_tui.client import Client
from llmops_tui.client_transport import is_read_only
from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import ago, one_line, print_fields, print_json, print_table, say
from llmops_tui.errors import ConflictError, EngineUnavailableError, PermissionDeniedError, UsageError
from llmops_tui.paths import SHARED_HOME, find_home

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EngineInfo


def start(args: argparse.Namespace) -> int:
    """Start the daemon, or become it with `--foreground`."""
    home = find_home(args.home)
    if args.shared and not home.explicit and os.geteuid() == 0:
        home = find_home(SHARED_HOME)  # root's own state directory is closed to everybody
    options = ["--shared"] * args.shared + ["--group", args.group] * bool(args.group) + ["--read-only"] * args.read_only
    if args.group and not args.shared:
        raise UsageError("--group names whom a shared engine serves", "add --shared")
    if args.foreground:
        # The daemon's code is never imported here: this process turns into it, so that signals and the exit code are its own.
        command = [sys.executable, "-P", "-m", "llmops_tui.engine.daemon", "--home", str(home.root), "--config", str(home.config)]
        sys.stdout.flush()
        os.execv(sys.executable, [*command, *options])
    client = Client(home)
    info = client.start_engine(options)
    other = args.shared != info["shared"] if args.shared else False
    if other or (args.group and args.group != info["group"]) or (args.read_only and not info["you"]["read_only"]):
        raise ConflictError(
            f"the engine of {info['home']} already runs, {_sharing(info)}", "stop it first: `llmops-tui engine stop`; running jobs go on"
        )
    _print_engine(client, info, args.json)
    return 0


def ranks(args: argparse.Namespace) -> int:
    """Turn into the ranks of another box's run, which is told on standard input. Raises PermissionDeniedError for who only looks."""
    if is_read_only():
        raise PermissionDeniedError("this box only looks: LLMOPS_READ_ONLY is set", "unset it, or leave the box out of processes.hosts")
    home = find_home(args.home)
    if home.explicit:
        os.environ["LLMOPS_HOME"] = str(home.root)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "llmops_tui.engine.jobs.ranks_for_other"])


def stop(args: argparse.Namespace) -> int:
    """Stop the daemon; nothing to stop is no error."""
    client = Client(find_home(args.home))
    try:
        running = client.status()["running"]
        done = client.stop_engine()
    except EngineUnavailableError as error:
        if client.answers():
            raise
        say(f"{error.message}: nothing to stop")
        return 0
    if args.json:
        print_json(done)
    else:
        print(done["done"])
        if running:
            say(f"{len(running)} running: {', '.join(run['id'] for run in running)}; they go on, the next start adopts them")
    return 0


def status(args: argparse.Namespace) -> int:
    """Say whether the daemon runs, without starting it. Raises EngineUnavailableError (exit code 1) when it does not."""
    client = Client(find_home(args.home))
    _print_engine(client, client.engine(timeout=5.0), args.json)
    return 0


def backup(args: argparse.Namespace) -> int:
    """Copy the database; nothing is overwritten."""
    done = connect(args).backup(args.path)
    if args.json:
        print_json(done)
    else:
        print(done["done"])
    return 0


def notify_test(args: argparse.Namespace) -> int:
    """Say of each way whether it arrived; exit code 1 where one did not."""
    test = connect(args).notify_test()
    if args.json:
        print_json(test)
    else:
        rows = [
            [result["channel"], result["target"], "delivered" if result["delivered"] else "failed", f"{result['seconds']:.1f} s",
             result["reason"]]
            for result in test["results"]
        ]  # fmt: skip
        print_table(["WAY", "TO", "RESULT", "TOOK", "WHY"], rows, right=[3])
    return 0 if all(result["delivered"] for result in test["results"]) else 1


def install_service(args: argparse.Namespace) -> int:
    """Write the systemd user unit (in the engine's own program: it knows its command line)."""
    command = [sys.executable, "-P", "-m", "llmops_tui.engine.service"]
    command += ["--home", args.home] if args.home else []
    command += ["--print"] if args.print_only else []
    return subprocess.run(command, check=False).returncode


def _sharing(info: EngineInfo) -> str:
    served = f"shared with the group {info['group']}" if info["shared"] else "private"
    return served + (", read-only" if info["you"]["read_only"] else "")


def _print_engine(client: Client, info: EngineInfo, as_json: bool) -> None:
    if as_json:
        print_json({**info, "socket": str(client.socket)})  # where a console on another box has ssh forward to
        return
    print_fields(
        [
            ("engine", f"running, version {info['version']}, pid {info['pid']}, started {ago(info['started_at'])}"),
            ("home", info["home"]),
            ("serves", _sharing(info) if info["shared"] or info["you"]["read_only"] else ""),
            ("you", f"{info['you']['user']}, {info['you']['role']}" if info["shared"] else ""),
            ("ingest", info["ingest"]),
            *(("warning", one_line(warning)) for warning in info["warnings"]),
        ]
    )
