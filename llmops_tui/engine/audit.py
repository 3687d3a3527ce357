"""The audit log: who changed what, when, and what came of it. Append only, durable, and chained so that a hand in it is seen.

audit.jsonl, a line an entry: `{"n", "t", "user", "uid", "role", "action", "target", "detail", "outcome", "reason", "prev"}`. `prev` is
the SHA-256 of the line before (zeros for the first). A change has two lines: `begun`, written before it is made, and one
that `closes` it with what came of it. A refusal has one. audit.head holds the number and the digest of the newest line, so
that lines cut off at the end are missed too. It is overwritten in place and needs no room on a full disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import sync_directory
from llmops_tui.engine.people import Person
from llmops_tui.engine.permissions import Deed
from llmops_tui.errors import InsufficientResourcesError
from llmops_tui.specs.answers import AuditEntry, AuditVerdict

_FIRST = "0" * 64
_HEAD_BYTES = 96
_TAIL_BYTES = 1 << 20
_MOST_OWED = 1000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ticket:
    """A change under way. `number` is its `begun` line, None where the disk had no room for it."""

    entry: dict[str, Any]
    number: int | None


class AuditLog:
    """Every call may block on the disk; any thread may call. Open it once, under the state directory's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = path.with_name("audit.head")
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._owed: deque[dict[str, Any]] = deque(maxlen=_MOST_OWED)
        self._number, self._digest = 0, _FIRST
        if path.exists():
            self._take_up()

    def begin(self, person: Person, deed: Deed) -> Ticket:
        """Note a change before it is made. Raises InsufficientResourcesError: then it must not be made.

        What makes room is let through on a full disk; its entry follows when there is room again.
        """
        entry = _entry(person, deed)
        with self._lock:
            try:
                self._pay()
                number = self._append({**entry, "outcome": "begun"})
            except OSError as error:
                if deed.makes_room:
                    log.warning("audit: %s %s by %s is noted later: %s", deed.action, deed.target, person.user, error)
                    return Ticket(entry, None)
                raise InsufficientResourcesError(
                    f"nothing was changed: the audit log cannot be written: {error.strerror}",
                    "free some space (runs can be stopped and removed even now)",
                ) from error
            self._open.add(number)
            return Ticket(entry, number)

    def close(self, ticket: Ticket, outcome: str, reason: str = "", target: str = "") -> None:
        """Note what came of it: ok or failed. Never raises: the change is made."""
        end = {"outcome": outcome, "reason": reason[:500], "target": target or ticket.entry["target"]}
        with self._lock:
            line = {**ticket.entry, **end} if ticket.number is None else {"t": time.time(), "closes": ticket.number, **end}
            self._note(line)
            if ticket.number is not None:
                self._open.discard(ticket.number)

    def refuse(self, person: Person, deed: Deed, reason: str) -> None:
        """Note an attempt that was turned away."""
        with self._lock:
            self._note({**_entry(person, deed), "outcome": "refused", "reason": reason[:500]})

    def read(
        self, after: int = 0, limit: int = 1000, *, run: str = "", user: str = "", since: float | None = None, newest: bool = False
    ) -> list[AuditEntry]:
        """Entries after number `after`, oldest first; with `newest` the last `limit` of them."""
        found: dict[int, AuditEntry] = {}
        for _, value in self._lines():
            if isinstance(closes := value.get("closes"), int):
                if entry := found.get(closes):
                    entry["outcome"] = str(value.get("outcome"))
                    entry["reason"] = str(value.get("reason") or "")
                    entry["target"] = str(value.get("target") or entry["target"])
            elif isinstance(value.get("n"), int):
                found[value["n"]] = _as_entry(value)
        with self._lock:
            under_way = set(self._open)
        for number, entry in found.items():
            if entry["outcome"] == "begun":
                entry["outcome"] = "under way" if number in under_way else "unknown"
                entry["reason"] = "" if number in under_way else "the engine ended before it could note what came of it"
        wanted = [
            entry
            for number, entry in found.items()
            if number > after and (not run or entry["target"] == run) and (not user or user in (entry["user"], str(entry["uid"])))
            and (since is None or entry["t"] >= since)
        ]  # fmt: skip
        return wanted[-limit:] if newest else wanted[:limit]

    def verify(self) -> AuditVerdict:
        """Walk the chain from its first line to the noted end."""
        with self._lock:
            return verify(self._path, self._head)

    def _take_up(self) -> None:
        """Go on after the newest whole line. One that a power cut tore was never answered for: it goes."""
        with open(self._path, "rb+") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            if not tail.endswith(b"\n") and size:
                whole = tail.rfind(b"\n") + 1
                log.warning("audit: a torn last line of %d bytes is taken off", len(tail) - whole)
                file.truncate(size - len(tail) + whole)
                os.fsync(file.fileno())
                tail = tail[:whole]
        lines = tail.split(b"\n")[:-1]
        if not lines:
            return
        try:
            self._number = int(json.loads(lines[-1])["n"])
        except (ValueError, KeyError, TypeError):  # a hand in it: `verify` tells where; the log goes on by counting
            with open(self._path, "rb") as file:
                self._number = sum(1 for _ in file)
        self._digest = _digest(lines[-1])
        noted = _read_head(self._head)
        # A crash between a line and its note. Any other note stays: lines are missing or were added, and `verify` says so.
        if noted is not None and noted[0] == self._number - 1:
            self._write_head()

    def _note(self, line: dict[str, Any]) -> None:
        try:
            self._pay()
            self._append(line)
        except OSError as error:
            log.warning("audit: an entry waits for room on the disk: %s: %s", error, json.dumps(line))
            self._owed.append(line)

    def _pay(self) -> None:
        while self._owed:
            self._append({**self._owed[0], "late": True})
            self._owed.popleft()

    def _append(self, values: dict[str, Any]) -> int:
        """One line, durable when this returns. Raises OSError; the file is then as it was."""
        number = self._number + 1
        text = json.dumps({"n": number, **values, "prev": self._digest}, separators=(",", ":"), ensure_ascii=False)
        line = text.encode(errors="backslashreplace")  # half a character, as in a file name that is no UTF-8, becomes its JSON escape
        new = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            written = os.write(descriptor, line + b"\n")
            if written <= len(line):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_directory(self._path.parent)
        self._number, self._digest = number, _digest(line)
        self._write_head()
        return number

    def _write_head(self) -> None:
        content = f"{self._number} {self._digest}".ljust(_HEAD_BYTES - 1) + "\n"
        try:
            descriptor = os.open(self._head, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.pwrite(descriptor, content.encode(), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:  # the line stands; only a cut at the very end would go unseen
            log.warning("audit.head was not written: %s", error)

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        return _lines(self._path)


def verify(path: Path, head: Path) -> AuditVerdict:
    """Whether every line follows from the one before and the newest is there. A torn last line is no fault: it counted for nothing."""
    count, digest, before_last = 0, _FIRST, _FIRST
    for line, value in _lines(path):
        if value.get("n") != count + 1:
            return _broken(count, count + 1, f"line {count + 1} carries the number {value.get('n')}: a line was removed, added or moved")
        if value.get("prev") != digest:
            return _broken(count, count + 1, f"line {count + 1} does not follow from line {count}: one of the two was changed")
        count, before_last, digest = count + 1, digest, _digest(line)
    noted = _read_head(head)
    if noted is None:
        return AuditVerdict(lines=0, good=True, line=None, problem="") if not count else _broken(count, None, "audit.head is missing")
    if noted[0] > count:
        return _broken(count, count + 1, f"the log ends at line {count}, and line {noted[0]} was written: the end is missing")
    if noted not in ((count, digest), (count - 1, before_last)):
        return _broken(count, count, f"line {count} is not the one that was written last: it was changed")
    return AuditVerdict(lines=count, good=True, line=None, problem="")


def _broken(count: int, line: int | None, problem: str) -> AuditVerdict:
    return AuditVerdict(lines=count, good=False, line=line, problem=problem)


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Every whole line and what it says; one that says nothing sensible says `{}`."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; the generator may be left early
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line)
            except ValueError:
                value = {}
            yield line[:-1], value if isinstance(value, dict) else {}


def _read_head(path: Path) -> tuple[int, str] | None:
    try:
        number, digest = path.read_text().split()
        return int(number), digest
    except (OSError, ValueError):
        return None


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _entry(person: Person, deed: Deed) -> dict[str, Any]:
    return {
        "t": time.time(), "user": person.user, "uid": person.uid, "role": person.role, "action": deed.action, "target": deed.target,
        "detail": deed.detail,
    }  # fmt: skip


def _as_entry(value: dict[str, Any]) -> AuditEntry:
    detail = value.get("detail")
    return AuditEntry(
        n=int(value["n"]),
        t=float(value.get("t") or 0.0),
        user=str(value.get("user") or ""),
        uid=int(value["uid"]) if isinstance(value.get("uid"), int) else -1,
        role=str(value.get("role") or ""),
        action=str(value.get("action") or ""),
        target=str(value.get("target") or ""),
        detail=detail if isinstance(detail, dict) else {},
        outcome=str(value.get("outcome") or ""),
        reason=str(value.get("reason") or ""),
    )
