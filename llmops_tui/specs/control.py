"""What can be asked of a run while it goes on. Standard library only: the command line and the console import this."""

from __future__ import annotations

import json
from typing import Any, Literal

from llmops_tui.errors import UsageError

Command = Literal["checkpoint", "evaluate", "sample", "pause", "resume", "set"]
COMMANDS: tuple[Command, ...] = ("checkpoint", "evaluate", "sample", "pause", "resume", "set")

# hold: it keeps still with all its memory. free: it saves a checkpoint and ends, and goes on from there when it is resumed.
PauseMode = Literal["hold", "free"]

# What can be set while it runs, and what is said about it. The steps may be `none`: never.
SETTABLE: dict[str, str] = {
    "learning_rate_scale": "a factor of the schedule's learning rate, 0 to 1000",
    "checkpoint_every": "steps between checkpoints, or none",
    "evaluate_every": "steps between evaluations, or none",
}

# The job kinds whose jobs can save and go on later.
SAVES: frozenset[str] = frozenset({"train"})
# Those that read what is asked of them: a command of the user's may, by the file control.jsonl.
LISTENS: frozenset[str] = SAVES | {"command"}

# What is asked, in the words of a sentence: `the user asked it to …`.
WORDS: dict[str, str] = {"checkpoint": "save a checkpoint", "evaluate": "evaluate now", "sample": "sample now"}


def read_settings(words: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` each; `none` is never. Raises UsageError naming the word."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in SETTABLE:
            raise UsageError(f"{word!r} sets nothing that can be set while a run goes on", f"write KEY=VALUE with {', '.join(SETTABLE)}")
        if text in ("none", "null"):
            value: object = None
        else:
            try:
                value = json.loads(text)
            except ValueError:
                value = text
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise UsageError(f"{name}: {text!r} is not {SETTABLE[name]}", f"for example {name}={'0.5' if 'scale' in name else '100'}")
        settings[name] = value
    return settings
