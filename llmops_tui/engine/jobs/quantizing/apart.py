"""A script of ours run by another Python: settings in, an answer out, its progress told, ended with the job."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_tui.errors import LlmopsError

Progress = Callable[[float, float | None], None]
_LAST_LINES = 20


def run_apart(python: str, script: str, settings: dict[str, Any], workspace: Path, progress: Progress) -> dict[str, Any]:
    """Run `script` (a file that needs nothing of ours) with `settings` and `answer` in a file; what it answered.

    It inherits the job's output file and locks, so that whatever ends the job ends it too. Raises LlmopsError with its last words.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    name = Path(script).stem
    asked, answer = workspace / f"{name}.json", workspace / f"{name}.answer.json"
    answer.unlink(missing_ok=True)
    asked.write_text(json.dumps({**settings, "answer": str(answer)}))
    # Its directory first on the path would shadow packages by our modules' names: -I leaves it out.
    with subprocess.Popen(
        [python, "-I", script, str(asked)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", close_fds=False
    ) as child:
        try:
            last = _follow(child, progress)
        except BaseException:
            child.terminate()
            raise
    if child.returncode or not answer.exists():
        ended = f"signal {-child.returncode}" if child.returncode < 0 else f"code {child.returncode}"
        words = next((line for line in reversed(last) if line.strip()), "it said nothing")
        raise LlmopsError(f"{name} ended with {ended}: {words}", "the run's log has what it wrote; see `llmops-tui runtimes check`")
    found: dict[str, Any] = json.loads(answer.read_bytes())
    return found


def _follow(child: subprocess.Popen[str], progress: Progress) -> list[str]:
    last: list[str] = []
    assert child.stdout is not None
    for line in child.stdout:
        words = line.split()
        if len(words) >= 3 and words[0] == "progress":
            progress(float(words[1]), float(words[2]))
        else:
            print(line, end="", flush=True)
            last = [*last[-_LAST_LINES:], line.rstrip()]
    return last
