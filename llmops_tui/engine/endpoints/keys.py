"""The gateway's keys: at rest only their digests. A secret is shown once, to the one who asked for the key."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from llmops_tui.data.durable import read_json, sync_directory
from llmops_tui.errors import ConflictError, LlmopsError, NotFoundError
from llmops_tui.specs.answers_serving import KeyInfo, NewKey

_PREFIX = "lk-"


class KeyRecord(TypedDict):
    """One key as it stands in the file; limits of 0 are none."""

    id: str
    name: str
    sha256: str
    created: float
    owner: str
    uid: int
    endpoints: list[str]
    requests_per_minute: float
    tokens_per_minute: float
    tokens_per_day: int
    concurrent: int
    revoked: bool


class KeyBook:
    """All keys. `create` and `revoke` write the disk: call them in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.records: list[KeyRecord] = []

    def load(self) -> None:
        """Read the file; none means no keys. Raises LlmopsError for one that is damaged: without it nobody could be let in."""
        try:
            found = read_json(self._path)
        except ValueError as error:
            raise LlmopsError(f"{self._path} is damaged: {error}", "put back a copy, or move it away and make new keys") from None
        self.records = found if isinstance(found, list) else []

    def create(
        self,
        name: str,
        *,
        owner: str,
        uid: int,
        endpoints: Sequence[str] = ("*",),
        requests_per_minute: float = 0.0,
        tokens_per_minute: float = 0.0,
        tokens_per_day: int = 0,
        concurrent: int = 0,
    ) -> NewKey:
        """A new key with its secret. Raises ConflictError (the name is in use), OSError."""
        secret = _PREFIX + secrets.token_urlsafe(32)
        with self._lock:
            if any(record["name"] == name and not record["revoked"] for record in self.records):
                raise ConflictError(f"a key {name!r} is in use", "choose another name, or revoke that one")
            record = KeyRecord(
                id=f"key-{secrets.token_hex(4)}", name=name, sha256=digest(secret), created=time.time(), owner=owner, uid=uid,
                endpoints=list(endpoints) or ["*"], requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute,
                tokens_per_day=tokens_per_day, concurrent=concurrent, revoked=False,
            )  # fmt: skip
            self._write([*self.records, record])
        return NewKey(**describe(record), secret=secret)

    def revoke(self, identity: str) -> KeyInfo:
        """From the gateway's next reading on it opens nothing. By id or name. Raises NotFoundError, ConflictError, OSError."""
        with self._lock:
            record = self.get(identity)
            if record["revoked"]:
                raise ConflictError(
                    f"the key {record['name']!r} ({record['id']}) is revoked already", "see `llmops-tui endpoints keys list`"
                )
            gone: KeyRecord = {**record, "revoked": True}
            self._write([gone if each is record else each for each in self.records])
        return describe(gone)

    def owner(self, identity: str) -> tuple[str, int] | None:
        """Name and uid of whose it is; None where there is no such key."""
        found = self._find(identity)
        return None if found is None else (found["owner"], found["uid"])

    def get(self, identity: str) -> KeyRecord:
        """By id, or the newest of that name. Raises NotFoundError."""
        found = self._find(identity)
        if found is None:
            raise NotFoundError(f"no key {identity!r}", "see `llmops-tui endpoints keys list`")
        return found

    def _find(self, identity: str) -> KeyRecord | None:
        """An id comes first: nobody hides another's key by calling one's own as its id."""
        newest = list(reversed(self.records))
        by_id = next((record for record in newest if record["id"] == identity), None)
        return by_id or next((record for record in newest if record["name"] == identity), None)

    def _write(self, records: list[KeyRecord]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._path, json.dumps(records, indent=1).encode() + b"\n")
        self.records = records


def describe(record: KeyRecord) -> KeyInfo:
    """Without the digest."""
    return KeyInfo(
        id=record["id"], name=record["name"], owner=record["owner"], created_at=record["created"], endpoints=list(record["endpoints"]),
        requests_per_minute=record["requests_per_minute"], tokens_per_minute=record["tokens_per_minute"],
        tokens_per_day=record["tokens_per_day"], concurrent=record["concurrent"], revoked=record["revoked"],
    )  # fmt: skip


def digest(secret: str) -> str:
    """What is kept of a secret. It is 256 random bits, so that no salt is needed and one pass will do."""
    return hashlib.sha256(secret.encode()).hexdigest()


def write_private(path: Path, content: bytes) -> None:
    """Replace a file that only its owner may read, durably. Raises OSError; the old one then still stands."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
