"""From columns to characters: braille dots of 2 × 4 a cell, or one ASCII character a cell, each with the role that colours it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmops_tui.screens.widgets.axes import Scale
from llmops_tui.screens.widgets.legend import Run
from llmops_tui.screens.widgets.plot_columns import Column

_LEFT = [sum(bit for row, bit in enumerate((0x01, 0x02, 0x04, 0x40)) if nibble >> row & 1) for nibble in range(16)]
_RIGHT = [sum(bit for row, bit in enumerate((0x08, 0x10, 0x20, 0x80)) if nibble >> row & 1) for nibble in range(16)]
_BRAILLE = [" ", *(chr(0x2800 + dots) for dots in range(1, 256))]
_DOTTED = int("10" * 256, 2)


@dataclass(frozen=True)
class _Layer:
    """One bit mask of dot rows a dot column, bit 0 at the top. What lies `under` shows only where no curve passes."""

    masks: list[int]
    role: str
    glyph: str
    under: bool


@dataclass
class Canvas:
    """Layers of dots over one pair of scales; `down`: dot rows a cell."""

    x_scale: Scale
    y_scale: Scale
    down: int
    layers: list[_Layer] = field(default_factory=list)

    def add(self, pieces: Sequence[Sequence[Column]], role: str, glyph: str, under: bool, apart: bool) -> None:
        """A curve. `apart`: each of its points is drawn as a block of 3 × 3 dots, as one dot alone is not seen."""
        masks = _trace(pieces, self.x_scale.dots, self.y_scale)
        if apart and self.down > 1:
            masks = _thick(masks, self.y_scale.dots - 1)
        self.layers.append(_Layer(masks, role, glyph, under))

    def upright(self, x: float, role: str, dotted: bool) -> None:
        """A line from top to bottom, behind the curves."""
        masks = [0] * self.x_scale.dots
        full = (1 << self.y_scale.dots) - 1
        masks[self.x_scale.dot(x)] = full & _DOTTED if dotted and self.down > 1 else full
        self.layers.append(_Layer(masks, role, ":" if dotted else "|", True))


def _trace(pieces: Sequence[Sequence[Column]], columns: int, y_scale: Scale) -> list[int]:
    masks = [0] * columns
    top, dot = y_scale.dots - 1, y_scale.dot
    for piece in pieces:
        before = -1
        low_before = high_before = last_before = 0
        for column, _, _, low, high, first, last in piece:
            low_dot = dot(low)
            if low == high:
                high_dot = first_dot = last_dot = low_dot
            else:
                high_dot, first_dot, last_dot = dot(high), dot(first), dot(last)
            masks[column] |= ((1 << (high_dot - low_dot + 1)) - 1) << (top - high_dot)
            if before >= 0 and (column - before > 1 or low_dot > high_before + 1 or high_dot < low_before - 1):
                _join(masks, (before, last_before), (column, first_dot), top)
            before, low_before, high_before, last_before = column, low_dot, high_dot, last_dot
    return masks


def _join(masks: list[int], start: tuple[int, int], end: tuple[int, int], top: int) -> None:
    """A straight line between two dots, end points included."""
    (x0, y0), (x1, y1) = start, end
    span = x1 - x0
    if span <= 0:
        low, high = min(y0, y1), max(y0, y1)
        masks[x1] |= ((1 << (high - low + 1)) - 1) << (top - high)
        return
    slope = (y1 - y0) / span
    for column in range(x0, x1 + 1):
        here = y0 + slope * (column - x0)
        a = round(here if column == x0 else here - slope / 2)
        b = round(here if column == x1 else here + slope / 2)
        low, high = (a, b) if a <= b else (b, a)
        low, high = max(low, min(y0, y1)), min(high, max(y0, y1))
        if high >= low:
            masks[column] |= ((1 << (high - low + 1)) - 1) << (top - high)


def _thick(masks: list[int], top: int) -> list[int]:
    tall = [(mask | mask << 1 | mask >> 1) & ((1 << (top + 1)) - 1) for mask in masks]
    return [left | here | right for left, here, right in zip([0, *tall[:-1]], tall, [*tall[1:], 0], strict=True)]


def braille_cells(canvas: Canvas) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of characters and rows of their roles. A cell has one colour: that of the last curve that passes through it."""
    rows, columns = canvas.y_scale.dots // 4, canvas.x_scale.dots // 2
    dots = [[0] * columns for _ in range(rows)]
    roles = [["text"] * columns for _ in range(rows)]
    for under in (False, True):
        for layer in canvas.layers:
            if layer.under is under:
                _spread(layer, dots, roles, under)
    return [[_BRAILLE[bits & 0xFF] for bits in row] for row in dots], roles


def _spread(layer: _Layer, dots: list[list[int]], roles: list[list[str]], under: bool) -> None:
    """The layer's dots into the cells. Bit 8 of a cell says that a curve owns it: what lies under stays out."""
    masks, role = layer.masks, layer.role
    own = 0 if under else 0x100
    for cell in range(len(masks) // 2):
        left, right = masks[2 * cell], masks[2 * cell + 1]
        both = left | right
        if not both:
            continue
        row = ((both & -both).bit_length() - 1) >> 2
        left, right = left >> 4 * row, right >> 4 * row
        while left or right:
            here = _LEFT[left & 15] | _RIGHT[right & 15]
            if here:
                line = dots[row]
                if not under or line[cell] < 0x100:
                    line[cell] |= here | own
                    roles[row][cell] = role
            left >>= 4
            right >>= 4
            row += 1


def ascii_cells(canvas: Canvas) -> tuple[list[list[str]], list[list[str]]]:
    """The same with a character a cell; a curve later in the list lies over one before."""
    texts = [[" "] * canvas.x_scale.dots for _ in range(canvas.y_scale.dots)]
    roles = [["text"] * canvas.x_scale.dots for _ in range(canvas.y_scale.dots)]
    uprights = [layer for layer in canvas.layers if layer.glyph in ":|"]
    for layer in [*uprights, *(layer for layer in canvas.layers if layer.glyph not in ":|")]:
        for column, mask in enumerate(layer.masks):
            row = 0
            while mask:
                if mask & 1:
                    texts[row][column], roles[row][column] = layer.glyph, layer.role
                mask >>= 1
                row += 1
    return texts, roles


def runs(texts: Sequence[str], roles: Sequence[str]) -> list[Run]:
    """One run a stretch of one colour; blanks take the colour before them, so that a gap does not cut a run."""
    found: list[Run] = []
    begin, role = 0, ""
    for at, (text, here) in enumerate(zip(texts, roles, strict=True)):
        if text != " " and here != role:
            if role:
                found.append(("".join(texts[begin:at]), role))
                begin = at
            role = here
    found.append(("".join(texts[begin:]), role or "text"))
    return found
