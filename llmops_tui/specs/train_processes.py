"""How many processes train one model together, on which boxes, and what each of them holds."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from llmops_tui.specs.common import StrictModel

# Methods whose loss is the same over several processes as over one.
SHARED = ("sft", "pretrain", "dpo")

# As ssh takes it: never an option, nothing for a shell.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9_\[\]][A-Za-z0-9._:\[\]-]*")
_ADDRESS = re.compile(r"(?:(?P<plain>[A-Za-z0-9][A-Za-z0-9.-]*)|\[(?P<six>[0-9A-Fa-f:.]+)\])(?::(?P<port>\d{1,5}))?")


def _host(name: str) -> str:
    if name.startswith("-") or not _HOST.fullmatch(name):
        raise ValueError(f"{name!r} is no box; name it as in `ssh BOX`")
    return name


def _address(text: str) -> str:
    if text:
        split_address(text)
    return text


def split_address(text: str) -> tuple[str, int]:
    """`10.0.0.1:29500` as name and port; port 0 where none is named. Raises ValueError for anything else."""
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or 0) if match else 0
    if match is None or port > 65_535:
        raise ValueError(f"{text!r} is no address; write 10.0.0.1, or 10.0.0.1:29500 for a port of your choice ([…] around IPv6)")
    return match["plain"] or match["six"], port


class ProcessesChoice(StrictModel):
    """Each learns from its share of every update; gradients are averaged."""

    count: int = Field(
        1, ge=1, le=64, description="Processes on each box, a GPU each; an update learns from all of them x micro_batch x accumulation rows"
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="ddp: each holds the whole model; fsdp: each holds a part of its weights, gradients and optimizer state"
    )
    hosts: list[Annotated[str, AfterValidator(_host)]] = Field(
        default_factory=list, max_length=63, description="Further boxes, as in `ssh BOX`, with `count` processes each; none: this box alone"
    )
    address: Annotated[str, AfterValidator(_address)] = Field(
        "", description="Where the other boxes reach this one, with or without a port; empty: as ssh reaches them from here"
    )

    @property
    def boxes(self) -> int:
        """This one and the others."""
        return 1 + len(self.hosts)

    @property
    def total(self) -> int:
        """Processes on all boxes."""
        return self.count * self.boxes


def objection_to_processes(choice: ProcessesChoice, method: str, adaptation: str, scratch: bool, gpus: int | str) -> str:
    """Why that many processes cannot do what is asked; empty where they can."""
    if choice.address and not choice.hosts:
        return "processes.address: is for the boxes of processes.hosts to come to, and none is named"
    if len(set(choice.hosts)) < len(choice.hosts):
        twice = next(host for host in choice.hosts if choice.hosts.count(host) > 1)
        return f"processes.hosts: names {twice} twice; raise processes.count for more processes on each box"
    if choice.total == 1 and isinstance(gpus, int) and gpus > 1:
        several = f"; set processes.count={gpus} for a process on each" if method in SHARED and not scratch else ""
        return f"resources.gpus: one process trains on one GPU, and it says {gpus}{several}"
    if choice.total == 1:
        return "processes.strategy: fsdp cuts a model over several processes; raise processes.count" if choice.strategy == "fsdp" else ""
    field = "processes.count" if choice.count > 1 else "processes.hosts"
    if method not in SHARED:
        return f"{field}: {method} trains in one process; several do {', '.join(SHARED)}"
    if scratch:
        return f"{field}: a model from scratch begins in one process; train the result further with several"
    if choice.strategy == "fsdp" and adaptation == "qlora":
        return "processes.strategy: 4-bit weights cannot be cut over processes; use ddp, or adaptation=lora"
    if gpus not in (0, choice.count):
        return f"resources.gpus: {choice.count} processes take {choice.count} GPUs, or 0 to train on the CPU, and it says {gpus}"
    return ""
