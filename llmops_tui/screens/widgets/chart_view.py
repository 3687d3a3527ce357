"""What a chart shows of its curves: window, crosshair, scale. A value without widgets: each key makes the next one, JSON keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from llmops_tui.screens.widgets.curve import STEP

Span = tuple[float, float]

SMOOTHINGS = (0.0, 0.6, 0.9)
_MOST_ZOOM = 1e9  # a window narrower than this part of the whole meets the precision of the numbers


@dataclass(frozen=True)
class ChartView:
    """`window` and `crosshair` are x of the axis; a window of None is everything. `follow`: the window stays at the newest point."""

    axis: str = STEP
    window: Span | None = None
    crosshair: float | None = None
    log_y: bool = False
    clip: bool = False
    smoothing: float = 0.0
    follow: bool = False

    def shown(self, extent: Span) -> Span:
        """The x that are drawn, given the first and last x there are."""
        return extent if self.window is None else self.window

    def zoomed(self, factor: float, extent: Span, least: float = 0.0, around: float | None = None) -> ChartView:
        """A window `factor` times as wide (at least `least`) around a place, the crosshair, or the middle; that place stays where it is."""
        low, high = self.shown(extent)
        whole = extent[1] - extent[0]
        width = max((high - low) * factor, least, whole / _MOST_ZOOM)
        if width >= whole or whole <= 0:
            return self.reset()
        at = self.crosshair if around is None else around
        at = (low + high) / 2 if at is None or not low <= at <= high else at
        share = (at - low) / (high - low) if high > low else 0.5
        if around is None and self.follow and self.crosshair is None:
            share, at = 1.0, high
        return self._at(at - share * width, width, extent)

    def panned(self, share: float, extent: Span) -> ChartView:
        """The window moved by a share of its width, within what there is."""
        if self.window is None:
            return self
        low, high = self.window
        return self._at(low + share * (high - low), high - low, extent)

    def selected(self, first: float, last: float, extent: Span, least: float = 0.0) -> ChartView:
        """The window between two places."""
        low, high = max(extent[0], min(first, last)), min(extent[1], max(first, last))
        width = max(high - low, least, (extent[1] - extent[0]) / _MOST_ZOOM)
        return self.reset() if width >= extent[1] - extent[0] else self._at(low, width, extent)

    def reset(self) -> ChartView:
        """Everything."""
        return replace(self, window=None, follow=False)

    def crossed(self, by: float, extent: Span, whole: bool = False) -> ChartView:
        """The crosshair moved by a distance; the first move begins at the newest place shown. `whole`: at least one, to a whole number."""
        low, high = self.shown(extent)
        if self.crosshair is None or not low <= self.crosshair <= high:
            at = high if self.crosshair is None or self.crosshair > high else low
        elif whole and by:
            at = round(self.crosshair + (max(1.0, by) if by > 0 else min(-1.0, by)))
        else:
            at = self.crosshair + by
        return replace(self, crosshair=min(high, max(low, at)))

    def followed(self, extent: Span) -> ChartView:
        """After new points: a window that touches the newest goes on with it, another one stays; one outside of everything is given up."""
        if self.window is None:
            return self
        low, high = self.window
        if self.follow:
            return self._at(extent[1] - (high - low), high - low, extent) if extent[1] - extent[0] > high - low else self
        return self.reset() if high < extent[0] or low > extent[1] else self

    def _at(self, low: float, width: float, extent: Span) -> ChartView:
        low = max(extent[0], min(low, extent[1] - width))
        high = min(extent[1], low + width)
        return replace(self, window=(low, high), follow=high >= extent[1] - (extent[1] - extent[0]) * 1e-9)

    def to_json(self) -> dict[str, object]:
        """As plain values; `from_json` takes them back."""
        return {
            "axis": self.axis, "window": None if self.window is None else list(self.window), "crosshair": self.crosshair,
            "log_y": self.log_y, "clip": self.clip, "smoothing": self.smoothing, "follow": self.follow,
        }  # fmt: skip

    @staticmethod
    def from_json(value: object) -> ChartView:
        """From what `to_json` gave; whatever is missing or makes no sense is as in a new chart."""
        if not isinstance(value, Mapping):
            return ChartView()
        axis, smoothing = value.get("axis"), _number(value.get("smoothing"))
        return ChartView(
            axis=axis if isinstance(axis, str) else STEP,
            window=_span(value.get("window")),
            crosshair=_number(value.get("crosshair")),
            log_y=value.get("log_y") is True,
            clip=value.get("clip") is True,
            smoothing=smoothing if smoothing is not None and smoothing in SMOOTHINGS else 0.0,
            follow=value.get("follow") is True,
        )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) else None


def _span(value: object) -> Span | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = _number(value[0]), _number(value[1])
    return (low, high) if low is not None and high is not None and low < high else None
