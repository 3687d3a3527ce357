"""Event lines of a chart: a checkpoint, an alarm, a retry, a pause, each at a step or at a moment."""

from __future__ import annotations

from dataclasses import dataclass

_ROLES = {"checkpoint": "mark", "alarm": "bad", "retry": "warn", "pause": "muted"}
_SHORT = {"checkpoint": "ckpt"}


@dataclass(frozen=True)
class Mark:
    """`kind` colours it (checkpoint, alarm, retry, pause, or any word); `step`, `t` (unix seconds) or both say where; `text` says more."""

    kind: str
    step: float | None = None
    t: float | None = None
    text: str = ""

    @property
    def role(self) -> str:
        """Its role in the palette."""
        return _ROLES.get(self.kind, "mark")

    @property
    def short(self) -> str:
        """For the top of its line."""
        return _SHORT.get(self.kind, self.kind)

    @property
    def told(self) -> str:
        """For the legend."""
        return f"{self.kind} {self.text}".rstrip()


PlacedMark = tuple[float, Mark]
"""A mark and its x on the axis drawn."""
