"""The chart widget: curves in, the raster's rows on the screen. Draws again only when something changed."""

from __future__ import annotations

from collections.abc import Sequence

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.raster import Curve, Look, draw


class BrailleChart(LineWidget, can_focus=True):
    """Set curves and marks through `show`; toggles and size changes redraw by themselves."""

    BINDINGS = bindings("chart")
    DEFAULT_CSS = "BrailleChart { height: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._curves: tuple[Curve, ...] = ()
        self._marks: tuple[float, ...] = ()
        self._empty = "no points yet"
        self.log_y = False
        self.crosshair: float | None = None

    def show(self, curves: Sequence[Curve], marks: Sequence[float] = (), empty: str = "no points yet") -> None:
        """New data; the same data costs nothing."""
        if (tuple(curves), tuple(marks), empty) != (self._curves, self._marks, self._empty):
            self._curves, self._marks, self._empty = tuple(curves), tuple(marks), empty
            self._draw()

    def toggle_log(self) -> None:
        """Between a linear and a logarithmic y axis."""
        self.log_y = not self.log_y
        self._draw()

    def action_cross(self, columns: int) -> None:
        """Move the crosshair by so many columns; the first move begins at the newest step."""
        if any(curve.x for curve in self._curves):
            first = min(curve.x[0] for curve in self._curves if curve.x)
            last = max(curve.x[-1] for curve in self._curves if curve.x)
            here = last if self.crosshair is None else self.crosshair + columns * (last - first) / max(1, self.size.width - 8)
            self.crosshair = min(last, max(first, here))
            self._draw()

    def action_cross_off(self) -> None:
        """Take the crosshair away."""
        self.crosshair = None
        self._draw()

    def on_resize(self) -> None:
        """The raster depends on the size."""
        super().on_resize()
        self._draw()

    def _draw(self) -> None:
        width, height = self.size
        if width and height:
            look = Look(width, height, self.log_y, self._marks, self.crosshair, self.ascii_only, self._empty)
            self.show_lines(draw(self._curves, look))
