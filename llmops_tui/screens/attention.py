"""Calls for attention through the terminal: the bell, and desktop notifications by OSC 9 and OSC 777, through tmux too.

OSC 9 (iTerm2, kitty, WezTerm, Windows Terminal), OSC 777 (urxvt, foot, VTE, WezTerm). tmux hands on what is wrapped in its
pass-through sequence when `allow-passthrough` is on; the bell it always hands on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_LONGEST = 200


def sequences(title: str, text: str, *, bell: bool, desktop: str, environ: Mapping[str, str] = os.environ) -> str:
    """What to write to the terminal. `desktop`: auto, 9, 777, both or off."""
    out = "\a" if bell else ""
    if desktop == "auto":
        desktop = _known(environ)
    title, text = _safe(title), _safe(text)
    if desktop in ("9", "both"):
        out += _through(f"\x1b]9;{title}{': ' if text else ''}{text}\a", environ)
    if desktop in ("777", "both"):
        out += _through(f"\x1b]777;notify;{title};{text}\a", environ)
    return out


def _known(environ: Mapping[str, str]) -> str:
    """Which form the terminal is known to understand; none where it might print it."""
    program, term = environ.get("TERM_PROGRAM", ""), environ.get("TERM", "")
    if program in ("iTerm.app", "WezTerm", "ghostty") or "kitty" in term or "KITTY_WINDOW_ID" in environ or "WT_SESSION" in environ:
        return "9"
    if term.startswith(("rxvt", "foot")) or "VTE_VERSION" in environ:
        return "777"
    # Inside tmux and over ssh the terminal is not named; both forms are control strings that a terminal may ignore but not print.
    return "both" if "TMUX" in environ else "off"


def _through(sequence: str, environ: Mapping[str, str]) -> str:
    if "TMUX" not in environ:
        return sequence
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"


def _safe(text: str) -> str:
    """No control character and no field separator may come from a run's name or an error text."""
    return "".join(character if character.isprintable() and character != ";" else " " for character in text)[:_LONGEST]
