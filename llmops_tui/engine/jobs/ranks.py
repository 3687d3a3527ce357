"""Several processes that train one model, as one job: `python -m llmops_tui.engine.jobs.ranks COUNT KIND [--address=PLACE] [HOST …]`.

It gives each rank what torchrun would (RANK, WORLD_SIZE, MASTER_ADDR …), hands TERM on, and tells one end for all. Unlike torchrun it
imports no torch, and knows why a rank ended: each leaves its `end` event for it (rank_group.py), and the rank that failed first is
told, not those that then lost their peer. Once a rank is gone that the others need, they have a few seconds. Killed itself, the shim
sweeps up the ranks with everything else below it, and those of other boxes (other_box.py) end with their connection.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from llmops_tui.engine.jobs.adjustments import VARIABLE
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.jobs.meeting import free_port, interface_here, own_address, versions
from llmops_tui.engine.jobs.other_box import OtherBox
from llmops_tui.engine.jobs.rank_group import LocalRanks, Rank, RankGroup, environment_of
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import find_home
from llmops_tui.specs.train_processes import split_address

# How long the others may go on once one is gone that they need: long enough to write why they end.
_ALONE_SECONDS = 5.0
_ANSWER_SECONDS = 60.0  # until another box says a word; looking through its files may take as long as it takes
_TURN_SECONDS = 0.05
# Of this environment the ranks elsewhere get what the run asked for itself, and these; the rest is this box's own.
_HANDED_ON = ("LLMOPS_ATTEMPT", "LLMOPS_CONTROL_BYTES", "LLMOPS_RUN_ID", "PYTHONUNBUFFERED", "TOKENIZERS_PARALLELISM", VARIABLE)
_HANDED_ON_FAMILIES = ("GLOO_", "NCCL_", "OMP_", "TORCH_")


@dataclass(frozen=True)
class _Meeting:
    """Where the ranks meet, and what all of them are given."""

    world: int
    address: str
    port: int


class _Asked:
    """Whether TERM came; `_wait` hands it on, for a signal's handler may not wait for a connection that is in use."""

    def __init__(self) -> None:
        self.to_end = False
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, _signal: int, _frame: FrameType | None) -> None:
        self.to_end = True


def main(arguments: list[str]) -> int:
    """Run the ranks to their end; returns the job's exit code."""
    address, hosts = "", arguments[2:]
    if hosts and hosts[0].startswith("--address="):
        address, hosts = hosts[0].removeprefix("--address="), hosts[1:]
    run = Path(os.environ["LLMOPS_RUN_DIR"])
    asked = _Asked()
    try:
        end, code = _train(int(arguments[0]), arguments[1], hosts, address, run, asked)
    except LlmopsError as problem:
        print(f"error: {problem}", flush=True)
        end, code = {"status": "failed", "summary": {}, "error": str(problem)}, problem.exit_code
    except Exception as problem:  # noqa: BLE001 - the last line of defence: every end is told
        traceback.print_exc()
        end, code = {"status": "failed", "summary": {}, "error": f"{type(problem).__name__}: {problem}"}, 1
    events = EventWriter(run)
    events.write("end", **end)
    events.close()
    return code


def _train(count: int, kind: str, hosts: Sequence[str], address: str, run: Path, asked: _Asked) -> tuple[dict[str, Any], int]:
    here = LocalRanks(0)
    others: list[OtherBox] = []
    try:
        for number, host in enumerate(hosts, 1):
            others.append(OtherBox(host, count * number, count))
        if others:
            _ask(others, kind, run, asked)
            _send(others, run, asked)
        if not asked.to_end:
            _begin(count, kind, here, others, _meet(count, others, address), run)
            _wait([here, *others], asked)
        return _told([*here.ranks, *(rank for other in others for rank in other.ranks)], asked.to_end)
    finally:
        here.end()
        for other in others:
            other.close()


def _ask(others: Sequence[OtherBox], kind: str, run: Path, asked: _Asked) -> None:
    """Have every other box look whether it can take part. Raises what one says against it; nothing has started then."""
    record = json.loads((run / "spec.json").read_bytes())
    print(f"asking {', '.join(other.host for other in others)}", flush=True)
    with _mark(run) as mark:
        wish = {
            "kind": kind, "run": str(run), "mark": mark, "record": record, "versions": versions(),
            "strategy": record["spec"]["processes"]["strategy"],
            "gpus": _gpus_here(),
        }  # fmt: skip
        for other in others:
            other.ask(wish)
        _until(others, lambda other: bool(other.seen), asked)


def _send(others: Sequence[OtherBox], run: Path, asked: _Asked) -> None:
    """Have every other box hold what its ranks read of the run: to all at once, and before any rank starts to wait for the others."""
    if asked.to_end:
        return
    resume = os.environ.get("LLMOPS_RESUME_FROM", "")
    files = [run / "spec.json", *(sorted(path for path in Path(resume).rglob("*") if path.is_file()) if resume else ())]
    for other in others:
        if not other.seen["shared"]:
            size = sum(file.stat().st_size for file in files)
            print(f"{other.host} does not see the run's directory: {size / 1e6:,.1f} MB are sent", flush=True)
        other.send(run, files)
    _until(others, lambda other: other.ready, asked)


def _until(others: Sequence[OtherBox], done: Callable[[OtherBox], bool], asked: _Asked) -> None:
    """Until that holds for each, or the run is to end. Raises what is wrong with one."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not asked.to_end and not all(map(done, others)):
        for other in others:
            other.poll()
            if other.problem is not None:
                raise other.problem
            if not other.heard and time.monotonic() > deadline:
                raise LlmopsError(f"{other.host} said nothing for {_ANSWER_SECONDS:g} s", f"try `ssh {other.host} llmops-tui --version`")
        time.sleep(_TURN_SECONDS)


def _gpus_here() -> str:
    """The kind of GPU that this box's ranks have; empty where they have none."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("ROCR_VISIBLE_DEVICES")
    if not told:
        return ""
    from llmops_tui.engine.jobs.gpu_kind import gpus_now, kind_of_first

    kind = kind_of_first(told.split(","), gpus_now(find_home(None)))
    if not kind:
        raise LlmopsError(f"the GPU {told.split(',')[0]} of this box does not say what it is", "see `llmops-tui gpus`")
    return kind


@contextmanager
def _mark(run: Path) -> Iterator[str]:
    """The name of a file that only who sees this very directory can know of."""
    mark = run / f".ranks-{secrets.token_hex(8)}"
    mark.write_bytes(b"")
    try:
        yield mark.name
    finally:
        mark.unlink(missing_ok=True)


def _meet(count: int, others: Sequence[OtherBox], address: str) -> _Meeting:
    """Among ranks of this box on the loopback; else where `address` says, or where the first of the others sees us."""
    if not others:
        return _Meeting(count, "127.0.0.1", free_port("127.0.0.1"))
    name, port = split_address(address) if address else (str(others[0].seen["client"]), 0)
    if not name:
        raise LlmopsError(f"{others[0].host} does not say as what it sees this box", "set processes.address to an address of this box")
    place = own_address(name, others[0].host)
    return _Meeting(count * (1 + len(others)), place, port or free_port(place))


def _begin(count: int, kind: str, here: LocalRanks, others: Sequence[OtherBox], meeting: _Meeting, run: Path) -> None:
    """Start all ranks."""
    environment = dict(os.environ)
    if (threads := environment.get("OMP_NUM_THREADS", "")).isdecimal():
        environment["OMP_NUM_THREADS"] = str(max(1, int(threads) // count))
    if others:
        record = json.loads((run / "spec.json").read_bytes())
        resume = environment.get("LLMOPS_RESUME_FROM", "")
        wish = {
            "env": {**_handed_on(environment), **record["spec"]["env"]}, "resume": os.path.relpath(resume, run) if resume else "",
            "world": meeting.world, "address": meeting.address, "port": meeting.port,
        }  # fmt: skip
        for other in others:
            other.begin(wish)
        environment |= interface_here(meeting.address, environment)
    else:
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    environment |= environment_of(meeting.world, count, meeting.address, meeting.port)
    for _ in range(count):
        here.start(kind, environment)


def _handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name in _HANDED_ON or name.startswith(_HANDED_ON_FAMILIES) or name.endswith("_OFFLINE")
    }


def _wait(groups: Sequence[RankGroup], asked: _Asked) -> None:
    """Until all are gone, with TERM handed on. Rank 0 saves after the others are done, so their success is no reason to end it."""
    deadline: float | None = None
    ranks = [rank for group in groups for rank in group.ranks]
    gone: set[int] = set()
    handed_on = False
    while len(gone) < len(ranks):
        if asked.to_end and not handed_on:
            handed_on = True
            for group in groups:
                group.terminate()
        for group in groups:
            group.poll()
        for rank in ranks:
            if rank.code is not None and rank.number not in gone:
                gone.add(rank.number)
                if deadline is None and (rank.number == 0 or rank.status != "succeeded"):
                    deadline = time.monotonic() + _ALONE_SECONDS
        if deadline is not None and time.monotonic() >= deadline:
            for group in groups:
                group.kill()
            deadline = None if len(gone) == len(ranks) else time.monotonic() + _ALONE_SECONDS
        time.sleep(_TURN_SECONDS)


def _told(ranks: Sequence[Rank], asked_to_end: bool) -> tuple[dict[str, Any], int]:
    """The fields of the one end event, and the exit code: rank 0's, unless another is the reason."""
    if all(rank.code is None for rank in ranks):
        return {"status": "stopped", "summary": {}, "error": ""}, 0  # TERM before any of them was started
    first = ranks[0]
    if first.status == "succeeded":
        return _fields(first.end), 0  # its last word, whatever became of it after that
    out_of_memory = any(rank.status == "out_of_memory" for rank in ranks)
    if not out_of_memory and (lost := next((rank for rank in ranks if rank.lost), None)):
        then = "the other ranks were ended; `runs retry` goes on from the last checkpoint"
        return {"status": "failed", "summary": {}, "error": f"rank {lost.number} of {len(ranks)} was lost: {lost.lost}; {then}"}, 1
    silent = [rank for rank in ranks if not rank.end and not rank.killed_by_us and not rank.lost]
    if silent and not asked_to_end:
        rank = min(silent, key=lambda rank: rank.ended_at or 0.0)
        code = rank.code or 1
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code} and without a word"
        error = f"{_name(rank, ranks)} {how}; the other ranks were ended; see the log; `runs retry` goes on from the last checkpoint"
        return {"status": "failed", "summary": {}, "error": error}, 128 - code if code < 0 else code
    for wanted in ("out_of_memory", "stopped", "failed"):
        of_it = [rank for rank in ranks if rank.status == wanted]
        if of_it:
            rank = min(of_it, key=lambda rank: (float(rank.end["t"]), rank.number))
            if wanted == "stopped":
                return _fields(first.end if first.status == "stopped" else rank.end), 0
            fields = _fields(rank.end)
            return {**fields, "error": f"{_name(rank, ranks)}: {fields['error']}"}, rank.code or 1
    return {"status": "stopped", "summary": {}, "error": ""}, 0  # TERM before any of them could tell


def _name(rank: Rank, ranks: Sequence[Rank]) -> str:
    return f"rank {rank.number} of {len(ranks)}" + (f" on {rank.host}" if rank.host else "")


def _fields(end: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in end.items() if name not in ("t", "seq", "attempt", "type")}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
