"""How a job's process ends: one `end` event whatever happens, a traceback in the log, an exit code."""

from __future__ import annotations

import errno
import json
import os
import resource
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.control import ControlChannel, StoppedError
from llmops_tui.engine.jobs.event_writer import open_events
from llmops_tui.engine.jobs.ranking import only_the_first_speaks
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import LlmopsError

Summary = dict[str, Any]
# Does the work; returns the summary and whether the run was stopped on request.
Job = Callable[[RunDir, dict[str, Any], Reporter], tuple[Summary, bool]]
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def run_job(job: Job, out_of_memory_advice: str) -> int:
    """Run `job` on `$LLMOPS_RUN_DIR`; returns the process's exit code."""
    run = RunDir(Path(os.environ["LLMOPS_RUN_DIR"]).absolute())
    only_the_first_speaks()
    events = open_events(run.path)
    reporter = Reporter(events, ControlChannel(run.path))
    status, error, code = "failed", "", 1
    more: dict[str, str] = {}
    summary: Summary = {}
    try:
        summary, stopped = job(run, json.loads(run.spec.read_bytes()), reporter)
        status, code = ("stopped" if stopped else "succeeded"), 0
    except StoppedError:
        status, code = "stopped", 0
        ending = reporter.control.ending
        told = "ends between two pieces of work; what was saved before is kept"
        events.write("control", command=ending.command or "stop", outcome=told, by=ending.who)
    except LlmopsError as problem:
        error, code = str(problem), problem.exit_code
        print(f"error: {error}", flush=True)
    except Exception as problem:  # noqa: BLE001 - the last line of defence: every end is told
        if is_full_disk(problem):
            error = _full_disk(problem, run)
        elif is_out_of_memory(problem):
            traceback.print_exc()
            status, error = "out_of_memory", f"{_first_line(problem)}; {out_of_memory_advice}"
            more["memory"] = memory_of(problem)
        else:
            traceback.print_exc()
            error = _first_line(problem)
        print(f"error: {error}", flush=True)
    events.write("end", status=status, summary=summary, error=error, **more)
    events.close()
    return code


def peak_rss_bytes() -> int:
    """The most memory this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def is_out_of_memory(problem: BaseException) -> bool:
    """MemoryError, torch's CUDA error, and the RuntimeError torch raises where the host has no more memory."""
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return True
    return isinstance(problem, RuntimeError) and ("can't allocate memory" in str(problem) or "out of memory" in str(problem).lower())


def is_full_disk(problem: BaseException) -> bool:
    """Also where the one who wrote is no Python: safetensors and torch raise errors of their own, with the system's words."""
    if isinstance(problem, OSError) and problem.errno in _NO_ROOM:
        return True
    return any(os.strerror(code) in str(problem) for code in _NO_ROOM)


def memory_of(problem: BaseException) -> str:
    """Whose memory ran out: "gpu" or "host"."""
    return "gpu" if type(problem).__name__ == "OutOfMemoryError" or "CUDA" in str(problem) or "HIP" in str(problem) else "host"


def _first_line(problem: BaseException) -> str:
    text = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {text[0]}" if text else type(problem).__name__


def _full_disk(problem: BaseException, run: RunDir) -> str:
    code = problem.errno if isinstance(problem, OSError) and problem.errno else errno.ENOSPC
    where = str(problem.filename) if isinstance(problem, OSError) and problem.filename else str(run.path)
    return f"{where}: {os.strerror(code)}; make room there, then `llmops-tui runs retry {run.id}`"
