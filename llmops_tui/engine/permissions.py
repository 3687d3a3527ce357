"""What a request would change, and who may. Pure: the door (door.py) asks, for every route there is and every one to come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmops_tui.engine.people import Person, Role
from llmops_tui.errors import LlmopsError, PermissionDeniedError

_READING_METHODS = {"GET", "HEAD", "OPTIONS"}
# Reads that need a body.
_READING_POSTS = {("sql",), ("estimate",), ("preview",), ("endpoints", "check")}
_BOX_DEEDS: dict[tuple[str, ...], tuple[str, Role]] = {
    ("engine", "stop"): ("engine stop", "admin"),
    ("engine", "notify-test"): ("notify-test", "admin"),
    ("backup",): ("backup", "admin"),
    ("models", "import"): ("import model", "operator"),
    ("datasets", "import"): ("import dataset", "operator"),
    ("reservations",): ("reserve", "operator"),
    ("endpoints",): ("start endpoint", "operator"),
    ("keys",): ("create key", "operator"),
    ("feedback",): ("feedback", "viewer"),
}
# What makes room or ends something is done even where the disk is too full to note it at once.
_MAKES_ROOM = {"stop", "remove", "release", "engine stop", "stop endpoint", "revoke key"}
# What anybody who may act at all may do to another's run.
_TO_ANY_RUN = {"ask"}
_LONGEST_VALUE = 300
_MOST_VALUES = 20


@dataclass(frozen=True)
class Deed:
    """One change that is asked for. `run`, `reservation`, `endpoint` or `key`: what it is done to; `needs`: the role for one's own."""

    action: str
    needs: Role
    run: str = ""
    reservation: str = ""
    endpoint: str = ""
    key: str = ""
    target: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def makes_room(self) -> bool:
        return self.action in _MAKES_ROOM


def deed_of(method: str, path: str, body: bytes) -> Deed | None:
    """The change a request asks for; None for one that only reads."""
    if method in _READING_METHODS:
        return None
    words = tuple(path.strip("/").split("/"))
    words = words[1:] if words[:1] == ("v1",) else words
    if method == "POST" and words in _READING_POSTS:
        return None
    values = _values(body)
    if words[0] == "runs":
        return _run_deed(method, words, values)
    if words[0] == "alarms" and len(words) == 3:  # an alarm's id begins with its run's
        run = words[1].rsplit(".", 3)[0]
        return Deed(f"{words[2]} alarm"[:_LONGEST_VALUE], "operator", run=run, target=words[1][:_LONGEST_VALUE])
    if words[0] == "endpoints" and len(words) > 1:
        return _endpoint_deed(method, words, values)
    if words[0] == "runtimes" and len(words) == 3:
        needs: Role = "operator" if words[2] == "check" else "admin"  # what is installed is run by everybody's servers
        return Deed(f"{words[2]} runtime"[:_LONGEST_VALUE], needs, target=words[1][:_LONGEST_VALUE], detail=_shortened(values))
    if words[0] == "keys" and len(words) == 2 and method == "DELETE":
        return Deed("revoke key", "operator", key=words[1], target=words[1][:_LONGEST_VALUE])
    if words[0] == "reservations" and len(words) == 2 and method == "DELETE":
        return Deed("release", "operator", reservation=words[1], target=words[1])
    if method == "POST" and words in _BOX_DEEDS:
        action, needs = _BOX_DEEDS[words]
        spec = values.get("spec")
        named = spec if isinstance(spec, dict) else values
        target = named.get("name") or named.get("path") or named.get("id") or ""
        if action == "feedback":  # its words may quote the answer: they stand beside the request, redacted as it is, and nowhere else
            values = {name: values[name] for name in ("id", "rating") if name in values}
        return Deed(action, needs, target=str(target)[:_LONGEST_VALUE], detail=_shortened(values))
    # A route that came later and was not thought of here: better too few may than too many.
    return Deed(f"{method.lower()} {'/'.join(words)}"[:_LONGEST_VALUE], "admin", detail=_shortened(values))


def _endpoint_deed(method: str, words: tuple[str, ...], values: dict[str, Any]) -> Deed | None:
    """`/endpoints/NAME…`. Asking one something changes nothing."""
    name, verb = words[1], words[2] if len(words) > 2 else ""
    if method == "POST" and verb == "chat" and len(words) == 3:
        return None
    if method == "DELETE":
        action = "remove version" if verb == "versions" else "stop endpoint"
    else:
        action = f"{verb or method.lower()} endpoint"
    detail = {**_shortened(values), **({"version": words[3][:_LONGEST_VALUE]} if len(words) > 3 else {})}
    return Deed(action[:_LONGEST_VALUE], "operator", endpoint=name, target=name[:_LONGEST_VALUE], detail=detail)


def _run_deed(method: str, words: tuple[str, ...], values: dict[str, Any]) -> Deed | None:
    if method == "POST" and len(words) == 1:
        if values.get("dry_run") is True:
            return None
        spec = values.get("spec")
        named = {key: spec[key] for key in ("kind", "name") if key in spec} if isinstance(spec, dict) else {}
        return Deed("submit", "operator", detail=_shortened(named))
    run = words[1] if len(words) > 1 else ""
    if method == "DELETE" and len(words) == 2:
        return Deed("remove", "operator", run=run, target=run)
    action = "/".join(words[2:]) or method.lower()
    if action == "control":  # told by what is asked: pause, resume, set, …
        action = str(values.pop("command", action))
    return Deed(action[:_LONGEST_VALUE], "operator", run=run, target=run, detail=_shortened(values))


def objection(person: Person, deed: Deed, owner: tuple[str, int] | None, *, read_only: bool) -> LlmopsError | None:
    """Why this person may not; None where they may. `owner` of what it is done to, None where that is unknown or nobody's."""
    if read_only and deed.action != "engine stop":
        return PermissionDeniedError(
            "this engine is read-only: nothing was changed", "restart it without --read-only, LLMOPS_READ_ONLY and people.read_only"
        )
    if not person.is_at_least(deed.needs):
        return PermissionDeniedError(
            f"{person.user} is {_article(person.role)} here, and `{deed.action}` is for {_article(deed.needs)}",
            "ask root or an admin of the engine ([people] in its settings)",
        )
    if owner is None or owner[1] == person.uid or person.role == "admin" or (deed.run and deed.action in _TO_ANY_RUN):
        return None
    if deed.run:
        return PermissionDeniedError(
            f"{deed.run} belongs to {owner[0]}, and {person.user} is no admin here",
            f'ask {owner[0]}: `llmops-tui runs ask {deed.run} "…"`',
        )
    return PermissionDeniedError(f"{deed.target} belongs to {owner[0]}, and {person.user} is no admin here", f"ask {owner[0]}")


def _article(role: Role) -> str:
    return {"none": "nobody", "viewer": "a viewer", "operator": "an operator", "admin": "an admin"}[role]


def _values(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _shortened(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of a request: its scalars and short lists, cut."""
    kept: dict[str, Any] = {}
    for key, value in list(values.items())[:_MOST_VALUES]:
        if key == "cwd":
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        kept[str(key)[:60]] = value if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
    return kept
