"""Following a run to its end: at most a line a second, one line that changes on a terminal, over restarts of the engine."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from llmops_tui.client import Client
from llmops_tui.commands.output import coloured, duration, number, one_line, print_json_line, say
from llmops_tui.commands.status import progress_text
from llmops_tui.errors import EngineUnavailableError, GateFailedError
from llmops_tui.specs.states import ENDED

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail, RunSummary

_POLL_SECONDS = 1.0
_NOTES = ("checkpoint", "sample", "artifact", "log")
_EXIT_CODES = {"succeeded": 0, "cancelled": 130, "out_of_memory": 5}


def exit_code_of(run: RunSummary) -> int:
    """The command line's exit code for how a run ended: 0 succeeded, 130 cancelled, 5 out of memory, 3 its gate failed, 1 all else."""
    if run["state"] == "failed" and run["kind"] != "command" and run["exit_code"] == GateFailedError.exit_code:
        return GateFailedError.exit_code
    return _EXIT_CODES.get(run["state"], 1)


def follow(client: Client, run_id: str) -> int:
    """Print progress on stderr until the run ends, then a summary on stdout; the exit code of its end."""
    detail = follow_to_end(client, run_id)
    print_summary(client, detail)
    return exit_code_of(detail)


def follow_to_end(client: Client, run_id: str) -> RunDetail:
    """Print progress on stderr until the run ends; what it was then.

    Ctrl-C leaves the run alone and raises KeyboardInterrupt after saying so.
    """
    line = ProgressLine()
    try:
        return _watch(client, run_id, line)
    except KeyboardInterrupt:
        line.end()
        say(f"{run_id} goes on; `llmops-tui runs watch {run_id}` watches it again, `llmops-tui runs stop {run_id}` stops it")
        raise
    finally:
        line.end()


def follow_json(client: Client, run_id: str) -> int:
    """Every event of the run as a JSON line, then one line `{"type": "state", …}`; the exit code of its end."""
    client.run(run_id)  # a run that does not exist is an error, not an empty stream
    for item in client.stream_run(run_id):
        print_json_line(item.event)
    detail = _ended(client, run_id)
    print_json_line(
        {"type": "state", "run": run_id, "state": detail["state"], "reason": detail["reason"], "exit_code": detail["exit_code"]}
    )
    return exit_code_of(detail)


def print_summary(client: Client, detail: RunDetail) -> None:
    """How it ended, what came out, in a few lines on stdout."""
    took = ""
    if detail["started_at"] is not None and detail["ended_at"] is not None:
        took = f" after {duration(detail['ended_at'] - detail['started_at'])}"
    state = coloured(detail["state"], "32" if detail["state"] == "succeeded" else "31")
    reason = f": {one_line(detail['reason'])}" if detail["reason"] and detail["state"] != "succeeded" else ""
    print(f"{detail['id']} {state}{took}{reason}")
    for key, value in end_summary(client, detail["id"]).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            print(f"  {key}  {number(value)}")
        elif isinstance(value, str) and value:
            print(f"  {key}  {one_line(value)}")
    if detail["state"] not in ("succeeded", "cancelled"):
        say(f"its output: llmops-tui runs logs {detail['id']} --tail 40")


def end_summary(client: Client, run_id: str) -> dict[str, Any]:
    """What the job itself said at its end; empty when it did not come to say anything."""
    ends = client.run_events(run_id, types=["end"])
    summary = ends[-1].get("summary") if ends else None
    return summary if isinstance(summary, dict) else {}


class ProgressLine:
    """One line that is rewritten on a terminal; lines of their own elsewhere. All on stderr: stdout is for data."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._width = 0
        self._last = ""

    def show(self, text: str) -> None:
        """Say how far it is; nothing is printed twice."""
        if text == self._last:
            return
        self._last = text
        if not self._live:
            say(text)
            return
        import shutil

        shown = text[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + shown.ljust(self._width))
        sys.stderr.flush()
        self._width = len(shown)

    def note(self, text: str) -> None:
        """A line that stays."""
        self.end()
        say(text)

    def end(self) -> None:
        """Close the line that changes."""
        if self._live and self._width:
            sys.stderr.write("\n")
            self._width = 0
            self._last = ""


def _watch(client: Client, run_id: str, line: ProgressLine) -> RunDetail:
    seen = 0
    while True:
        try:
            detail = client.run(run_id)
            for event in client.run_events(run_id, after=seen, types=_NOTES):
                seen = max(seen, int(event["offset"]))
                if text := _note(event):
                    line.note(text)
        except EngineUnavailableError:
            line.note("the engine is gone, the run is not; connecting again …")
            _reconnect(client)
            continue
        if detail["state"] in ENDED:
            return detail
        line.show(_progress(detail))
        time.sleep(_POLL_SECONDS)


def _reconnect(client: Client) -> None:
    """Wait out a restart; start the engine where nobody else does. Raises EngineUnavailableError when that fails too."""
    for attempt in range(5):
        try:
            client.ensure_engine()
            return
        except EngineUnavailableError:
            if attempt == 4:
                raise
            time.sleep(_POLL_SECONDS)


def _ended(client: Client, run_id: str) -> RunDetail:
    """The run once its final state is published; the stream ends a moment before."""
    while True:
        detail = client.run(run_id)
        if detail["state"] in ENDED:
            return detail
        time.sleep(0.1)


def _progress(detail: RunDetail) -> str:
    state, latest = detail["state"], detail["latest"]
    if state in ("queued", "blocked", "starting"):
        return f"{detail['id']} {state}" + (f": {one_line(detail['reason'])}" if detail["reason"] else "")
    parts = [progress_text(detail["progress"]) or state]
    if state in ("stopping", "paused"):
        parts.append(state)
    for metric, label in (("train/loss", "loss"), ("eval/loss", "held-out loss"), ("perf/tokens_per_second", "tokens/s")):
        if metric in latest:
            parts.append(f"{label} {number(latest[metric])}")
    return f"{detail['id']} " + "  ".join(parts)


def _note(event: dict[str, Any]) -> str:
    kind, step = event.get("type"), event.get("step")
    if kind == "checkpoint":
        return f"  checkpoint at step {step}"
    if kind == "control":
        return one_line(f"  {event.get('command', 'asked')} at step {step}: {event.get('outcome', '')}")
    if kind == "sample":
        return one_line(f"  sample at step {step}: {str(event.get('prompt', ''))[:60]!r} -> {str(event.get('text', ''))[:160]!r}")
    if kind == "artifact":
        return one_line(f"  {event.get('artifact', 'artifact')} {event.get('name', '')}: {event.get('path', '')}")
    if kind == "log" and event.get("level") in ("info", "warning", "error"):
        return one_line(f"  {event['level']}: {event.get('message', '')}")
    return ""
