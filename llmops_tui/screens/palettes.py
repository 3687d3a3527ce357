"""The palettes: what colour each role and each ground has. Another one is a table here, nothing else.

Series colours follow the Okabe–Ito order (Okabe and Ito, "Color Universal Design", 2008), shifted in lightness for the ground, so that
curves are told apart by every colour vision; states have a sign and a word beside their colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.theme import Theme

SERIES = 8
"""How many curves have a colour of their own."""


@dataclass(frozen=True)
class Palette:
    """`roles`: a Rich style each; `grounds`: "#rrggbb" each. Grounds: screen, bar, dialog, line, line-focus, cursor, cursor-idle."""

    name: str
    title: str
    dark: bool
    roles: dict[str, str]
    grounds: dict[str, str]

    def theme(self) -> Theme:
        """The same colours for Textual's own parts and for the style sheet (`$screen`, `$bar`, …)."""
        from textual.theme import Theme

        colours = {name: style.removeprefix("bold ") for name, style in self.roles.items() if " on " not in style}
        grounds = {f"ground-{name}": colour for name, colour in self.grounds.items()}
        roles = {f"role-{name}": colour for name, colour in colours.items()}
        return Theme(
            name=f"llmops-{self.name}",
            primary=colours["accent"],
            secondary=colours["series-3"],
            warning=colours["warn"],
            error=colours["bad"],
            success=colours["good"],
            accent=colours["accent"],
            foreground=colours["text"],
            background=self.grounds["screen"],
            surface=self.grounds["screen"],
            panel=self.grounds["bar"],
            dark=self.dark,
            variables={**grounds, **roles},
        )


def _palette(name: str, title: str, dark: bool, grounds: str, roles: str, series: str) -> Palette:
    """From short tables: `name=colour` pairs, and the series in order. Badges are written on the palette's ground."""
    ground = dict(pair.split("=") for pair in grounds.split())
    role = dict(pair.split("=") for pair in roles.split())
    named = {f"series-{number}": colour for number, colour in enumerate(series.split())}
    for strong in ("bright", "title", "key"):
        role[strong] = f"bold {role[strong]}"
    for badge in ("good", "warn", "bad"):
        named[f"badge-{badge}"] = f"bold {ground['screen']} on {role[badge]}"
    named["caret"] = f"{ground['screen']} on {role['text']}"
    return Palette(name, title, dark, {**role, **named}, ground)


_ALL = (
    _palette(
        "dark", "dark (default)", True,
        "screen=#0f1419 bar=#1a212b dialog=#141b24 line=#2b3542 line-focus=#3d5a80 cursor=#1f3047 cursor-idle=#1a212b",
        "text=#c8ccd4 bright=#eef1f5 muted=#868e9c axis=#6f7886 faint=#4b5360 accent=#6cb6ff title=#6cb6ff good=#7fc8a0 warn=#e3b341"
        " bad=#f47067 key=#c8ccd4 mark=#96832f cross=#868e9c",
        "#6cb6ff #f0a04b #7fc8a0 #c39bf0 #f0e078 #5fd7d7 #f08fb0 #c8ccd4",
    ),
    _palette(
        "light", "light", False,
        "screen=#fbfbf9 bar=#e9ebee dialog=#f2f3f5 line=#c9ced6 line-focus=#2f6db5 cursor=#d5e4f7 cursor-idle=#e9ebee",
        "text=#2b3038 bright=#0b0e12 muted=#666e7a axis=#767e8a faint=#b3bac4 accent=#0b5fb0 title=#0b5fb0 good=#1d7a46 warn=#8a5a00"
        " bad=#b3261e key=#2b3038 mark=#8a6d1a cross=#666e7a",
        "#0b5fb0 #b85c00 #1d7a46 #7b3fb5 #7a6a00 #007a80 #b0306a #2b3038",
    ),
    _palette(
        "contrast", "high contrast", True,
        "screen=#000000 bar=#1c1c1c dialog=#0a0a0a line=#8a8a8a line-focus=#ffffff cursor=#00408a cursor-idle=#303030",
        "text=#ffffff bright=#ffffff muted=#d0d0d0 axis=#d0d0d0 faint=#8a8a8a accent=#7fd4ff title=#7fd4ff good=#7dff9e warn=#ffe14d"
        " bad=#ff8a80 key=#ffe14d mark=#ffe14d cross=#ffffff",
        "#7fd4ff #ffb347 #7dff9e #e0b0ff #ffff87 #5fffff #ff9ecb #ffffff",
    ),
    _palette(
        "okabe-ito", "Okabe-Ito, for every colour vision", True,
        "screen=#101010 bar=#202020 dialog=#181818 line=#3a3a3a line-focus=#56b4e9 cursor=#123a52 cursor-idle=#202020",
        "text=#d6d6d6 bright=#ffffff muted=#969696 axis=#808080 faint=#555555 accent=#56b4e9 title=#56b4e9 good=#00b386 warn=#f0e442"
        " bad=#ff7f2a key=#d6d6d6 mark=#f0e442 cross=#969696",
        "#56b4e9 #e69f00 #00b386 #cc79a7 #f0e442 #3d8fd1 #ff7f2a #d6d6d6",
    ),
    # The sixteen colours of a VGA text console, written so that a terminal which has only those shows exactly these.
    _palette(
        "sixteen", "16 colours", True,
        "screen=#000000 bar=#000000 dialog=#000000 line=#555555 line-focus=#5555ff cursor=#0000aa cursor-idle=#000000",
        "text=#aaaaaa bright=#ffffff muted=#aaaaaa axis=#aaaaaa faint=#555555 accent=#55ffff title=#55ffff good=#55ff55 warn=#ffff55"
        " bad=#ff5555 key=#ffffff mark=#aa5500 cross=#ffffff",
        "#55ffff #ffff55 #55ff55 #ff55ff #5555ff #aa5500 #ff5555 #ffffff",
    ),
)  # fmt: skip

PALETTES: dict[str, Palette] = {palette.name: palette for palette in _ALL}
