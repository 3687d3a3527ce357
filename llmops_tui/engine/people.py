"""Who asks, and what they may do here: the kernel's word for the uid, the settings' word for the role."""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from llmops_tui.errors import PermissionDeniedError
from llmops_tui.specs.answers import You
from llmops_tui.specs.settings import PeopleSettings

Role = Literal["none", "viewer", "operator", "admin"]
RANK: dict[Role, int] = {"none": 0, "viewer": 1, "operator": 2, "admin": 3}
# A directory service is asked at most so often for one user; a change of groups takes effect after that.
_REMEMBER_SECONDS = 30.0


@dataclass(frozen=True)
class Person:
    """A user of this box, as far as this engine is concerned."""

    user: str
    uid: int
    role: Role

    def is_at_least(self, role: Role) -> bool:
        return RANK[self.role] >= RANK[role]


class People:
    """The roles in force. `group` is the Unix group that a shared engine serves; empty for a private one."""

    def __init__(self, settings: PeopleSettings, *, group: str = "", read_only: bool = False) -> None:
        self.group = group
        self.read_only = read_only
        self.warnings: list[str] = []
        self._default: Role = settings.default_role
        self._named: list[tuple[Role, set[int], set[int]]] = [
            ("admin", *self._ids(settings.admins)),
            ("operator", *self._ids(settings.operators)),
            ("viewer", *self._ids(settings.viewers)),
        ]
        self._gid = group_id(group) if group else None
        self._known: dict[int, tuple[float, Person]] = {}
        self._memberships: dict[int, tuple[float, set[int]]] = {}

    @property
    def gid(self) -> int | None:
        """The served group's number; None for a private engine."""
        return self._gid

    def person(self, uid: int) -> Person:
        """The user behind a uid with the role that is theirs now. `none` may not even look."""
        now = time.monotonic()
        known = self._known.get(uid)
        if known is None or now - known[0] > _REMEMBER_SECONDS:
            known = self._known[uid] = (now, self._look_up(uid))
        return known[1]

    def refusal(self, uid: int) -> PermissionDeniedError | None:
        """Why this uid may not even connect; None for root, the engine's user and the members of the served group."""
        own = os.geteuid()
        if uid in (0, own):
            return None
        if self._gid is None:
            return PermissionDeniedError(f"this engine serves uid {own}, not uid {uid}", "start one of your own: --home DIR")
        if self._gid in self._groups(uid):
            return None
        name = user_name(uid)
        return PermissionDeniedError(
            f"this engine serves the group {self.group!r}, and {name} (uid {uid}) is not in it",
            f"ask root for `usermod -aG {self.group} {name}`",
        )

    def _groups(self, uid: int) -> set[int]:
        now = time.monotonic()
        known = self._memberships.get(uid)
        if known is None or now - known[0] > _REMEMBER_SECONDS:
            known = self._memberships[uid] = (now, groups_of(uid))
        return known[1]

    def _look_up(self, uid: int) -> Person:
        name = user_name(uid)
        if uid in (0, os.geteuid()):
            return Person(name, uid, "admin")
        groups = self._groups(uid)
        if self._gid is None or self._gid not in groups:
            return Person(name, uid, "none")
        # Who is named alone is meant more than who is in a group that is named.
        for role, uids, _ in self._named:
            if uid in uids:
                return Person(name, uid, role)
        for role, _, gids in self._named:
            if gids & groups:
                return Person(name, uid, role)
        return Person(name, uid, self._default)

    def _ids(self, entries: Sequence[str | int]) -> tuple[set[int], set[int]]:
        uids: set[int] = set()
        gids: set[int] = set()
        for entry in entries:
            try:
                if isinstance(entry, int):
                    uids.add(entry)
                elif entry.startswith("@"):
                    gids.add(grp.getgrnam(entry[1:]).gr_gid)
                else:
                    uids.add(pwd.getpwnam(entry).pw_uid)
            except KeyError:
                what = f"group {entry[1:]!r}" if isinstance(entry, str) and entry.startswith("@") else f"user {entry!r}"
                self.warnings.append(f"the settings' [people] name the {what}, which this box does not know")
        return uids, gids


_asking: ContextVar[Person | None] = ContextVar("asking", default=None)


def let_ask(person: Person) -> None:
    """From here on, in this request, `person` is who asks."""
    _asking.set(person)


def who_asks() -> Person:
    """The user whose request is being served; the engine's own where it acts by itself."""
    return _asking.get() or Person(user_name(os.geteuid()), os.geteuid(), "admin")


def describe_you(people: People) -> You:
    """What the one who asks is here, for the console's header."""
    person = who_asks()
    return You(user=person.user, uid=person.uid, role=person.role, read_only=people.read_only or not person.is_at_least("operator"))


def user_name(uid: int) -> str:
    """The user's name; the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def groups_of(uid: int) -> set[int]:
    """The groups a user is in, by the box's own book; empty for a uid without a name."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return set()
    return set(os.getgrouplist(entry.pw_name, entry.pw_gid))


def group_id(name: str) -> int:
    """The number of a group that this process may give files to. Raises PermissionDeniedError."""
    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        raise PermissionDeniedError(f"this box has no group {name!r}", f"make it: `groupadd {name}`, `usermod -aG {name} USER`") from None
    if os.geteuid() != 0 and gid not in {os.getegid(), *os.getgroups()}:
        user = user_name(os.geteuid())
        raise PermissionDeniedError(
            f"{user} is not in the group {name!r} and cannot share an engine with it", f"`usermod -aG {name} {user}`, then log in again"
        )
    return gid
