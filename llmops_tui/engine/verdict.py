"""How an attempt ended: from exit.json, the job's own `end` event and what was asked of it. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmops_tui.engine.live_run import StopMode

_LATER: frozenset[str] = frozenset({"pause", "preempt", "rollback"})
_FROM_END = {"succeeded": "succeeded", "failed": "failed", "stopped": "cancelled", "out_of_memory": "out_of_memory"}


@dataclass(frozen=True)
class Verdict:
    """The state an attempt ends in; `paused` where it was asked to, and goes on later. `again`: whether another one could
    end better. `advice`: settings that a new run could try."""

    state: str
    reason: str
    exit_code: int | None = None
    again: bool = True
    advice: Mapping[str, Any] = field(default_factory=dict)


def judge(
    exit_record: Mapping[str, Any] | None,
    end: Mapping[str, Any] | None,
    stop: StopMode,
    *,
    rebooted: bool = False,
    timed_out: bool = False,
    quiet_seconds: float = 0,
) -> Verdict:
    """`exit_record` is exit.json (None: the shim died with its job unwatched), `end` the attempt's `end` event if it told one.

    `timed_out` says that the engine ended it by its timeout because no shim was left to do so.
    """
    status = str(end.get("status")) if end else ""
    error = str(end.get("error") or "") if end else ""
    if exit_record is None:
        return _without_exit(end, status, error, stop, rebooted, timed_out, quiet_seconds)
    code, number, how = exit_record.get("code"), exit_record.get("signal"), exit_record.get("reason")
    detail = str(exit_record.get("detail") or "")
    exit_code = code if isinstance(code, int) else (128 + number if isinstance(number, int) else None)
    if how == "exec_failed":
        return Verdict("failed", f"could not be started: {detail}", exit_code, again=False)
    if stop == "hang" and how == "stopped":
        return Verdict("hung", _quiet(quiet_seconds), exit_code)
    if status == "out_of_memory":
        return Verdict("out_of_memory", _memory_words(end, error), exit_code)
    if _killed_for_memory(exit_record):
        return Verdict("out_of_memory", "the memory of the host ran out: the kernel killed it", exit_code)
    if how == "timeout":
        return Verdict("failed", "ended by its timeout", exit_code)
    if how == "stopped":
        if stop in _LATER:
            return Verdict("paused", "", exit_code)
        if stop in ("now", "checkpoint"):
            return Verdict("cancelled", "stopped by the user", exit_code)
        if status == "succeeded" and code == 0:
            return Verdict("succeeded", "", exit_code)
        return Verdict("lost", "ended from outside: its shim was terminated (a shutdown?)", exit_code)
    if code == 0:
        if status == "stopped" and stop in _LATER:
            return Verdict("paused", "", exit_code)
        if status == "stopped":
            return Verdict("cancelled", "stopped by the user" if stop else "stopped from outside", exit_code)
        return Verdict("succeeded", "", exit_code)
    return Verdict("failed", error or _how_it_died(code, number), exit_code)


def _without_exit(
    end: Mapping[str, Any] | None, status: str, error: str, stop: StopMode, rebooted: bool, timed_out: bool, quiet_seconds: float
) -> Verdict:
    if stop in _LATER and status not in ("failed", "succeeded", "out_of_memory"):
        return Verdict("paused", "")  # a power cut while it was saving: it goes on from its newest whole checkpoint
    if status in _FROM_END:
        return Verdict(_FROM_END[status], _memory_words(end, error) if status == "out_of_memory" else error)
    if stop == "hang":
        return Verdict("hung", _quiet(quiet_seconds))
    if stop:
        return Verdict("cancelled", "stopped by the user")
    if timed_out:
        return Verdict("failed", "ended by its timeout")
    if rebooted:
        return Verdict("lost", "the machine was restarted")
    return Verdict("lost", "its shim was killed, so nobody saw how it ended")


def _memory_words(end: Mapping[str, Any] | None, error: str) -> str:
    """Whose memory it was, as the job told it."""
    whose = {"gpu": "the memory of the GPU ran out", "host": "the memory of the host ran out"}.get(str((end or {}).get("memory")))
    return ": ".join(part for part in (whose, error) if part) or "out of memory"


def _killed_for_memory(exit_record: Mapping[str, Any]) -> bool:
    """Killed by SIGKILL (137: told on by a shell) while the kernel's count of such kills rose (the shim looked before and after).

    The control group's own count has the last word; the whole box's may be of somebody else's process, and counts where there is no other.
    """
    kills = exit_record.get("oom_kills")
    killed = exit_record.get("signal") == signal.SIGKILL or exit_record.get("code") == 128 + signal.SIGKILL
    if not killed or not isinstance(kills, dict):
        return False
    count = kills.get("group", kills.get("box"))
    return isinstance(count, int) and count > 0


def _quiet(seconds: float) -> str:
    return f"neither an event nor a line of output for {seconds:g} s"


def _how_it_died(code: object, number: object) -> str:
    if isinstance(number, int):
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        hint = " (the kernel kills so when memory runs out: see dmesg)" if number == signal.SIGKILL else ""
        return f"killed by {name}{hint}"
    return f"exit code {code}"
