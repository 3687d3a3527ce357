"""What runs inside an imported run: `python -m llmops_tui.engine.foreign.import_logs PATH` reads an old run's logs into this run's events.

A job like any other, with its user's rights; ended by a kill it goes on where it was at the next attempt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llmops_tui.engine.foreign.look import Memory, Wanted, look
from llmops_tui.engine.foreign.names import is_part_folder
from llmops_tui.engine.foreign.sources import KINDS, Source, find_sources

_SHOWN = 5


def main(arguments: Sequence[str]) -> int:
    """0, or 1 with the reason as the last line."""
    path = Path(os.path.abspath(os.path.expanduser(arguments[0])))
    problem = obstacle(path, find_sources([path], 0.0))
    if problem:
        print(problem, flush=True)
        return 1
    run_dir, attempt = Path(os.environ["LLMOPS_RUN_DIR"]), int(os.environ.get("LLMOPS_ATTEMPT", "1"))
    memory = Memory()
    look(Wanted(run_dir, attempt, (path,), 0.0), memory, final=True)
    if not memory.numbers:
        print(f"{path}: the logs hold no metrics", flush=True)
        return 1
    for log in memory.numbers:
        print(f"read {log}", flush=True)
    return 0


def obstacle(path: Path, found: Sequence[Source]) -> str:
    """Why this is not one run's logs; empty where it is."""
    if not path.exists():
        return f"{path}: no such file or directory"
    if not found:
        return f"{path}: no TensorBoard event file, no .wandb file and no trainer_state.json here or below"
    chosen = [source for source in found if source.kind == found[0].kind]
    runs = sorted({_home(source) for source in chosen})
    if len(runs) > 1:
        shown = ", ".join(runs[:_SHOWN]) + (", …" if len(runs) > _SHOWN else "")
        return f"{path} holds the logs of {len(runs)} runs ({KINDS[found[0].kind]}): import one of {shown}"
    return ""


def _home(source: Source) -> str:
    """The directory that stands for a run: parts of one (train, validation) lie side by side."""
    if source.kind != "tensorboard":
        return source.group
    folder = source.path.parent
    return str(folder.parent if is_part_folder(folder.name) else folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
