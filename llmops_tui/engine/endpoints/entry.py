"""An endpoint as it is kept at rest: its spec, whose it is, how its route came about, what waits to become true. Never changed in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ValidationError

from llmops_tui.errors import UsageError
from llmops_tui.specs.answers_serving import EndpointChange
from llmops_tui.specs.endpoint import EndpointSpec
from llmops_tui.specs.wording import named_faults

MOST_HISTORY = 200
Weights = dict[str, float]
# Beside: the old servers answer until the new ones do. Instead: the old ones go first, and requests wait.
Mode = Literal["beside", "instead"]


@dataclass(frozen=True)
class PendingRoute:
    """Weights that hold once every version that gets any has a server that answers."""

    what: str
    by: str
    since: float
    weights: Weights
    mode: Mode = "beside"


@dataclass(frozen=True)
class Asleep:
    """No server is kept: idle for long, not yet wanted, or made room for a run, which `room_for` names."""

    since: float
    cause: str
    room_for: str = ""


@dataclass(frozen=True)
class Entry:
    """`resting`: since when a version gets no requests; `fresh_since`: a version's failures before that do not count."""

    spec: EndpointSpec
    owner: str
    uid: int
    cwd: str
    created_at: float
    revision: int = 1
    history: tuple[EndpointChange, ...] = ()
    resting: Mapping[str, float] = field(default_factory=dict)
    fresh_since: Mapping[str, float] = field(default_factory=dict)
    pending: PendingRoute | None = None
    asleep: Asleep | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def weights(self) -> Weights:
        """Of every version, those without requests too."""
        return {version.name: version.weight for version in self.spec.versions}

    @property
    def routed(self) -> Weights:
        """The weights above 0 that hold now; while servers are replaced by others, those to come."""
        weights = self.pending.weights if self.pending and self.pending.mode == "instead" else self.weights
        return {name: weight for name, weight in weights.items() if weight > 0}

    def with_spec(self, **changes: Any) -> Entry:
        """With other values in its spec, checked. Raises UsageError."""
        return replace(self, spec=checked({**self.spec.model_dump(mode="json"), **changes}))

    def noted(self, what: str, by: str, t: float, before: Weights, after: Weights) -> Entry:
        """One more line of history, and a revision further."""
        line = EndpointChange(t=t, by=by, what=what, before=before, after=after)
        return replace(self, revision=self.revision + 1, history=(*self.history, line)[-MOST_HISTORY:])

    def to_json(self) -> dict[str, Any]:
        pending, asleep = self.pending, self.asleep
        return {
            "spec": self.spec.model_dump(mode="json"),
            "revision": self.revision,
            "owner": self.owner,
            "uid": self.uid,
            "cwd": self.cwd,
            "created_at": self.created_at,
            "history": list(self.history),
            "resting": dict(self.resting),
            "fresh_since": dict(self.fresh_since),
            "pending": vars(pending) if pending else None,
            "asleep": vars(asleep) if asleep else None,
        }


def read_entry(values: Mapping[str, Any]) -> Entry:
    """An entry as it was written. Raises ValueError, KeyError or TypeError where it is none, UsageError for another version's spec."""
    pending, asleep = values.get("pending"), values.get("asleep")
    return Entry(
        spec=checked(values["spec"]),
        owner=str(values["owner"]),
        uid=int(values["uid"]),
        cwd=str(values["cwd"]),
        created_at=float(values["created_at"]),
        revision=int(values["revision"]),
        history=tuple(values.get("history") or ()),
        resting=_times(values.get("resting")),
        fresh_since=_times(values.get("fresh_since")),
        pending=PendingRoute(**pending) if pending else None,
        asleep=Asleep(**asleep) if asleep else None,
    )


def checked(spec: object) -> EndpointSpec:
    """A spec from what somebody typed. Raises UsageError with every wrong field."""
    try:
        return EndpointSpec.model_validate(spec)
    except ValidationError as error:
        fields = [{"field": name or "endpoint", "message": message} for name, message in named_faults(error).items()]
        more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
        first = fields[0]
        raise UsageError(f"{first['field']}: {first['message']}{more}", "see `llmops-tui endpoints start --help`", fields) from None


def only_positive(weights: Mapping[str, float]) -> Weights:
    """The versions that get requests."""
    return {name: weight for name, weight in weights.items() if weight > 0}


def names_of(versions: Sequence[object]) -> str:
    """For a sentence."""
    return ", ".join(str(version) for version in versions) or "none"


def _times(value: object) -> dict[str, float]:
    return {str(name): float(t) for name, t in value.items()} if isinstance(value, dict) else {}
