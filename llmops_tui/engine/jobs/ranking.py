"""Which of several processes that train together this one is (jobs/ranks.py starts them). torch is imported only among several."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from llmops_tui.engine.jobs.event_writer import END_DESCRIPTOR

Told = TypeVar("Told")


def count() -> int:
    """How many processes train together."""
    return int(os.environ["WORLD_SIZE"]) if END_DESCRIPTOR in os.environ else 1


def number() -> int:
    """This process among them, from 0; the first one speaks and writes for all."""
    return int(os.environ["RANK"]) if END_DESCRIPTOR in os.environ else 0


def number_here() -> int:
    """This process among those of its box, whose GPUs are numbered alike."""
    return int(os.environ["LOCAL_RANK"]) if END_DESCRIPTOR in os.environ else 0


def only_the_first_speaks() -> None:
    """The log has each line once; what goes wrong in another rank is on stderr still."""
    if number() != 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process


def wait_for_all() -> None:
    """A collective call: nobody goes on before all are here; one alone does nothing."""
    if count() > 1:
        import torch.distributed

        torch.distributed.barrier()


def from_the_first(value: Told) -> Told:
    """A collective call: what the first rank has, so that all decide alike."""
    if count() == 1:
        return value
    import torch.distributed

    told: list[Any] = [value]
    torch.distributed.broadcast_object_list(told, src=0)
    result: Told = told[0]
    return result


def at_the_first(value: Told) -> list[Told]:
    """A collective call: what each rank has, in their order, at the first one; an empty list at the others."""
    if count() == 1:
        return [value]
    import torch.distributed

    found: list[Any] | None = [None] * count() if number() == 0 else None
    torch.distributed.gather_object(value, found, dst=0)
    return found or []


def taken_from_the_first(parameters: Iterable[Any]) -> None:
    """A collective call: these tensors, in place, as the first rank has them."""
    import torch.distributed

    for parameter in parameters:
        torch.distributed.broadcast(parameter.data, src=0)


def summed(values: Sequence[int], device: Any) -> list[int]:
    """A collective call: each number added up over all ranks."""
    if count() == 1:
        return list(values)
    import torch.distributed

    sums = torch.tensor(list(values), dtype=torch.int64, device=device)
    torch.distributed.all_reduce(sums)
    return [int(value) for value in sums]
