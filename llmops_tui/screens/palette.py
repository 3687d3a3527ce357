"""Colours by role. Widgets name roles, never colours: another palette changes every screen at once."""

from __future__ import annotations

import os
from functools import lru_cache

from rich.style import Style

from llmops_tui.screens.palettes import PALETTES, Palette

STATE_ROLES: dict[str, str] = {
    "queued": "muted",
    "blocked": "muted",
    "paused": "warn",
    "starting": "accent",
    "running": "accent",
    "stopping": "warn",
    "succeeded": "good",
    "failed": "bad",
    "cancelled": "muted",
    "out_of_memory": "bad",
    "hung": "bad",
    "lost": "bad",
}
STATE_SIGNS: dict[str, str] = {
    "queued": "◌",
    "blocked": "◌",
    "paused": "◑",
    "starting": "◔",
    "running": "●",
    "stopping": "◑",
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "○",
    "out_of_memory": "✗",
    "hung": "✗",
    "lost": "✗",
}

_PLAIN = {ord(sign): text for sign, text in zip("…·━─│●✓✗○◌◔◑×≤▴▸°⋯█–→▲▼■□←↑↓≥", "~-=-|*+!o.>>x<^> ~#->^v#.<^v>", strict=True)}
_current: Palette = PALETTES["dark"]


def current() -> Palette:
    """The palette in use."""
    return _current


def use(palette: Palette) -> None:
    """Draw with this palette from now on; widgets keep strips of the old one until their style is updated."""
    global _current
    _current = palette
    style.cache_clear()


def plain_text(text: str) -> str:
    """The same text in ASCII; what has no likeness becomes a question mark."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


@lru_cache(maxsize=1024)
def style(role: str, ground: str) -> Style:
    """The style of a role on a ground: a name of the palette's grounds, or `#rrggbb`."""
    roles = _current.roles
    return Style(bgcolor=_current.grounds.get(ground, ground)) + Style.parse(roles.get(role, roles["text"]))


def unicode_missing(environ: dict[str, str] | None = None) -> bool:
    """Whether charts must be ASCII: `LLMOPS_ASCII=1`, a locale without UTF-8, or the Linux console (no braille in its fonts)."""
    env = os.environ if environ is None else environ
    if "LLMOPS_ASCII" in env:
        return env["LLMOPS_ASCII"] not in ("", "0")
    if env.get("TERM") == "linux":
        return True
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C.UTF-8"
    return "utf" not in locale.lower()
