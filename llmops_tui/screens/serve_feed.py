"""What the Serve page knows: asked every two seconds while it is on top, and not at all while it is not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmops_tui.errors import LlmopsError
from llmops_tui.screens.calls import call
from llmops_tui.screens.run_actions import RunBoard
from llmops_tui.screens.serve_asking import Compared, Loaded, Past, Told, Wanted, ask
from llmops_tui.screens.serve_cells import leader_of
from llmops_tui.screens.serve_curves import SPANS
from llmops_tui.screens.serve_now import slo_of
from llmops_tui.screens.serve_verdict import HOUR

if TYPE_CHECKING:
    from llmops_tui.screens import serve_load
    from llmops_tui.screens.serve_verdict import Comparison
    from llmops_tui.specs.answers_requests import EndpointLive, LatencyHistory
    from llmops_tui.specs.answers_serving import EndpointDetail, EndpointSummary, GatewayInfo, VersionState

_ASK_SECONDS = 2.0
_COMPARE_SECONDS = 30.0
_PATIENCE_SECONDS = 35.0  # an engine that died while it was asked may leave the question open
_POINTS = 120
_PAST_PARTS = 240  # a stretch of time is asked for again when a part of it so small has passed
_LIVE_AT_ONCE = 4
_COMPARED_AT_ONCE = 2


class ServeFeed(RunBoard):
    """Subclasses draw; `chosen` is the endpoint that is meant, `version_name` the version."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: list[EndpointSummary] = []
        self.gateway: GatewayInfo | None = None
        self.live: dict[str, EndpointLive] = {}
        self.details: dict[str, EndpointDetail] = {}
        self.compared: dict[str, Comparison] = {}
        self.history: LatencyHistory | None = None
        self.load: serve_load.Told | None = None
        self.baselines: dict[str, tuple[float, float]] = {}
        self.span = 0
        self.known = False
        self.why = "asking the engine…"
        self._chosen_name = ""
        self._version = ""
        self._moment: float | None = None
        self._past: Past | None = None
        self._submitted: dict[str, float] = {}
        self._compared_at: dict[str, float] = {}
        self._turn = self._question = 0
        self._asking = self._again = False
        self._asked_at = -_ASK_SECONDS
        self._complained = ""

    # What is meant.

    @property
    def chosen(self) -> EndpointSummary | None:
        """The endpoint under the cursor."""
        return next((each for each in self.endpoints if each["name"] == self._chosen_name), next(iter(self.endpoints), None))

    @property
    def version_name(self) -> str:
        """The version under the cursor, else the one with the most requests; "" without an endpoint."""
        endpoint = self.chosen
        if endpoint is None:
            return ""
        names = [version["name"] for version in endpoint["versions"]]
        return self._version if self._version in names else leader_of(endpoint)

    def version(self) -> VersionState | None:
        """The same as the engine tells it."""
        endpoint, name = self.chosen, self.version_name
        return next((version for version in endpoint["versions"] if version["name"] == name), None) if endpoint else None

    def loaded_run(self) -> str:
        """The server whose load is shown; "" where none is."""
        return ""

    def slo(self) -> dict[str, float]:
        """What a good answer of the endpoint keeps to."""
        endpoint = self.chosen
        detail = self.details.get(endpoint["name"]) if endpoint else None
        return slo_of(detail["spec"]) if detail else {}

    def choose(self, name: str, version: str = "") -> None:
        """Mean another endpoint, or another version of it."""
        if name != self._chosen_name:
            self._chosen_name, self._past, self.history = name, None, None
        self._version = version
        self.want(now=True)

    # How it comes.

    def status_arrived(self) -> None:
        """The page is on top: ask, where the last answer is old enough or of another moment."""
        if self.state.moment != self._moment:
            self._moment = self.state.moment
            self.live.clear()
            self.forget_comparisons()
        else:
            self.want()

    def want(self, now: bool = False) -> None:
        """Ask; `now` because something changed."""
        if not self.ready or not self.is_active:
            return
        waited = time.monotonic() - self._asked_at
        if self._asking and waited < _PATIENCE_SECONDS:
            self._again = self._again or now
        elif now or waited >= _ASK_SECONDS - 0.1:
            self._asking, self._asked_at = True, time.monotonic()
            self._question += 1
            self.run_worker(self._fetch(self._question))

    def forget_comparisons(self) -> None:
        """The hour is compared with another one from now on."""
        self._compared_at.clear()
        self.compared.clear()
        self.want(now=True)

    async def _fetch(self, question: int) -> None:
        wanted = self._wanted()
        try:
            told = await call(ask, self.client, wanted)
        except LlmopsError as error:
            self.why = str(error)
            self.known = self.known and not self.state.live
        else:
            if question == self._question:
                self._take(wanted, told)
        finally:
            if question == self._question:
                self._asking = False
        if self.ready and question == self._question:
            self.redraw()
            if self._again:
                self._again = False
                self.want(now=True)

    def _wanted(self) -> Wanted:
        endpoint, names = self.chosen, [each["name"] for each in self.endpoints]
        if endpoint is None:
            return Wanted()
        name, detail = endpoint["name"], self.details.get(endpoint["name"])
        others = [each for each in names if each != name]
        turn = self._turn % len(others) if others else 0
        self._turn += _LIVE_AT_ONCE - 1
        live = [name, *([*others[turn:], *others[:turn]][: _LIVE_AT_ONCE - 1])]
        end = self.state.clock()
        due = [each for each in [name, *others] if time.monotonic() - self._compared_at.get(each, -_COMPARE_SECONDS) >= _COMPARE_SECONDS]
        return Wanted(
            live=() if self.state.moment is not None else live,
            detail=name if detail is None or detail["revision"] != endpoint["revision"] else "",
            past=self._past_wanted(name, end),
            load=self._load_wanted(end),
            compared=[Compared(each, end, self.baselines.get(each)) for each in due[:_COMPARED_AT_ONCE]],
        )

    def _past_wanted(self, name: str, end: float) -> Past | None:
        seconds, _ = SPANS[self.span]
        past = Past(name, end - seconds, end, _POINTS)
        shown = self._past
        if shown is None or shown.name != name or abs((shown.until - shown.since) - seconds) > 1:
            return past
        return past if abs(end - shown.until) >= seconds / _PAST_PARTS else None

    def _load_wanted(self, end: float) -> Loaded | None:
        run, (seconds, _), shown = self.loaded_run(), SPANS[self.span], self.load
        if not run:
            return None
        same = shown is not None and shown.run == run and abs((shown.until - shown.since) - seconds) <= 1
        if same and shown is not None and abs(end - shown.until) < seconds / _PAST_PARTS:
            return None
        return Loaded(run, self._submitted.get(run), end - seconds, end, _POINTS)

    def _take(self, wanted: Wanted, told: Told) -> None:
        first = not self.known
        self.endpoints, self.gateway, self.known = told.endpoints, told.gateway, True
        self.live.update(told.live)
        if told.detail is not None:
            self.details[told.detail["name"]] = told.detail
        if told.history is not None and wanted.past is not None:
            self._past, self.history = wanted.past, told.history
        if told.load is not None:
            self.load = told.load
            self._submitted[told.load.run] = told.submitted
        for each in wanted.compared:
            self._compared_at[each.name] = time.monotonic()
        self.compared.update(told.compared)
        chosen = self.chosen
        if self._past is not None and (chosen is None or self._past.name != chosen["name"]):
            self._past = self.history = None
        if told.problem and told.problem != self._complained:
            self.llmops.tell(told.problem, "bad")
        self._complained = told.problem
        if first and self.endpoints:
            self._again = True  # now it is known of what to ask more

    def hour(self) -> tuple[float, float]:
        """The last hour, as it is compared."""
        return self.state.clock() - HOUR, self.state.clock()
