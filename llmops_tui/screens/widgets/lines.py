"""A widget that is a list of lines: it keeps what it shows and repaints only the cells that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from llmops_tui.screens.palette import plain_text, style

_LONGEST_PER_CELL = 8  # a letter with all its accents; more of a text can't be seen in the room it has
Run = tuple[str, str]
"""Text and its role in the palette."""
Line = Sequence[Run]


class LineWidget(Widget):
    """`show_lines` is all a subclass needs; a line too long is cropped, one too short padded."""

    DEFAULT_CSS = "LineWidget { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[list[Run]] = []
        self._grounds: dict[int, str] = {}
        self._strips: dict[int, Strip] = {}

    @property
    def border_title(self) -> str | None:
        """The title over the lines, plain text. Giving it again what it has costs nothing; Textual's own would repaint the widget."""
        title: Content | None = getattr(self, "_border_title", None)
        return None if title is None else title.plain

    @border_title.setter
    def border_title(self, title: str | None) -> None:
        if title and self.is_attached and self.ascii_only:
            title = plain_text(title)
        if title != self.border_title:
            Widget.__dict__["border_title"].__set__(self, None if title is None else as_title(title))

    @property
    def plain(self) -> str:
        """What the widget says, without colours."""
        return "\n".join("".join(text for text, _ in line) for line in self._lines)

    def focus(self, scroll_visible: bool = True) -> Self:
        """The keys come here at once. Textual's own waits behind what is typed already, and that would go to who had them before."""
        if self.is_attached and self.focusable:
            self.screen.set_focus(self, scroll_visible=scroll_visible)
            return self
        return super().focus(scroll_visible)

    @property
    def ascii_only(self) -> bool:
        """Whether the terminal can show ASCII only."""
        return bool(getattr(self.app, "ascii_only", False))

    def show_lines(self, lines: Sequence[Line], grounds: dict[int, str] | None = None) -> None:
        """Replace the content; `grounds` gives single lines another background. Repaints what differs, nothing if nothing does."""
        fresh = [list(line) for line in lines]
        new_grounds = grounds or {}
        width, height = self.size
        regions = []
        for y in range(min(height, max(len(fresh), len(self._lines)))):
            old = self._lines[y] if y < len(self._lines) else []
            new = fresh[y] if y < len(fresh) else []
            if self._grounds.get(y) != new_grounds.get(y):
                span: tuple[int, int] | None = (0, width)
            else:
                span = None if old == new else _changed(old, new, width)
            if span is not None:
                self._strips.pop(y, None)
                regions.append(Region(span[0], y, span[1] - span[0], 1))
        self._lines, self._grounds = fresh, new_grounds
        if regions:
            self.refresh(*regions)

    def notify_style_update(self) -> None:
        """The theme or a class changed: every strip is stale."""
        super().notify_style_update()
        self._strips.clear()

    def on_resize(self) -> None:
        """The width is part of a strip."""
        self._strips.clear()

    def ground(self) -> str:
        """The widget's own background."""
        return self.background_colors[1].hex6

    def render_line(self, y: int) -> Strip:
        """The strip of one line; made once for each content."""
        strip = self._strips.get(y)
        if strip is None:
            ground = self._grounds.get(y) or self.ground()
            line: Line = self._lines[y] if y < len(self._lines) else []
            if self.ascii_only:
                line = [(plain_text(text), role) for text, role in line]
            segments = [Segment(text, style(role, ground)) for text, role in line if text]
            strip = Strip(segments).adjust_cell_length(self.size.width, style("text", ground))
            self._strips[y] = strip
        return strip


def _changed(old: Line, new: Line, width: int) -> tuple[int, int] | None:
    """The span of cells `[from, to)` in which two lines differ; the whole line where cells are not characters."""
    a, b = "".join(text for text, _ in old), "".join(text for text, _ in new)
    if cell_len(a) != len(a) or cell_len(b) != len(b):
        return 0, width
    left, right = _cells(old, width), _cells(new, width)
    first = next((at for at in range(width) if left[at] != right[at]), None)
    if first is None:
        return None
    last = next(at for at in range(width - 1, -1, -1) if left[at] != right[at])
    return first, last + 1


def _cells(line: Line, width: int) -> list[tuple[str, str]]:
    cells = [(character, role) for text, role in line for character in text][:width]
    return cells + [(" ", "")] * (width - len(cells))


def as_title(text: str) -> Content:
    """A title that shows what it is given: a metric may be named `[b]loss[/]`, which Textual would take for markup or refuse."""
    return Content("".join(character if character.isprintable() else " " for character in text))


def fit(text: str, width: int, right: bool = False) -> str:
    """Exactly `width` cells: cut with an ellipsis or padded. Control characters become spaces."""
    text = "".join(character if character.isprintable() else " " for character in text[: _LONGEST_PER_CELL * max(1, width)])
    size = cell_len(text)
    if size > width:
        text = set_cell_size(text, width - 1) + "…" if width > 0 else ""
        size = max(0, width)
    blank = " " * (width - size)
    return blank + text if right else text + blank


def fit_middle(text: str, width: int, tail: int = 5) -> str:
    """Exactly `width` cells; what is too long loses its middle and keeps its last `tail` characters (a run's number)."""
    if cell_len(text) <= width or width < 2 * tail:
        return fit(text, width)
    return fit(text[: width - tail - 1], width - tail - 1) + "…" + fit(text[-tail:], tail)


def spaced(left: Line, right: Line, width: int) -> list[Run]:
    """Two parts at the two ends of a line of `width` cells; the left one gives way."""
    room = width - sum(cell_len(text) for text, _ in right)
    line: list[Run] = []
    for text, role in left:
        if cell_len(text) > room:
            if room > 0:
                line.append((fit(text, room), role))
                room = 0
            break
        line.append((text, role))
        room -= cell_len(text)
    return [*line, (" " * max(0, room), "text"), *right]
