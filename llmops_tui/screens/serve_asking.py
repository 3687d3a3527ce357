"""What the Serve page asks the engine in one go. Blocks: call it in a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from llmops_tui.errors import EngineUnavailableError, LlmopsError
from llmops_tui.screens import serve_load
from llmops_tui.screens.serve_verdict import DAY, HOUR, STRETCHES, Comparison, Stretch, compare, leading, stretch_of

if TYPE_CHECKING:
    from llmops_tui.client_serving import ServingCalls
    from llmops_tui.screens.client_protocol import EngineClient
    from llmops_tui.specs.answers_requests import EndpointLive, LatencyHistory
    from llmops_tui.specs.answers_serving import EndpointDetail, EndpointSummary, GatewayInfo

T = TypeVar("T")
_EARLIER_SECONDS = DAY
"""Where nothing was asked at this hour of the day before: what else of the day before the last hour."""


@dataclass(frozen=True)
class Past:
    """The history of an endpoint that the chart shows."""

    name: str
    since: float
    until: float
    points: int


@dataclass(frozen=True)
class Compared:
    """An endpoint whose last hour (until `end`) is compared with the one kept in `baseline`, else with that of the day before."""

    name: str
    end: float
    baseline: tuple[float, float] | None


@dataclass(frozen=True)
class Loaded:
    """What a server told of itself in a stretch of time. `submitted`: since when its steps count (seconds); None: not known yet."""

    run: str
    submitted: float | None
    since: float
    until: float
    points: int


@dataclass(frozen=True)
class Wanted:
    """`live`: endpoints whose last minutes are wanted."""

    load: Loaded | None = None
    live: Sequence[str] = ()
    detail: str = ""
    past: Past | None = None
    compared: Sequence[Compared] = ()


@dataclass
class Told:
    """What came. What the engine had against a part stands in `problem`; the rest is there all the same."""

    endpoints: list[EndpointSummary] = field(default_factory=list)
    gateway: GatewayInfo | None = None
    live: dict[str, EndpointLive] = field(default_factory=dict)
    detail: EndpointDetail | None = None
    history: LatencyHistory | None = None
    compared: dict[str, Comparison] = field(default_factory=dict)
    load: serve_load.Told | None = None
    submitted: float = 0.0
    problem: str = ""


def ask(client: EngineClient, wanted: Wanted) -> Told:
    """All of it. Raises EngineUnavailableError; any other refusal spoils only its part."""
    serving = client.serving
    told = Told(endpoints=serving.endpoints(), gateway=serving.gateway())
    known = {endpoint["name"] for endpoint in told.endpoints}
    problems: list[str] = []

    def part(name: str, method: Callable[[], T]) -> T | None:
        if name not in known:  # stopped meanwhile
            return None
        try:
            return method()
        except EngineUnavailableError:
            raise
        except LlmopsError as error:
            problems.append(str(error))
            return None

    for name in wanted.live:
        if (live := part(name, lambda name=name: serving.live(name))) is not None:  # type: ignore[misc]  # mypy#15459
            told.live[name] = live
    if wanted.detail:
        told.detail = part(wanted.detail, lambda: serving.endpoint(wanted.detail))
    if (past := wanted.past) is not None:
        told.history = part(past.name, lambda: serving.latency(past.name, past.since, past.until, past.points))
    for each in wanted.compared:
        if (found := part(each.name, lambda each=each: comparison(serving, each))) is not None:  # type: ignore[misc]
            told.compared[each.name] = found
    if (load := wanted.load) is not None:
        try:
            told.submitted, told.load = load_of(client, load)
        except EngineUnavailableError:
            raise
        except LlmopsError:
            pass  # a server that was removed with its run: its chart is empty
    told.problem = problems[0] if problems else ""
    return told


def load_of(client: EngineClient, wanted: Loaded) -> tuple[float, serve_load.Told]:
    """When the server's run was submitted, and what it told in that stretch: its steps are seconds since then."""
    submitted = client.run(wanted.run)["submitted_at"] if wanted.submitted is None else wanted.submitted
    first = max(0, int(wanted.since - submitted))
    series = client.series(
        wanted.run, serve_load.metric_names(), points=wanted.points, step_first=first, step_last=int(wanted.until - submitted) + 1
    )
    return submitted, serve_load.Told(wanted.run, wanted.since, wanted.until, series)


def comparison(serving: ServingCalls, wanted: Compared) -> Comparison:
    """The last hour of the version with the most requests beside the hour before it: the kept one, yesterday's, or the rest of the day."""
    name, end = wanted.name, wanted.end
    whole = serving.latency(name, end - HOUR, end, 1)
    version = leading(whole)
    if not version:
        return compare("", None, None, "")
    now = stretch_of(whole, serving.latency(name, end - HOUR, end, STRETCHES), version)
    if wanted.baseline is not None:
        return compare(version, now, _stretch(serving, name, *wanted.baseline), "its baseline")
    then = _stretch(serving, name, end - DAY - HOUR, end - DAY)
    if then is not None:
        return compare(version, now, then, "yesterday at this hour")
    return compare(version, now, _stretch(serving, name, end - HOUR - _EARLIER_SECONDS, end - HOUR), "in the day before")


def _stretch(serving: ServingCalls, name: str, since: float, until: float) -> Stretch | None:
    """Of whichever version answered most then; None where none did."""
    whole = serving.latency(name, since, until, 1)
    version = leading(whole)
    if not version:
        return None
    return stretch_of(whole, serving.latency(name, since, until, STRETCHES), version)
