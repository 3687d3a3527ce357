"""What the screens need of the client. The real one is `llmops_tui.client.Client`; tests bring their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llmops_tui.client_serving import ServingCalls
    from llmops_tui.specs.answers import (
        Comparison,
        DatasetInfo,
        Done,
        EngineEvent,
        EngineEvents,
        EngineInfo,
        EstimateAnswer,
        HostHistory,
        LogFilter,
        LogSearch,
        ModelInfo,
        Preview,
        RunDetail,
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
    from llmops_tui.specs.reproduction import Reproduction


class LogPart(Protocol):
    """A range of a run's output, `llmops_tui.client.LogChunk`."""

    @property
    def data(self) -> bytes: ...
    @property
    def offset(self) -> int: ...
    @property
    def next_offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def first_kept(self) -> int: ...


class EngineClient(Protocol):
    """Blocking calls; every failure is an `LlmopsError`."""

    @property
    def serving(self) -> ServingCalls: ...
    def ensure_engine(self) -> EngineInfo: ...
    def status(self) -> Status: ...
    def run(self, run_id: str, /) -> RunDetail: ...
    def series(
        self,
        run_id: str,
        metrics: Sequence[str],
        /,
        points: int,
        step_first: int | None = None,
        step_last: int | None = None,
        until: float | None = None,
    ) -> list[Series]: ...
    def log(self, run_id: str, /, offset: int, limit: int) -> LogPart: ...
    def log_search(
        self,
        run_id: str,
        pattern: str,
        /,
        regex: bool = False,
        ignore_case: bool = False,
        offset: int = 0,
        until: int | None = None,
        backward: bool = False,
        limit: int = 100,
    ) -> LogSearch: ...
    def log_filter(
        self,
        run_id: str,
        pattern: str,
        /,
        regex: bool = False,
        ignore_case: bool = False,
        offset: int = 0,
        until: int | None = None,
        backward: bool = False,
        limit: int = 200,
        context: int = 0,
    ) -> LogFilter: ...
    def host_history(
        self, seconds: float = 600.0, start: float | None = None, end: float | None = None, points: int = 600
    ) -> HostHistory: ...
    def at(self, t: float, /) -> Status: ...
    def span(self) -> Span: ...
    def log_bytes_at(self, run_id: str, t: float, /) -> int | None: ...
    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        newest: bool = False,
        types: Sequence[str] = (),
        run: str = "",
        since: float | None = None,
        until: float | None = None,
    ) -> EngineEvents: ...
    def sql(self, query: str, limit: int = 1000, /) -> SqlAnswer: ...
    def export_run(self, run_id: str, form: str, /) -> bytes: ...
    def ask(self, run_id: str, message: str, /) -> Done: ...
    def watchers(self, run_id: str, /) -> WatchState: ...
    def ack_alarm(self, identity: str, /) -> Alarm: ...
    def alarm_rows(self, identity: str, /) -> AlarmRows: ...
    def spec_form(self, kind: str, /) -> SpecForm: ...
    def submit(self, spec: Mapping[str, Any], /, cwd: str | None = None, dry_run: bool = False) -> Submission: ...
    def preview(self, spec: Mapping[str, Any], /, cwd: str | None = None, rows: int = 3) -> Preview: ...
    def estimate(self, spec: Mapping[str, Any], /, cwd: str | None = None) -> EstimateAnswer: ...
    def models(self) -> list[ModelInfo]: ...
    def datasets(self) -> list[DatasetInfo]: ...
    def stop_run(self, run_id: str, mode: str, /) -> RunSummary: ...
    def checkpoint(self, run_id: str, /) -> RunSummary: ...
    def control(self, run_id: str, command: str, arguments: Mapping[str, Any] | None = None, /) -> RunSummary: ...
    def reproduce(self, run_id: str, /, anyway: bool = False, dry_run: bool = False) -> Reproduction: ...
    def runs(
        self,
        *,
        filter: str = "",
        sort: str = "",
        descending: bool = True,
        limit: int = 100,
        offset: int = 0,
        columns: Sequence[str] = (),
        around: str = "",
    ) -> RunPage: ...
    def annotate(
        self, run_id: str, /, tags: Sequence[str] | None = None, note: str | None = None, baseline: bool | None = None
    ) -> RunSummary: ...
    def reserve(self, gpus: Sequence[int], seconds: float, note: str = "", /) -> object: ...
    def move(self, run_id: str, position: int, /) -> RunSummary: ...
    def set_priority(self, run_id: str, priority: int, /) -> RunSummary: ...
    def retry(self, run_id: str, /) -> RunSummary: ...
    def remove(self, run_id: str, /) -> Done: ...
    def sweep(self, run_id: str, /) -> SweepAnswer: ...
    def compare(self, run_ids: Sequence[str], /) -> Comparison: ...
    def run_events(self, run_id: str, /, after: int = 0, types: Sequence[str] = (), limit: int = 1000) -> list[dict[str, Any]]: ...
    def stream_events(self) -> Iterable[EngineEvent]: ...
