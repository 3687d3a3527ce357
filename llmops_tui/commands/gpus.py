"""`gpus`: every GPU, its readings, who holds it since when, and whose processes are on it."""

from __future__ import annotations

import argparse
import time

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import duration, number, percent, print_json, print_table, size
from llmops_tui.commands.status import gpu_words


def gpus(args: argparse.Namespace) -> int:
    """Print each GPU's newest sample, or how it was at the moment asked for; a box without one is no error."""
    client = connect(args)
    samples = client.gpus() if args.at is None else client.at(args.at)["gpus"]
    if args.json:
        print_json(samples)
        return 0
    if not samples:
        print("no GPU found; runs take CPU slots (`llmops-tui doctor` says what was looked for)")
        return 0
    rows = [
        [
            str(gpu["index"]), gpu["name"], gpu["health"], percent(gpu["utilisation"]),
            f"{size(gpu['memory_used_bytes'])} / {size(gpu['memory_total_bytes'])}",
            f"{number(gpu['power_watts'])} / {number(gpu['power_limit_watts'])} W",
            number(gpu["temperature_celsius"]), ", ".join(gpu["held_by"]) or "-",
            ", ".join(
                [gpu["reason"]] * bool(gpu["reason"]) + gpu_words(gpu) + gpu["throttle_reasons"] + [f"Xid {xid}" for xid in gpu["xid"]]
            ),
        ]
        for gpu in samples
    ]  # fmt: skip
    print_table(["GPU", "NAME", "HEALTH", "USE", "MEMORY", "POWER", "°C", "HELD BY", "NOTES"], rows, right=[3, 4, 5, 6])
    now = args.at or time.time()
    holders = [
        [str(gpu["index"]), holder["run"], holder["owner"], duration(now - holder["since"])] for gpu in samples for holder in gpu["holders"]
    ]
    if holders:
        print()
        print_table(["GPU", "HELD BY", "OWNER", "FOR"], holders, right=[3])
    processes = [
        [str(gpu["index"]), str(process["pid"]), size(process["memory_bytes"]), process["run"] or f"foreign ({process['owner']})",
         process["command"][:60]]
        for gpu in samples
        for process in gpu["processes"]
    ]  # fmt: skip
    if processes:
        print()
        print_table(["GPU", "PID", "MEMORY", "RUN", "COMMAND"], processes, right=[1, 2])
    return 0
