"""`runs estimate`: what a training run will take here, before it is started."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.money import cost, energy
from llmops_tui.commands.output import MISSING, duration, number, print_fields, print_json, size
from llmops_tui.commands.spec_file import build_spec

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EstimateAnswer, RunDetail

_FITS = {"yes": "yes", "maybe": "maybe: the upper bound does not", "no": "no", "unknown": "not known: the device does not tell its memory"}


def estimate(args: argparse.Namespace) -> int:
    """Each figure with its band and basis. Raises UsageError, NotFoundError (no such model)."""
    client = connect(args)
    found = client.estimate(build_spec("train", args.file, args.settings, None, None))
    if args.json:
        print_json(found)
    else:
        print_fields(fields(found, client.status()["currency"]))
    return 0


def fields(found: EstimateAnswer, currency: str) -> list[tuple[str, str]]:
    """The answer in words."""
    capacity = f", of {size(found['capacity_bytes'])}" if found["capacity_bytes"] is not None else ""
    time = MISSING
    if found["seconds"] is not None:
        time = f"{duration(found['seconds'])} ({duration(found['seconds_low'])} to {duration(found['seconds_high'])})"
    # In the order of their size: what to save on first.
    parts = sorted(found["parts"].items(), key=lambda part: -part[1])
    return [
        ("device", f"{found['device']}: {found['device_name']}"),
        ("parameters", f"{number(found['parameters'])}, of which {number(found['trainable'])} are trained ({found['adaptation']})"),
        ("memory", f"{size(found['memory_bytes'])} ({size(found['memory_low'])} to {size(found['memory_high'])})"),
        *((f"  {name}", size(held)) for name, held in parts),
        ("fits", _FITS.get(found["fits"], found["fits"]) + capacity),
        ("largest micro_batch", _largest(found["largest_micro_batch"])),
        ("largest max_length", _largest(found["largest_max_length"])),
        ("checkpointing", "on" if found["checkpointing"] else "off"),
        ("time", time),
        ("steps", number(found["steps"])),
        ("tokens", number(found["tokens"])),
        ("energy", "" if found["energy_joules"] is None else energy(found["energy_joules"])),
        ("cost", "" if found["cost"] is None else cost(found["cost"], currency)),
        ("disk", size(found["disk_bytes"])),
        ("basis", found["basis"]),
    ]


def kept(detail: RunDetail) -> list[tuple[str, str]]:
    """A run's prediction beside what it took, for `runs show`; empty where nothing was predicted."""
    predicted, measured = detail["predicted"], detail["measured"]
    if predicted is None:
        return []
    memory = f"{size(predicted['memory_bytes'])} ({size(predicted['memory_low'])} to {size(predicted['memory_high'])}) predicted"
    time = f"{duration(predicted['seconds'])} predicted" if predicted["seconds"] is not None else ""
    if measured is not None and measured["memory_bytes"] is not None:
        memory += f", {size(measured['memory_bytes'])} measured"
    if measured is not None and measured["seconds"] is not None:
        time += f"{', ' if time else ''}{duration(measured['seconds'])} of training measured"
    return [("memory", memory), ("time", time)]


def _largest(count: int | None) -> str:
    return MISSING if count is None else "none fits" if count == 0 else number(count)
