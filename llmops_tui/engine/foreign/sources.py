"""Where a program's own logs lie: found by name below its directories. Standard library only."""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

SourceKind = Literal["tensorboard", "wandb", "trainer"]
# What is known of somebody's log in words; the order is that of preference: those written at each step come first.
KINDS: dict[SourceKind, str] = {
    "tensorboard": "TensorBoard",
    "wandb": "Weights & Biases, offline",
    "trainer": "trainer_state.json of the Transformers trainer",
}
_MOST_ENTRIES = 20_000
_DEEPEST = 8
_NOT_BELOW = frozenset({"node_modules", "__pycache__", "site-packages", "artifacts"})
_OPTIONS = "output_dir|output-dir|logging_dir|logging-dir|log_dir|log-dir|logdir|save_dir|save-dir|out_dir|out-dir"
_OPTION = re.compile(rf"--?(?:{_OPTIONS})(?:=(.+))?")
_SETTING = re.compile(rf"""^\s*["']?(?:{_OPTIONS})["']?\s*[:=]\s*["']?([^"'#\n,]+)""", re.MULTILINE)
_LARGEST_CONFIG_BYTES = 1 << 20
_ENVIRONMENT = ("TENSORBOARD_LOGGING_DIR", "WANDB_DIR")


class Source(NamedTuple):
    """One log. `group` is the same for all files that repeat one history."""

    kind: SourceKind
    path: Path
    group: str


def kind_of(name: str) -> SourceKind | None:
    """By the file's name."""
    if "tfevents" in name and name.startswith("events.out."):
        return "tensorboard"
    if name == "trainer_state.json":
        return "trainer"
    return "wandb" if name.endswith(".wandb") else None


def find_sources(roots: Sequence[Path], since: float) -> list[Source]:
    """Logs below the directories (or files) that were written after `since` (Unix seconds), oldest name first.

    Links are not followed, hidden directories and those of packages left out; no more than some thousand entries are looked at.
    """
    found: dict[str, Source] = {}
    budget = _MOST_ENTRIES
    for root in roots:
        waiting = deque([(str(root), 0)])
        while waiting and budget > 0:  # what lies near comes first: a large tree is not walked to its end
            directory, depth = waiting.popleft()
            try:
                with os.scandir(directory) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except NotADirectoryError:
                _note(Path(directory), since, found)
                continue
            except OSError:
                continue  # not there yet, or not for this user
            budget -= len(listed)
            for entry in listed:
                if entry.is_dir(follow_symlinks=False):
                    if depth < _DEEPEST and not entry.name.startswith(".") and entry.name not in _NOT_BELOW:
                        waiting.append((entry.path, depth + 1))
                elif kind_of(entry.name):
                    _note(Path(entry.path), since, found)
    return sorted(found.values(), key=lambda source: (list(KINDS).index(source.kind), str(source.path)))


def _note(path: Path, since: float, found: dict[str, Source]) -> None:
    kind = kind_of(path.name)
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return
    if kind is None or not stat.S_ISREG(status.st_mode) or status.st_mtime < since:
        return
    folder = path.parent.parent if kind == "trainer" and path.parent.name.startswith("checkpoint-") else path.parent
    real = os.path.realpath(path)
    found[real] = Source(kind, Path(real), os.path.realpath(folder) if kind == "trainer" else real)


def output_directories(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> list[Path]:
    """Where the command itself says that it writes: `--output_dir X`, or `output_dir:` in a YAML or JSON file it is given."""
    said: list[str] = []
    for place, word in enumerate(argv):
        if match := _OPTION.fullmatch(word):
            said += [match.group(1)] if match.group(1) else list(argv[place + 1 : place + 2])
        elif word.endswith((".yaml", ".yml", ".json")):
            said += _said_in(cwd / word)
    said += [env[name] for name in _ENVIRONMENT if env.get(name)]
    return list(dict.fromkeys(Path(os.path.abspath(cwd / os.path.expanduser(one.strip()))) for one in said if one.strip()))


def _said_in(path: Path) -> list[str]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_CONFIG_BYTES:
            return []
        return [text.strip() for text in _SETTING.findall(path.read_text("utf-8", "replace"))]
    except OSError:
        return []
