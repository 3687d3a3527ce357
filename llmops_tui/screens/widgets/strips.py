"""Small graphics of one row: a history as braille columns, and a progress bar. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

_LEVELS_LEFT = "⠀⡀⡄⡆⡇"
_LEVELS_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)


def history_strip(values: Sequence[float | None], width: int, ascii_only: bool = False) -> str:
    """Fractions 0–1, newest last, as one row: two samples a braille cell, four levels each; unknown is blank."""
    if ascii_only:
        shown = [*([None] * width), *values][-width:]
        return "".join(" " if v is None else "_.-=#"[max(0, min(4, int(v * 5)))] for v in shown)
    shown = [*([None] * (2 * width)), *values][-2 * width :]
    heights = [0 if v is None else max(1, min(4, round(v * 4 + 0.2))) for v in shown]
    return "".join(chr(ord(_LEVELS_LEFT[a]) | _LEVELS_RIGHT[b]) for a, b in zip(heights[::2], heights[1::2], strict=True))


def bar(fraction: float, width: int, ascii_only: bool = False) -> str:
    """A progress bar of `width` cells with eighths."""
    fraction = min(1.0, max(0.0, fraction))
    if ascii_only:
        full = int(fraction * width)
        return "#" * full + "." * (width - full)
    eighths = int(fraction * width * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + ("" if full == width else "·▏▎▍▌▋▊▉"[part] + "·" * (width - full - 1))
