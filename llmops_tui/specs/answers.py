"""The shapes of the engine's answers: plain dictionaries over the socket, typed for those who read them.

Times are Unix seconds, sizes bytes, powers watts, temperatures degrees Celsius, fractions 0–1; `None` means "not known"
(a GPU that does not support a reading, a run that has not started), never zero.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

# pydantic, which describes these in the API, refuses typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict


class Progress(TypedDict):
    """How far a run is, from its newest phase or heartbeat event."""

    phase: str
    done: float
    total: float | None
    unit: str
    eta_seconds: float | None


class RunSummary(TypedDict):
    """One row of the runs table. `baseline`: pinned by the user as something to compare with; any number may be.

    `gpu_seconds` is wall time multiplied by the GPUs held, over all attempts and up to now; `energy_joules` what those GPUs
    drew meanwhile; `cost` both at the tariff of the settings, in `Status.currency`: None without a tariff or without a GPU.
    `parent` is the sweep or cross-validation it is a part of; empty for a run on its own.
    """

    id: str
    kind: str
    name: str
    state: str
    reason: str
    attempt: int
    priority: int
    queue_position: int | None
    owner: str
    tags: list[str]
    note: str
    baseline: bool
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    gpus: list[str]
    progress: Progress | None
    latest: dict[str, float]
    gpu_seconds: float
    energy_joules: float | None
    cost: float | None
    parent: str


class GpuProcess(TypedDict):
    """A process that holds GPU memory; `run` names ours, `owner` the Unix user of a foreign one."""

    pid: int
    memory_bytes: int | None
    run: str | None
    owner: str
    command: str


class GpuHolder(TypedDict):
    """A run that holds a GPU, whose it is, and since when."""

    run: str
    owner: str
    since: float


class ReservedBy(TypedDict):
    """Who has a GPU reserved, until when (Unix seconds), and why."""

    owner: str
    until: float
    note: str


class GpuSample(TypedDict):
    """One GPU, once a second. `health` is "ok", "lost", "stalled" (its driver does not answer) or "error", and
    "unknown" at a past moment when no sample was taken.

    `idle_seconds`: how long it has been held and used under 5 %; None when nobody holds it or its use is not told.
    `hidden_bytes`: memory in use that no process in sight accounts for, 0 within what drivers keep for themselves, None
    where it cannot be told. `energy_joules` counts from the driver's load on.
    """

    index: int
    uuid: str
    name: str
    health: str
    reason: str
    utilisation: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    power_watts: float | None
    power_limit_watts: float | None
    temperature_celsius: float | None
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    throttle_reasons: list[str]
    pcie_rx_bytes_per_second: float | None
    pcie_tx_bytes_per_second: float | None
    pcie_generation: int | None
    pcie_width: int | None
    ecc_uncorrected: int | None
    energy_joules: float | None
    xid: list[int]
    processes: list[GpuProcess]
    held_by: list[str]
    holders: list[GpuHolder]
    held_since: float | None
    idle_seconds: float | None
    hidden_bytes: int | None
    reserved_by: ReservedBy | None


class HostSample(TypedDict):
    """The box itself, once a second. `cpu` is the mean over cores, 0–1; `disk_*` is the file system of the state directory.

    Readings are None only at a past moment when no sample was taken.
    """

    t: float
    cpu: float | None
    cpu_cores: int
    load_1m: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int
    disk_free_bytes: int | None
    disk_total_bytes: int
    cpu_slots: int
    cpu_slots_free: int


class You(TypedDict):
    """The one who asked: `role` is "viewer", "operator" or "admin"; `read_only` when every change would be refused."""

    user: str
    uid: int
    role: str
    read_only: bool


class EngineInfo(TypedDict):
    """The daemon itself. `epoch` names the database: event sequence numbers only compare within one epoch.

    A `shared` engine serves the Unix group `group`; a private one its own user and root alone. `host` is its box's own name.
    """

    pid: int
    host: str
    version: str
    home: str
    started_at: float
    epoch: str
    ingest: str
    warnings: list[str]
    shared: bool
    group: str
    you: You


class ServingOverview(TypedDict):
    """Endpoints in a few numbers."""

    endpoints: int
    unhealthy: int
    asleep: int


class Status(TypedDict):
    """`GET /v1/status`: everything the first screen needs in one call. `serving` is None at a past moment."""

    engine: EngineInfo
    host: HostSample
    gpus: list[GpuSample]
    running: list[RunSummary]
    waiting: list[RunSummary]
    recent: list[RunSummary]
    counts: dict[str, int]
    currency: str
    serving: ServingOverview | None


class Checkpoint(TypedDict):
    """A complete checkpoint (marked after fsync)."""

    step: int
    path: str
    bytes: int
    t: float


class JournalEntry(TypedDict):
    """One line of a run's `journal.jsonl`: what the engine decided, and why."""

    t: float
    entry: str
    state: str | None
    attempt: int
    reason: str
    data: dict[str, Any]


class EstimateAnswer(TypedDict):
    """`POST /v1/estimate`: what a training run will take here. `low` and `high` hold 95 % of runs like it.

    `memory_bytes` is the peak of one GPU, or of the process on a CPU; `parts` add up to it. `fits` is yes (the upper bound too),
    maybe, no, or unknown. The largest sizes still fit with their upper bound: 0 where none does. `formula` is what was
    calculated before this box's history corrected it.
    """

    parameters: int
    trainable: int
    device: str
    device_name: str
    adaptation: str
    checkpointing: bool
    architecture: str
    capacity_bytes: int | None
    memory_bytes: int
    memory_low: int
    memory_high: int
    parts: dict[str, int]
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None
    steps: int | None
    tokens: int | None
    energy_joules: float | None
    cost: float | None
    disk_bytes: int
    fits: str
    largest_micro_batch: int | None
    largest_max_length: int | None
    basis: str
    formula: dict[str, Any]


class Measured(TypedDict):
    """What a finished run took; None for what it did not tell. `work_bytes` is without what was there before its work began."""

    memory_bytes: int | None
    work_bytes: int | None
    seconds: float | None
    tokens: int | None


class RunDetail(RunSummary):
    """`GET /v1/runs/{id}`. `cwd` is the directory it was submitted from: relative paths in its spec start there.

    `predicted` is what the estimator said at its submission, `measured` what it took, once it has ended; None where not known.
    `outcome` is what its newest attempt said at its end: losses before and after, what was kept, what was made; else empty.
    """

    directory: str
    cwd: str
    spec: dict[str, Any]
    journal: list[JournalEntry]
    checkpoints: list[Checkpoint]
    capsule: dict[str, Any] | None
    metrics: list[str]
    predicted: EstimateAnswer | None
    measured: Measured | None
    outcome: dict[str, Any]


class Series(TypedDict):
    """A metric's curve in at most the asked number of buckets; NaN and infinities travel as None.

    Each bucket is `[step_first, step_last, count, minimum, maximum, mean, last, t_last]`.
    """

    metric: str
    total_points: int
    buckets: list[list[float | None]]


class EngineEvent(TypedDict):
    """One entry of the engine's event stream; `seq` grows by one and survives restarts."""

    seq: int
    t: float
    type: str
    run: str | None
    data: dict[str, Any]


class SqlAnswer(TypedDict):
    """A table; `truncated` when the row limit cut it."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool


class ModelCheck(TypedDict):
    """One check of a model that a run made: its template, its stop tokens, whether an answer ends, what it was compared with."""

    name: str
    verdict: Literal["passed", "warning", "failed"]
    words: str


class ModelInfo(TypedDict):
    """One model version, or a directory found on disk (`version` None).

    `card`: what was measured of it when it was quantized (specs/quantize_front.py); empty where nothing was.
    """

    name: str
    version: int | None
    aliases: list[str]
    format: str
    path: str
    bytes: int
    complete: bool
    source: str
    architecture: str
    parameters: int | None
    dtype: str
    context_length: int | None
    licence: str
    sha256: str
    base: str
    run: str
    created_at: float | None
    problems: list[str]
    checks: list[ModelCheck]
    card: dict[str, Any]


class DatasetInfo(TypedDict):
    """One dataset version; the rows stay where they lie unless they were imported with a copy."""

    name: str
    version: int | None
    path: str
    format: str
    rows: int
    bytes: int
    sha256: str
    licence: str
    source: str
    created_at: float | None


# What one cell of a table or a comparison holds; None: this run has no such thing.
Scalar: TypeAlias = str | int | float | bool | None


class RunPage(TypedDict):
    """`GET /v1/runs`: one page, and how many runs match in all.

    `columns` has the asked `cfg.…` and `metric.…` columns of each run of the page, by run id; empty when none was asked.
    `offset` is the place of the first run of the page.
    """

    runs: list[RunSummary]
    total: int
    columns: dict[str, dict[str, Scalar]]
    offset: int


class DifferenceRow(TypedDict):
    """One fact about each run of a comparison, in the runs' order."""

    key: str
    values: list[Scalar]
    differs: bool


class MetricRow(TypedDict):
    """One metric of each run of a comparison, in the runs' order; None where a run has no finite value of it."""

    metric: str
    last: list[float | None]
    minimum: list[float | None]
    maximum: list[float | None]


class Comparison(TypedDict):
    """`GET /v1/compare`: what 2 to 16 runs were asked to do, on which data, where, and what came of it."""

    runs: list[RunSummary]
    config: list[DifferenceRow]
    data: list[DifferenceRow]
    environment: list[DifferenceRow]
    metrics: list[MetricRow]


class Submission(TypedDict):
    """`POST /v1/runs`. A dry run has an empty id and no summary: it was checked, not queued."""

    id: str
    summary: RunSummary | None
    spec: dict[str, Any]
    prepared: dict[str, Any]
    warnings: list[str]


class SeriesAnswer(TypedDict):
    """`GET /v1/runs/{id}/series`."""

    series: list[Series]


class RunEvents(TypedDict):
    """`GET /v1/runs/{id}/events`: what the job told besides metrics, oldest first; `seq` orders and pages them."""

    events: list[dict[str, Any]]


class EngineEvents(TypedDict):
    """`GET /v1/events/list`: oldest first."""

    epoch: str
    events: list[EngineEvent]


class Span(TypedDict):
    """`GET /v1/span`: from when until when the engine can tell how things stood, Unix seconds."""

    first: float
    last: float


class LogSize(TypedDict):
    """`GET /v1/runs/{id}/log/size`: how long the output was at a moment; None where nobody looked."""

    bytes: int | None


class HostHistory(TypedDict):
    """`GET /v1/host/history`: one time axis, and a value or None a series name (`host/cpu`, `gpu/0/utilisation`)."""

    t: list[float]
    series: dict[str, list[float | None]]


class SpecField(TypedDict):
    """One field of a job kind's form.

    `type` is text, integer, number, boolean, choice, list, mapping, path, model or dataset. `choices` of a choice are all it takes, of
    another type words it takes as well (`auto`). `above` and `below` are exclusive bounds. `optional`: null means "unset";
    `text_too`: a list that may be one text instead; `basic`: shown before one asks for all.
    """

    key: str
    type: str
    default: Any
    required: bool
    description: str
    choices: list[str | bool]
    minimum: float | None
    maximum: float | None
    above: float | None
    below: float | None
    section: str
    basic: bool
    optional: bool
    text_too: bool


class SpecForm(TypedDict):
    """`GET /v1/specs/{kind}`: what can be asked for, in the order a form shows it."""

    kind: str
    description: str
    fields: list[SpecField]


class Done(TypedDict):
    """What a request without a richer answer did, in one line."""

    done: str


class AuditEntry(TypedDict):
    """One change, or the refusal of one. `outcome` is "ok", "failed", "refused", "under way" or "unknown"."""

    n: int
    t: float
    user: str
    uid: int
    role: str
    action: str
    target: str
    detail: dict[str, Any]
    outcome: str
    reason: str


class AuditPage(TypedDict):
    """`GET /v1/audit`: oldest first."""

    entries: list[AuditEntry]


class AuditVerdict(TypedDict):
    """`GET /v1/audit/verify`: whether nobody has changed the log; `line` is the first that does not fit."""

    lines: int
    good: bool
    line: int | None
    problem: str


class Reservation(TypedDict):
    """GPUs kept for their owner's runs until a moment."""

    id: str
    owner: str
    uid: int
    gpus: list[str]
    since: float
    until: float
    note: str


class Reservations(TypedDict):
    """`GET /v1/reservations`: those in force, the one that ends first before the others."""

    reservations: list[Reservation]


class LogHit(TypedDict):
    """Where a search found something, as bytes of the log; `offset` is where its line begins (of a very long line: a place before it)."""

    offset: int
    hit_start: int
    hit_end: int


class LogSearch(TypedDict):
    """`GET /v1/runs/{id}/log/search`: hits in the direction asked for, nearest first; `count` counts also those beyond the limit of 0.

    `more`: the answer ended early (by its limit or its time); go on with `scanned_to` as `offset` (backward: as `until`).
    """

    hits: list[LogHit]
    count: int
    scanned_to: int
    more: bool
    size: int


class FilteredLine(TypedDict):
    """A line as it was written, or 4 KiB of a longer one; `matched` or context. `span`: the first hit, in characters of `text`."""

    offset: int
    bytes: int
    text: str
    matched: bool
    span: list[int]


class LogFilter(TypedDict):
    """`GET /v1/runs/{id}/log/filter`: lines in the file's order; `scanned_to` and `more` as in LogSearch."""

    lines: list[FilteredLine]
    scanned_to: int
    more: bool
    size: int


class NotifyResult(TypedDict):
    """One way a notification goes: whether it arrived, and if not, why. `target` leaves out what may be secret."""

    channel: str
    target: str
    delivered: bool
    reason: str
    seconds: float


class NotifyTest(TypedDict):
    """`POST /v1/engine/notify-test`."""

    results: list[NotifyResult]


class PreviewPiece(TypedDict):
    """A stretch of a rendered row: text the model learns to say, or only reads."""

    text: str
    learnt: bool


class PreviewText(TypedDict):
    """One rendered text. `title`: conversation, text, prompt, chosen, rejected, good or bad; `cut_tokens` of its end are left out."""

    title: str
    pieces: list[PreviewPiece]
    tokens: int
    learnt_tokens: int
    cut_tokens: int


class PreviewRow(TypedDict):
    """A row by its number in the file; `problem` says why it cannot be used, and then it has no texts."""

    row: str
    problem: str
    texts: list[PreviewText]


class Preview(TypedDict):
    """`POST /v1/preview`: the first rows as the model will meet them, how they were read, and why so."""

    dataset: str
    format: str
    why: str
    model: str
    max_length: int
    method: str
    rows: list[PreviewRow]
