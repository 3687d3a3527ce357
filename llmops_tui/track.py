"""Tell llmops-tui how your own training program is doing: three lines, standard library only.

    from llmops_tui import track
    for step in range(1, 1001):
        ...
        track.metric(step, loss=loss, lr=rate)

Everything appends one line to `$LLMOPS_RUN_DIR/events.jsonl`, so that a kill -9 loses nothing that was told. Outside a run nothing
happens but one warning. Nothing here ever raises into the training: what cannot be told is said once on stderr. Of several ranks only
rank 0 tells, unless `every_rank()` was called.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import ParamSpec

from llmops_tui.engine.foreign.names import our_name
from llmops_tui.engine.jobs.event_writer import EventWriter

__all__ = [
    "artifact", "checkpoint", "checkpoint_requested", "every_rank", "log", "metric", "model", "phase", "progress", "resume_from",
    "sample", "stop_requested",
]  # fmt: skip

_BEAT_SECONDS = 1.0
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_POINTER = "where.json"
P = ParamSpec("P")


class _Told:
    """What this process has told so far."""

    def __init__(self) -> None:
        self.writer: EventWriter | None = None
        self.opened = False
        self.all_ranks = False
        self.warned: set[str] = set()
        self.names: dict[str, str] = {}
        self.phase, self.unit, self.total = "train", "steps", None  # type: str, str, float | None
        self.began = self.beaten = time.monotonic()
        self.began_at: float | None = None
        self.control_offset: int | None = None
        self.stop = self.save = self.listening = False


_told = _Told()


def _warn(key: str, text: str) -> None:
    if key not in _told.warned:
        _told.warned.add(key)
        with contextlib.suppress(OSError, ValueError):  # a program without a stderr trains on
            print(f"llmops-tui: {text}", file=sys.stderr, flush=True)


def _run_dir() -> Path | None:
    found = os.environ.get("LLMOPS_RUN_DIR")
    return Path(found) if found else None


def _writer() -> EventWriter | None:
    if not _told.opened:
        _told.opened = True
        run_dir = _run_dir()
        if run_dir is None:
            _warn("outside", "this is no run of the engine, so nothing is recorded; start it with `llmops-tui run command -- PROGRAM …`")
        elif _told.all_ranks or _is_first_rank():
            _told.writer = EventWriter(run_dir)
    return _told.writer


def _is_first_rank() -> bool:
    return next((os.environ[name] for name in _RANKS if os.environ.get(name)), "0") == "0"


def _never_raises(work: Callable[P, None]) -> Callable[P, None]:
    """Said once, whatever it is: a fault in telling must not end hours of training."""

    def safely(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - said, and the training goes on
            _warn(work.__name__ + type(error).__name__, f"track.{work.__name__} did not record this: {type(error).__name__}: {error}")

    safely.__name__, safely.__doc__ = work.__name__, work.__doc__
    return safely


def every_rank() -> None:
    """Let all ranks tell, not only rank 0. Call it before anything is told."""
    if _told.opened and _told.writer is None:
        _told.opened = False
    _told.all_ranks = True


@_never_raises
def metric(step: int, values: Mapping[str, float] | None = None, /, **more: float) -> None:
    """Record numbers of one step: `metric(12, loss=1.9)`, or `metric(12, {"eval/accuracy": 0.8})` for names with a slash.

    `loss`, `lr`, `grad_norm`, `epoch` and `eval_loss` get the names that the console shows them under; others stay as they are.
    Anything that `float()` takes is a number, a tensor of one element too. After `phase(…, total=…)` it is also progress.
    """
    writer = _told.writer or _writer()
    if writer is None:
        return
    names, told = _told.names, {}
    for name, value in (more if values is None else {**values, **more}).items():
        ours = names.get(name)
        if ours is None:
            ours = names[name] = our_name(name)
        try:
            told[ours] = float(value)
        except (TypeError, ValueError):
            _warn(f"value {name}", f"track.metric: {name}={value!r} is no number and is left out")
    if told:
        writer.write("metric", step=int(step), values=told)
    if _told.total is not None and time.monotonic() - _told.beaten >= _BEAT_SECONDS:
        _beat(writer, float(step), _told.total)


@_never_raises
def phase(name: str, total: float | None = None, unit: str = "steps", done: float = 0) -> None:
    """Begin a part of the work; with its `total` the console shows how far it is and the time left."""
    if (writer := _writer()) is not None:
        _told.phase, _told.unit, _told.total = name, unit, total
        _told.began = _told.beaten = time.monotonic()
        _told.began_at = done
        writer.phase(name, done=done, total=total, unit=unit)


@_never_raises
def progress(done: float, total: float | None = None) -> None:
    """Say how far the work is; written at most once a second, and when it is done."""
    if (writer := _writer()) is None:
        return
    if total is not None:
        _told.total = total
    whole = _told.total is not None and done >= _told.total
    if _told.began_at is None or whole or time.monotonic() - _told.beaten >= _BEAT_SECONDS:
        _beat(writer, done, _told.total)


def _beat(writer: EventWriter, done: float, total: float | None) -> None:
    now = _told.beaten = time.monotonic()
    if _told.began_at is None:
        _told.began, _told.began_at = now, done
    fresh = done - _told.began_at
    eta = round((now - _told.began) / fresh * max(0.0, total - done), 1) if total is not None and fresh > 0 else None
    writer.heartbeat(_told.phase, done, total, _told.unit, eta)


@_never_raises
def sample(step: int, prompt: str, text: str) -> None:
    """Record what the model answers to `prompt` at this step."""
    if (writer := _writer()) is not None:
        writer.write("sample", step=int(step), prompt=str(prompt), text=str(text))


@_never_raises
def log(message: str, level: str = "info") -> None:
    """A line for a person, among the run's events."""
    if (writer := _writer()) is not None:
        writer.write("log", level=level, message=str(message))


@_never_raises
def artifact(path: str | os.PathLike[str], name: str = "", kind: str = "file") -> None:
    """Record a file or directory that came out of the run. For a model see `model`."""
    if (writer := _writer()) is not None:
        writer.write("artifact", artifact=kind, name=name or Path(path).name, path=os.path.abspath(path))


@_never_raises
def model(path: str | os.PathLike[str], name: str = "", base: str = "", licence: str = "") -> None:
    """Register the model at `path` (a directory with config.json and its weights, or an adapter) once the run has succeeded.

    It stays where it lies: one that is outside the run's directory is linked from there.
    """
    writer, run_dir = _writer(), _run_dir()
    if writer is None or run_dir is None:
        return
    lies_at, root = Path(os.path.abspath(path)), Path(os.path.abspath(run_dir))
    if not lies_at.is_relative_to(root):
        link = root / "artifacts" / (lies_at.name or "model")
        link.parent.mkdir(exist_ok=True)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(lies_at)
        lies_at = link
    writer.write("artifact", artifact="model", name=name, path=str(lies_at.relative_to(root)), base=base, licence=licence)


@_never_raises
def checkpoint(directory: str | os.PathLike[str], step: int) -> None:
    """Say that everything to go on from lies in `directory`: made durable, then marked, so that `resume_from` gives it to a retry.

    Call it when the last file is written. The files stay where they are.
    """
    writer, run_dir = _writer(), _run_dir()
    if writer is None or run_dir is None:
        return
    from llmops_tui.data.checkpoints import mark_complete  # on demand: the marker's words are the engine's

    given, ours = Path(os.path.abspath(directory)), Path(os.path.abspath(run_dir)) / "checkpoints"
    if not given.is_dir():
        raise FileNotFoundError(f"{given} is no directory")
    if given.parent == ours:
        size = mark_complete(given, int(step))["bytes"]
    else:
        files = sorted(path for path in given.rglob("*") if path.is_file())
        for path in files:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sizes = {str(path.relative_to(given)): path.stat().st_size for path in files}
        pointer = ours / f"checkpoint-{int(step)}"
        pointer.mkdir(parents=True, exist_ok=True)
        (pointer / _POINTER).write_text(json.dumps({"path": str(given), "files": sizes}))
        mark_complete(pointer, int(step))
        size = sum(sizes.values())
    writer.write("checkpoint", step=int(step), path=str(given), bytes=size)


def resume_from() -> Path | None:
    """The directory of the newest whole checkpoint that this run told of in an earlier attempt; None where there is none to go on from.

    A checkpoint with a file missing or of another size than it was told with is passed over, for the one before it.
    """
    given = os.environ.get("LLMOPS_RESUME_FROM")
    if not given:
        return None
    told = [path for path in Path(given).parent.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    older = sorted(told, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for candidate in [Path(given), *(path for path in older if path != Path(given) and (path / "complete.json").exists())]:
        pointer = candidate / _POINTER
        if not pointer.exists():
            return candidate
        try:
            where = json.loads(pointer.read_bytes())
            lies_at = Path(where["path"])
            if all((lies_at / name).stat().st_size == size for name, size in where["files"].items()):
                return lies_at
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        _warn(f"checkpoint {candidate.name}", f"{candidate.name} is not whole any more and is passed over")
    return None


def stop_requested() -> bool:
    """Whether the run was asked to stop: save, and end. Cheap enough for every step.

    From the first call on, in the main thread, TERM only sets this: the program has the run's grace time to save and end by itself.
    """
    _listen()
    return _told.stop


def checkpoint_requested() -> bool:
    """Whether a checkpoint was asked for since the last call."""
    _listen()
    asked, _told.save = _told.save, False
    return asked


def _listen() -> None:
    run_dir = _run_dir()
    if run_dir is None:
        return
    if not _told.listening:
        _told.listening = True
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGTERM)

            def terminate(number: int, frame: FrameType | None) -> None:
                _told.stop = True
                if callable(before):
                    before(number, frame)

            signal.signal(signal.SIGTERM, terminate)
    if _told.control_offset is None:  # what was asked of an earlier attempt stands in the same file
        begin = os.environ.get("LLMOPS_CONTROL_BYTES", "")
        _told.control_offset = int(begin) if begin.isdecimal() else 0
    try:
        path = run_dir / "control.jsonl"
        if path.stat().st_size <= _told.control_offset:
            return
        with open(path, "rb") as file:
            file.seek(_told.control_offset)
            content = file.read()
    except OSError:
        return  # nothing was asked yet
    whole = content.rfind(b"\n") + 1
    _told.control_offset += whole
    for line in content[:whole].splitlines():
        try:
            command = json.loads(line).get("command")
        except (ValueError, AttributeError):
            continue
        _told.stop = _told.stop or command == "stop"
        _told.save = _told.save or command == "checkpoint"
