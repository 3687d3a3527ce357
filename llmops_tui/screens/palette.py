"""Colours by role. Widgets name roles, never colours: another palette changes every screen at once."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.style import Style

if TYPE_CHECKING:
    from textual.theme import Theme

# Blue, orange, green and violet of the Okabe–Ito order, lightened for a dark ground: told apart by every colour vision.
ROLES: dict[str, str] = {
    "text": "#c8ccd4",
    "bright": "bold #eef1f5",
    "muted": "#868e9c",
    "axis": "#6f7886",
    "faint": "#4b5360",
    "accent": "#6cb6ff",
    "title": "bold #6cb6ff",
    "good": "#7fc8a0",
    "warn": "#e3b341",
    "bad": "#f47067",
    "badge-good": "bold #0f1419 on #7fc8a0",
    "badge-warn": "bold #0f1419 on #e3b341",
    "badge-bad": "bold #0f1419 on #f47067",
    "key": "bold #c8ccd4",
    "mark": "#96832f",
    "cross": "#868e9c",
    "series-0": "#6cb6ff",
    "series-1": "#f0a04b",
    "series-2": "#7fc8a0",
    "series-3": "#c39bf0",
}

STATE_ROLES: dict[str, str] = {
    "queued": "muted",
    "blocked": "muted",
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

_PLAIN = {ord(sign): text for sign, text in zip("…·━─│●✓✗○◌◔◑×≤▴▸°⋯█–→", "~-=-|*+!o.>>x<^> ~#->", strict=True)}


def plain_text(text: str) -> str:
    """The same text in ASCII; what has no likeness becomes a question mark."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


@lru_cache(maxsize=256)
def style(role: str, ground: str) -> Style:
    """The style of a role on a background colour (`#rrggbb`)."""
    return Style(bgcolor=ground) + Style.parse(ROLES.get(role, ROLES["text"]))


def theme() -> Theme:
    """The same palette for Textual's own parts."""
    from textual.theme import Theme

    return Theme(
        name="llmops",
        primary="#6cb6ff",
        secondary="#c39bf0",
        warning="#e3b341",
        error="#f47067",
        success="#7fc8a0",
        accent="#6cb6ff",
        foreground="#c8ccd4",
        background="#0f1419",
        surface="#0f1419",
        panel="#1a212b",
        dark=True,
    )


def unicode_missing(environ: dict[str, str] | None = None) -> bool:
    """Whether charts must be ASCII: `LLMOPS_ASCII=1`, a locale without UTF-8, or the Linux console (no braille in its fonts)."""
    env = os.environ if environ is None else environ
    if "LLMOPS_ASCII" in env:
        return env["LLMOPS_ASCII"] not in ("", "0")
    if env.get("TERM") == "linux":
        return True
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C.UTF-8"
    return "utf" not in locale.lower()
