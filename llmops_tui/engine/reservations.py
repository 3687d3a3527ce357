"""GPUs that people keep for themselves until a moment: reservations.json in the state directory, durable, ending by themselves.

Belongs to the event loop's thread. A reservation stops nothing that runs: the queue only gives the GPU to nobody else's run.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from llmops_tui.data.durable import read_json, write_json
from llmops_tui.engine.people import Person
from llmops_tui.errors import ConflictError, InsufficientResourcesError, NotFoundError, UsageError
from llmops_tui.specs.answers import GpuSample, Reservation, ReservedBy

LONGEST_SECONDS = 30 * 86400.0
# All of them are looked through for every GPU at every sample.
_MOST_OF_ONE = 50
log = logging.getLogger(__name__)


class ReservationBook:
    """Those in force and, until somebody looked, those that ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[Reservation] = _load(path)
        self._lock = asyncio.Lock()

    def current(self) -> list[Reservation]:
        """What is in force, the one that ends first before the others."""
        now = time.time()
        return sorted((kept for kept in self._kept if kept["until"] > now), key=lambda kept: (kept["until"], kept["id"]))

    def on(self, uuid: str) -> ReservedBy | None:
        """Who has this GPU, if anybody."""
        for kept in self.current():
            if uuid in kept["gpus"]:
                return ReservedBy(owner=kept["owner"], until=kept["until"], note=kept["note"])
        return None

    def closed_to(self, uid: int) -> dict[str, str]:
        """The GPUs that a run of this user may not have now, and why."""
        return {
            uuid: f"reserved by {kept['owner']} until {_clock(kept['until'])}" + (f": {kept['note']}" if kept["note"] else "")
            for kept in self.current()
            if kept["uid"] != uid
            for uuid in kept["gpus"]
        }

    def owner(self, identity: str) -> tuple[str, int] | None:
        return next(((kept["owner"], kept["uid"]) for kept in self.current() if kept["id"] == identity), None)

    async def reserve(
        self, person: Person, wanted: Sequence[int | str], seconds: float, note: str, gpus: Sequence[GpuSample]
    ) -> Reservation:
        """Keep GPUs, named by index or UUID. Durable when this returns.

        Raises NotFoundError (no such GPU), ConflictError (another has it, or one has too many), InsufficientResourcesError (full disk).
        """
        uuids = [_uuid_of(name, gpus) for name in dict.fromkeys(wanted)]
        if not uuids:
            raise UsageError("no GPU is named", "name them by index: 0,1", [{"field": "gpus", "message": "is empty"}])
        async with self._lock:
            for kept in self.current():
                taken = [uuid for uuid in uuids if uuid in kept["gpus"]]
                if taken and kept["uid"] != person.uid:
                    numbers = ", ".join(_index_of(uuid, gpus) for uuid in taken)
                    raise ConflictError(
                        f"GPU {numbers} is reserved by {kept['owner']} until {_clock(kept['until'])}",
                        f"ask {kept['owner']}, or take another GPU",
                    )
            if sum(kept["uid"] == person.uid for kept in self.current()) >= _MOST_OF_ONE:
                raise ConflictError(f"{person.user} has {_MOST_OF_ONE} reservations, the most for one user", "release one")
            now = time.time()
            made = Reservation(
                id=f"r-{secrets.token_hex(3)}", owner=person.user, uid=person.uid, gpus=uuids, since=now, until=now + seconds,
                note=" ".join(note.split()),
            )  # fmt: skip
            await self._keep([*self.current(), made])
        return made

    async def release(self, identity: str) -> Reservation:
        """End a reservation. Raises NotFoundError."""
        async with self._lock:
            found = next((kept for kept in self.current() if kept["id"] == identity), None)
            if found is None:
                raise NotFoundError(f"no reservation {identity!r}", "see `llmops-tui gpus reservations`")
            await self._keep([kept for kept in self.current() if kept is not found])
        return found

    def take_ended(self) -> list[Reservation]:
        """Those that ended by themselves since the last call. The file follows with the next change: a past moment ends it anyway."""
        now = time.time()
        ended = [kept for kept in self._kept if kept["until"] <= now]
        self._kept = [kept for kept in self._kept if kept["until"] > now]
        return ended

    async def _keep(self, kept: list[Reservation]) -> None:
        try:
            await asyncio.to_thread(write_json, self._path, {"reservations": kept})
        except OSError as error:
            raise InsufficientResourcesError(f"nothing was changed: {self._path.name}: {error.strerror}", "free some space") from error
        now = time.time()
        self._kept = [*kept, *(old for old in self._kept if old["until"] <= now)]


def _load(path: Path) -> list[Reservation]:
    try:
        value: Any = read_json(path)
        kept = value["reservations"] if isinstance(value, dict) else []
        return [cast(Reservation, {key: one[key] for key in Reservation.__annotations__}) for one in kept]
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error("%s cannot be read, nothing is reserved: %s", path, error)
        return []


def _uuid_of(name: int | str, gpus: Sequence[GpuSample]) -> str:
    for gpu in gpus:
        if name == gpu["uuid"] or str(name) == str(gpu["index"]):
            return gpu["uuid"]
    there = ", ".join(str(gpu["index"]) for gpu in gpus) or "none"
    raise NotFoundError(
        f"no GPU {name!s}; this box has {there}", "see `llmops-tui gpus`", [{"field": "gpus", "message": f"no GPU {name!s}"}]
    )


def _index_of(uuid: str, gpus: Sequence[GpuSample]) -> str:
    return next((str(gpu["index"]) for gpu in gpus if gpu["uuid"] == uuid), uuid)


def _clock(t: float) -> str:
    """The moment in the box's time; with its day where that is not today."""
    when = time.localtime(t)
    return time.strftime("%H:%M" if when[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", when)
