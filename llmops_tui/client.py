"""The only door to the engine: typed calls and event streams over its socket. Standard library only, thread-safe.

Every method raises an error of `llmops_tui.errors`: the engine's own, or EngineUnavailableError when none answers.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmops_tui.client_serving import ServingCalls
from llmops_tui.client_streams import ConnectionWatcher, EngineStream, RunStream
from llmops_tui.client_transport import Query, Transport, is_alive, is_read_only, segment
from llmops_tui.errors import EngineUnavailableError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.place import LocalPlace, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmops_tui.specs.answers import (
        AuditEntry,
        AuditPage,
        AuditVerdict,
        Comparison,
        DatasetInfo,
        Done,
        EngineEvents,
        EngineInfo,
        EstimateAnswer,
        GpuSample,
        HostHistory,
        LogFilter,
        LogSearch,
        LogSize,
        ModelInfo,
        NotifyTest,
        Preview,
        Reservation,
        Reservations,
        RunDetail,
        RunEvents,
        RunPage,
        RunSummary,
        Series,
        Span,
        SpecForm,
        SqlAnswer,
        Status,
        Submission,
    )
    from llmops_tui.specs.answers_sweep import SweepAnswer
    from llmops_tui.specs.answers_watch import Alarm, AlarmRows, WatchState
    from llmops_tui.specs.lineage import LineageNode
    from llmops_tui.specs.reproduction import Reproduction

_SLOW_SECONDS = 3600.0  # a data set is read row by row, a model hashed, a database copied


class LogChunk(NamedTuple):
    """A part of a run's output. `offset` is where it begins, `next_offset` where to go on, `size` the file's length.

    `first_kept` is the first byte after the hole that rotation left (bytes between the first MiB and it are gone), 0 without one.
    """

    data: bytes
    offset: int
    next_offset: int
    size: int
    first_kept: int


class Client:
    """Calls that wait for their answer. One object serves many threads: each call has a connection of its own."""

    def __init__(self, where: Home | Place) -> None:
        self.place: Place = LocalPlace(where) if isinstance(where, Home) else where
        self._transport = Transport(self.place)
        self.serving = ServingCalls(self._transport)

    @property
    def home(self) -> Home:
        """The engine's state directory. Raises UsageError for an engine on another box: its files are not here."""
        if self.place.home is None:
            raise UsageError("this engine is on another box: its files cannot be reached from here", "run the command there: --host BOX")
        return self.place.home

    @property
    def socket(self) -> Path:
        """Where the engine is reached. Raises EngineUnavailableError."""
        return self.place.socket_path()

    def ensure_engine(self, wait_seconds: float = 30.0) -> EngineInfo:
        """The running engine; one is started where there is none. Raises what kept it from starting."""
        if not is_read_only():
            return self.start_engine(wait_seconds=wait_seconds)
        return self.engine(timeout=wait_seconds)  # who wants to change nothing starts nothing

    def start_engine(self, options: Sequence[str] = (), wait_seconds: float = 30.0) -> EngineInfo:
        """The running engine; where there is none, one is started with these options of the daemon's."""
        try:
            return self.engine(timeout=wait_seconds)
        except EngineUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise  # an engine is there, stopped or overloaded: a second one could not help
            self.place.start(wait_seconds, self.answers, options)
            return self.engine(timeout=wait_seconds)

    def answers(self) -> bool:
        """Whether an engine answers, without starting one."""
        try:
            self.engine(timeout=2.0)
        except EngineUnavailableError:
            return False
        return True

    def engine(self, timeout: float = 30.0) -> EngineInfo:
        """The daemon itself."""
        info: EngineInfo = self._json("GET", "/v1/engine", timeout=timeout)
        return _as_seen_here(info)

    def stop_engine(self, wait_seconds: float = 20.0) -> Done:
        """Stop the engine and wait until it has let go of everything; jobs go on and the next engine adopts them."""
        pid = self.engine()["pid"]
        done = self._done("POST", "/v1/engine/stop")
        deadline = time.monotonic() + wait_seconds
        while is_alive(pid):
            if time.monotonic() >= deadline:
                raise EngineUnavailableError(f"the engine (pid {pid}) still works after {wait_seconds:g} s", f"see {self.home.engine_log}")
            time.sleep(0.02)
        return done

    def notify_test(self) -> NotifyTest:
        """Let the engine send a test by the hook and the webhook of its settings. Raises ConflictError where there is neither."""
        test: NotifyTest = self._json("POST", "/v1/engine/notify-test", timeout=_SLOW_SECONDS)
        return test

    def status(self) -> Status:
        """Everything the first screen needs."""
        status: Status = self._json("GET", "/v1/status")
        status["engine"] = _as_seen_here(status["engine"])
        return status

    def settings(self) -> dict[str, Any]:
        """The settings in force, defaults included."""
        settings: dict[str, Any] = self._json("GET", "/v1/settings")
        return settings

    def gpus(self) -> list[GpuSample]:
        """Every GPU's newest sample; empty on a box without one."""
        gpus: list[GpuSample] = self._json("GET", "/v1/gpus")
        return gpus

    def host_history(self, seconds: float = 600.0, start: float | None = None, end: float | None = None, points: int = 600) -> HostHistory:
        """The box and its GPUs over the `seconds` before `end` (None: now), or since `start`; at most `points` means a series."""
        query = [("seconds", f"{seconds:g}"), ("points", str(points))]
        query += [(name, repr(float(t))) for name, t in (("start", start), ("end", end)) if t is not None]
        history: HostHistory = self._json("GET", "/v1/host/history", query)
        return history

    def at(self, t: float) -> Status:
        """The first screen as it was at moment `t`; what was not sampled then is None. Raises UsageError outside of `span()`."""
        status: Status = self._json("GET", "/v1/at", [("t", repr(float(t)))])
        return status

    def span(self) -> Span:
        """From when until when `at` can tell."""
        span: Span = self._json("GET", "/v1/span")
        return span

    def runs(
        self,
        state: str | None = None,
        kind: str | None = None,
        limit: int = 100,
        offset: int = 0,
        filter: str = "",
        sort: str = "",
        descending: bool | None = None,
        columns: Sequence[str] = (),
        around: str = "",
    ) -> RunPage:
        """A page of runs, newest first unless sorted otherwise; `state` may be several, separated by commas.

        `filter` is in the language of specs/run_filter.py, `sort` a key of it or a `cfg.…` or `metric.…` column; without
        `descending` times go down and the rest up. `columns` (`cfg.…`, `metric.…`) come as the page's `columns`.
        A run named by `around` that matches is on the page, wherever that is; the page's `offset` says.
        """
        query = [("limit", str(limit)), ("offset", str(offset)), *(("column", column) for column in columns)]
        words = (("state", state), ("kind", kind), ("filter", filter), ("sort", sort), ("around", around))
        query += [(name, value) for name, value in words if value]
        if descending is not None:
            query.append(("descending", "true" if descending else "false"))
        page: RunPage = self._json("GET", "/v1/runs", query)
        return page

    def run(self, run_id: str) -> RunDetail:
        """One run with its spec, journal, checkpoints and metric names."""
        detail: RunDetail = self._json("GET", f"/v1/runs/{_run_segment(run_id)}")
        return detail

    def submit(self, spec: Mapping[str, Any], cwd: str | None = None, dry_run: bool = False) -> Submission:
        """Check a spec (its data row by row) and queue it; relative paths in it are meant from `cwd`, by default ours."""
        body = {"spec": dict(spec), "cwd": self.place.directory() if cwd is None else cwd, "dry_run": dry_run}
        submission: Submission = self._json("POST", "/v1/runs", body=body, timeout=_SLOW_SECONDS)
        return submission

    def spec_form(self, kind: str) -> SpecForm:
        """The fields of a job kind, as a form shows them."""
        form: SpecForm = self._json("GET", f"/v1/specs/{segment(kind)}")
        return form

    def annotate(self, run_id: str, tags: Sequence[str] | None = None, note: str | None = None, baseline: bool | None = None) -> RunSummary:
        """Replace a run's tags or note, or pin it as a baseline; what is None stays as it was."""
        return self._run_request(run_id, "annotate", {"tags": None if tags is None else list(tags), "note": note, "baseline": baseline})

    def sweep(self, run_id: str) -> SweepAnswer:
        """A sweep or a cross-validation with its trials, best first."""
        found: SweepAnswer = self._json("GET", f"/v1/sweeps/{_run_segment(run_id)}", timeout=120.0)
        return found

    def compare(self, run_ids: Sequence[str]) -> Comparison:
        """2 to 16 runs side by side: settings, data, environment and metrics."""
        comparison: Comparison = self._json("GET", "/v1/compare", [("run", run_id) for run_id in run_ids], timeout=120.0)
        return comparison

    def stop_run(self, run_id: str, mode: str = "now") -> RunSummary:
        """End a run: "now" (TERM, grace, KILL) or "checkpoint" (the job saves first and ends by itself)."""
        return self._run_request(run_id, "stop", {"mode": mode})

    def retry(self, run_id: str) -> RunSummary:
        """Queue an ended run again, from its newest complete checkpoint."""
        return self._run_request(run_id, "retry")

    def checkpoint(self, run_id: str) -> RunSummary:
        """Ask a running job to save a checkpoint now."""
        return self._run_request(run_id, "checkpoint")

    def control(self, run_id: str, command: str, arguments: Mapping[str, Any] | None = None) -> RunSummary:
        """Ask of a run what `specs.control` names: pause and resume, save, evaluate or sample now, set."""
        return self._run_request(run_id, "control", {"command": command, **(arguments or {})})

    def reproduce(self, run_id: str, anyway: bool = False, dry_run: bool = False) -> Reproduction:
        """Start a run again from what was noted of it, with what differs now; `anyway` although data or model changed."""
        body = {"anyway": anyway, "dry_run": dry_run}
        answer: Reproduction = self._json("POST", f"/v1/runs/{_run_segment(run_id)}/reproduce", body=body, timeout=_SLOW_SECONDS)
        return answer

    def pick(self, run_id: str, word: str, remove_others: bool = False) -> ModelInfo:
        """Register one of the forms a quantize run made; `remove_others` deletes the files of those that have no name."""
        body = {"type": word, "remove_others": remove_others}
        info: ModelInfo = self._json("POST", f"/v1/runs/{_run_segment(run_id)}/pick", body=body, timeout=_SLOW_SECONDS)
        return info

    def set_priority(self, run_id: str, priority: int) -> RunSummary:
        """Change a waiting run's priority; higher starts first."""
        return self._run_request(run_id, "priority", {"priority": priority})

    def move(self, run_id: str, position: int) -> RunSummary:
        """Put a waiting run at a place in the queue, 1 being the front."""
        return self._run_request(run_id, "move", {"position": position})

    def remove(self, run_id: str) -> Done:
        """Delete an ended run and everything it wrote into its directory."""
        return self._done("DELETE", f"/v1/runs/{_run_segment(run_id)}")

    def series(
        self,
        run_id: str,
        metrics: Sequence[str],
        points: int = 1000,
        step_first: int | None = None,
        step_last: int | None = None,
        until: float | None = None,
    ) -> list[Series]:
        """Curves in at most `points` buckets each, over the steps asked for; with `until`, as they were at that moment."""
        query: Query = [("metric", metric) for metric in metrics]
        query.append(("points", str(points)))
        query += [(name, str(step)) for name, step in (("step_first", step_first), ("step_last", step_last)) if step is not None]
        if until is not None:
            query.append(("until", repr(float(until))))
        series: list[Series] = self._json("GET", f"/v1/runs/{_run_segment(run_id)}/series", query)["series"]
        return series

    def run_events(self, run_id: str, after: int = 0, types: Sequence[str] = (), limit: int = 1000) -> list[dict[str, Any]]:
        """What the job told besides metrics, oldest first, after sequence number `after`."""
        query = [("after", str(after)), ("limit", str(limit)), *(("type", name) for name in types)]
        answer: RunEvents = self._json("GET", f"/v1/runs/{_run_segment(run_id)}/events", query)
        return answer["events"]

    def log(self, run_id: str, offset: int = 0, limit: int = 65536) -> LogChunk:
        """A part of the run's output; a negative offset counts from the end."""
        query = [("offset", str(offset)), ("limit", str(limit))]
        answer = self._transport.call("GET", f"/v1/runs/{_run_segment(run_id)}/log", query)
        start, following, size, kept = (int(answer.headers[name]) for name in ("x-offset", "x-next-offset", "x-size", "x-first-kept"))
        return LogChunk(answer.body, start, following, size, kept)

    def log_bytes_at(self, run_id: str, t: float) -> int | None:
        """How long the run's output was at moment `t`, to the few seconds between two looks; None where nobody looked."""
        answer: LogSize = self._json("GET", f"/v1/runs/{_run_segment(run_id)}/log/size", [("t", repr(float(t)))])
        return answer["bytes"]

    def log_search(
        self,
        run_id: str,
        pattern: str,
        regex: bool = False,
        ignore_case: bool = False,
        offset: int = 0,
        until: int | None = None,
        backward: bool = False,
        limit: int = 100,
    ) -> LogSearch:
        """Hits in the run's output that begin in [offset, until), nearest first; it ends early with `more`. A limit of 0 only counts."""
        query = _log_query(pattern, regex, ignore_case, offset, until, backward, limit)
        found: LogSearch = self._json("GET", f"/v1/runs/{_run_segment(run_id)}/log/search", query)
        return found

    def log_filter(
        self,
        run_id: str,
        pattern: str,
        regex: bool = False,
        ignore_case: bool = False,
        offset: int = 0,
        until: int | None = None,
        backward: bool = False,
        limit: int = 200,
        context: int = 0,
        line_bytes: int = 4096,
    ) -> LogFilter:
        """The lines with hits in [offset, until) and `context` lines around each; of a longer line the `line_bytes` with the hit."""
        query = _log_query(pattern, regex, ignore_case, offset, until, backward, limit)
        query += [("context", str(context)), ("line_bytes", str(line_bytes))]
        lines: LogFilter = self._json("GET", f"/v1/runs/{_run_segment(run_id)}/log/filter", query)
        return lines

    def stream_run(
        self, run_id: str, offset: int = 0, on_connection: ConnectionWatcher | None = None, give_up_seconds: float | None = None
    ) -> RunStream:
        """Iterate over everything the run told from `offset` on and what it will tell, over restarts of the engine."""
        return RunStream(self._transport, f"/v1/runs/{_run_segment(run_id)}/stream", offset, on_connection, give_up_seconds)

    def stream_events(
        self, after: int | None = None, on_connection: ConnectionWatcher | None = None, give_up_seconds: float | None = None
    ) -> EngineStream:
        """Iterate over the engine's events after `after` (None: from now on), over restarts of the engine."""
        return EngineStream(self._transport, after, on_connection, give_up_seconds)

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        newest: bool = False,
        types: Sequence[str] = (),
        run: str = "",
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
    ) -> EngineEvents:
        """The engine's events after sequence number `after` (and below `before`), oldest first; `newest` keeps the last `limit` of them.

        `types` and `run` choose among them (`-run.progress` leaves that type out), `since` and `until` are Unix seconds.
        """
        query: Query = [("after", str(after)), ("limit", str(limit))]
        query += [(name, text) for name, text in (("type", ",".join(types)), ("run", run), ("newest", "true" if newest else "")) if text]
        query += [(name, repr(float(t))) for name, t in (("since", since), ("until", until)) if t is not None]
        if before is not None:
            query.append(("before", str(before)))
        events: EngineEvents = self._json("GET", "/v1/events/list", query)
        return events

    def export_run(self, run_id: str, form: str) -> bytes:
        """The whole run as a gzipped tar in the form of another tool: `tensorboard`, `mlflow` or `csv`."""
        path = f"/v1/runs/{_run_segment(run_id)}/export"
        return self._transport.call("GET", path, [("form", form)], timeout=_SLOW_SECONDS).body

    def sql(self, query: str, limit: int = 1000) -> SqlAnswer:
        """Run a reading statement on the engine's database."""
        answer: SqlAnswer = self._json("POST", "/v1/sql", body={"query": query, "limit": limit}, timeout=120.0)
        return answer

    def models(self) -> list[ModelInfo]:
        """Registered model versions and models found on disk."""
        models: list[ModelInfo] = self._json("GET", "/v1/models", timeout=120.0)
        return models

    def model(self, reference: str) -> ModelInfo:
        """One model by name, `name@v2`, `name@alias` or path."""
        model: ModelInfo = self._json("GET", f"/v1/models/{segment(reference)}", [("cwd", self.place.directory())], timeout=120.0)
        return model

    def lineage(self, reference: str) -> LineageNode:
        """What a model (name, `name@v2`, `name@alias` or path) was made from, back to what was imported."""
        tree: LineageNode = self._json("GET", f"/v1/lineage/{segment(reference)}", [("cwd", self.place.directory())], timeout=120.0)
        return tree

    def import_model(self, path: str, name: str, licence: str = "", cwd: str | None = None) -> ModelInfo:
        """Register a model directory where it lies."""
        body = {"path": path, "name": name, "licence": licence, "cwd": self.place.directory() if cwd is None else cwd}
        model: ModelInfo = self._json("POST", "/v1/models/import", body=body, timeout=_SLOW_SECONDS)
        return model

    def datasets(self) -> list[DatasetInfo]:
        """Registered dataset versions."""
        datasets: list[DatasetInfo] = self._json("GET", "/v1/datasets")
        return datasets

    def dataset(self, reference: str) -> DatasetInfo:
        """One dataset by name, `name@v2` or path."""
        dataset: DatasetInfo = self._json("GET", f"/v1/datasets/{segment(reference)}", [("cwd", self.place.directory())], timeout=120.0)
        return dataset

    def import_dataset(
        self, path: str, name: str = "", format: str = "auto", copy: bool = False, licence: str = "", cwd: str | None = None
    ) -> DatasetInfo:
        """Check every row of a file and register it as the next version of `name`."""
        where = self.place.directory() if cwd is None else cwd
        body = {"path": path, "name": name, "format": format, "copy": copy, "licence": licence, "cwd": where}
        dataset: DatasetInfo = self._json("POST", "/v1/datasets/import", body=body, timeout=_SLOW_SECONDS)
        return dataset

    def estimate(self, spec: Mapping[str, Any], cwd: str | None = None) -> EstimateAnswer:
        """What a train spec will take on the engine's box, each figure with its band."""
        body = {"spec": dict(spec), "cwd": self.place.directory() if cwd is None else cwd}
        answer: EstimateAnswer = self._json("POST", "/v1/estimate", body=body)
        return answer

    def preview(self, spec: Mapping[str, Any], cwd: str | None = None, rows: int = 3) -> Preview:
        """The first rows of a train spec's dataset as its model will meet them."""
        body = {"spec": dict(spec), "cwd": self.place.directory() if cwd is None else cwd, "rows": rows}
        preview: Preview = self._json("POST", "/v1/preview", body=body, timeout=_SLOW_SECONDS)
        return preview

    def audit(
        self, after: int = 0, limit: int = 1000, run: str = "", user: str = "", since: float | None = None, newest: bool = False
    ) -> list[AuditEntry]:
        """Who changed what, when, and what came of it, oldest first; with `newest` the last `limit` of them."""
        query = [("after", str(after)), ("limit", str(limit)), ("newest", str(newest).lower())]
        query += [(name, value) for name, value in (("run", run), ("user", user)) if value]
        query += [("since", repr(float(since)))] if since is not None else []
        page: AuditPage = self._json("GET", "/v1/audit", query)
        return page["entries"]

    def alarms(self, run: str = "", since: float | None = None, acked: bool | None = None, limit: int = 1000) -> list[Alarm]:
        """What the watchers raised, the oldest first: the newest `limit` of one run or of all, seen or not yet seen."""
        query = [("limit", str(limit)), *([("run", run)] if run else [])]
        query += [("since", repr(float(since)))] if since is not None else []
        query += [("acked", str(acked).lower())] if acked is not None else []
        found: list[Alarm] = self._json("GET", "/v1/alarms", query)
        return found

    def ack_alarm(self, identity: str) -> Alarm:
        """Say that an alarm was seen; the first to say so stays."""
        alarm: Alarm = self._json("POST", f"/v1/alarms/{segment(identity)}/ack", body={})
        return alarm

    def alarm_rows(self, identity: str) -> AlarmRows:
        """The rows of the data file behind an alarm, with the beginning of their text."""
        rows: AlarmRows = self._json("GET", f"/v1/alarms/{segment(identity)}/rows", timeout=_SLOW_SECONDS)
        return rows

    def watchers(self, run_id: str) -> WatchState:
        """Every rule that watches a run as it stands, and the run's alarms."""
        state: WatchState = self._json("GET", f"/v1/runs/{_run_segment(run_id)}/watchers")
        return state

    def verify_audit(self) -> AuditVerdict:
        """Whether a line of the audit log was changed, removed or moved."""
        verdict: AuditVerdict = self._json("GET", "/v1/audit/verify", timeout=120.0)
        return verdict

    def reservations(self) -> list[Reservation]:
        """The reservations in force, the one that ends first before the others."""
        answer: Reservations = self._json("GET", "/v1/reservations")
        return answer["reservations"]

    def reserve(self, gpus: Sequence[int | str], seconds: float, note: str = "") -> Reservation:
        """Keep GPUs (by index or UUID) for one's own runs for so long."""
        made: Reservation = self._json("POST", "/v1/reservations", body={"gpus": list(gpus), "seconds": seconds, "note": note})
        return made

    def release(self, identity: str) -> Done:
        """End a reservation before its time."""
        return self._done("DELETE", f"/v1/reservations/{segment(identity)}")

    def ask(self, run_id: str, message: str) -> Done:
        """Leave a note about a run in its owner's inbox."""
        return self._done("POST", f"/v1/runs/{_run_segment(run_id)}/ask", {"message": message})

    def backup(self, path: str) -> Done:
        """Copy the database into a new file while the engine works."""
        return self._done("POST", "/v1/backup", {"path": os.path.abspath(path)}, timeout=_SLOW_SECONDS)

    def _run_request(self, run_id: str, verb: str, body: dict[str, Any] | None = None) -> RunSummary:
        summary: RunSummary = self._json("POST", f"/v1/runs/{_run_segment(run_id)}/{verb}", body=body)
        return summary

    def _done(self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 60.0) -> Done:
        done: Done = self._json(method, path, body=body, timeout=timeout)
        return done

    def _json(self, method: str, path: str, query: Query | None = None, body: object = None, timeout: float = 30.0) -> Any:
        return json.loads(self._transport.call(method, path, query, body, timeout).body)


def _log_query(pattern: str, regex: bool, ignore_case: bool, offset: int, until: int | None, backward: bool, limit: int) -> Query:
    query = [("pattern", pattern), ("offset", str(offset)), ("limit", str(limit))]
    query += [(name, "true") for name, wanted in (("regex", regex), ("ignore_case", ignore_case)) if wanted]
    query += [("until", str(until))] if until is not None else []
    return [*query, ("direction", "backward")] if backward else query


def _as_seen_here(info: EngineInfo) -> EngineInfo:
    """The engine does not know that this client wants to change nothing."""
    if is_read_only() and "you" in info:  # an older engine tells of nobody
        info["you"]["read_only"] = True
    return info


def _run_segment(run_id: str) -> str:
    """A run's id as one part of a path. What would change the path is no run, and is not asked for."""
    if not run_id or "/" in run_id or run_id.strip(".") == "":
        raise NotFoundError(f"no run {run_id!r}", "see `llmops-tui runs list`")
    return segment(run_id)
