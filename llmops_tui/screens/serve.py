"""Serve: what is served, by which versions and servers, whether it is healthy and as fast as yesterday; and what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Container

from llmops_tui.keys import bindings
from llmops_tui.screens.board import WIDE_COLUMNS
from llmops_tui.screens.serve_actions import ServeActions
from llmops_tui.screens.serve_cells import (
    ENDPOINT_COLUMNS,
    endpoint_row,
    gateway_line,
    health_line,
    kept_words,
    part_columns,
    part_rows,
    pending_words,
    speed_lines,
)
from llmops_tui.screens.serve_curves import METRICS, SPANS, VERSIONS, change_marks, curves_of, metrics_of, title_of
from llmops_tui.screens.serve_load import LOADS, load_curves
from llmops_tui.screens.serve_now import NOW_COLUMNS, now_rows
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run
from llmops_tui.screens.widgets.table import RowTable

if TYPE_CHECKING:
    from textual.widget import Widget

_NOTHING = "nothing is served yet: a starts an endpoint from a model"
_PANES = ("endpoints", "parts", "chart", "now")
_ROWS_FOR_ALL = 34
_LEAST_PARTS = 4


class ServeScreen(ServeActions):
    """The endpoints have the keys; Tab goes to the versions of the chosen one, its chart, its last minutes."""

    BINDINGS = bindings("serve", "pages")
    PLACES = ("serve",)
    PAGE = "serve"

    def __init__(self) -> None:
        super().__init__()
        self._metric = "ttft"
        self._wanted_part: str | None = None

    def compose(self) -> ComposeResult:
        """Header, gateway, endpoints, how it stands, versions beside the chart, the line that asks, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="gateway")
        endpoints = RowTable(ENDPOINT_COLUMNS, "asking the engine…", id="endpoints")
        endpoints.add_class("panel")
        yield endpoints
        yield LineWidget(id="verdict")
        with Container(id="serving"):
            with Container(id="inside"):
                for name, columns in (("parts", part_columns(False)), ("now", NOW_COLUMNS)):
                    table = RowTable(columns, "", id=name)
                    table.add_class("panel")
                    yield table
            with Container(id="outside"):
                chart = BrailleChart(id="chart")
                chart.add_class("panel")
                yield chart
        yield EditLine("", id="ask")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """The endpoints have the keys."""
        self.query_one("#ask").display = False
        self.query_one("#endpoints").border_title = "endpoints"
        self.set_focus(self.query_one("#endpoints"))

    def go_to(self, name: str) -> None:
        """Stand on an endpoint, one that was just started too."""
        self._wanted_endpoint = name
        self.drop_draft()
        self.choose(name)

    # What the keys mean.

    def run_id(self) -> str | None:
        """The server under the cursor, where the versions have the keys."""
        key = self.query_one("#parts", RowTable).key or ""
        return key.removeprefix("r:") if self.focused is self.query_one("#parts") and key.startswith("r:") else None

    def loaded_run(self) -> str:
        """The server under the cursor, else the version's first, while the chart shows what servers tell of themselves."""
        return (self.run_id() or self._first_server()) if self._metric in LOADS else ""

    def fields(self) -> dict[str, str]:
        """The selection: endpoint, version, and the server's run."""
        endpoint = self.chosen
        return {**super().fields(), "endpoint": endpoint["name"] if endpoint else "", "version": self.version_name}

    def remember(self) -> dict[str, Any]:
        """The endpoint, the chart, the kept baselines."""
        endpoint = self.chosen
        return {
            "endpoint": endpoint["name"] if endpoint else "", "metric": self._metric, "span": self.span,
            "baselines": {name: list(hour) for name, hour in self.baselines.items()},
        }  # fmt: skip

    def recall(self, remembered: dict[str, Any]) -> None:
        """Stand as before."""
        if isinstance(name := remembered.get("endpoint"), str):
            self._chosen_name = self._wanted_endpoint = name
        if isinstance(metric := remembered.get("metric"), str):
            self._metric = metric
        if isinstance(span := remembered.get("span"), int) and 0 <= span < len(SPANS):
            self.span = span
        kept = remembered.get("baselines")
        for name, hour in kept.items() if isinstance(kept, dict) else ():
            if isinstance(hour, list) and len(hour) == 2 and all(isinstance(t, int | float) for t in hour):
                self.baselines[str(name)] = (float(hour[0]), float(hour[1]))

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """Versions and servers of every endpoint."""
        columns = [
            "endpoint",
            "state",
            "version",
            "model",
            "share",
            "version_state",
            "requests",
            "errors",
            "server",
            "server_state",
            "cause",
        ]
        rows: list[list[Any]] = []
        for each in self.endpoints:
            for version in each["versions"]:
                of = [replica for replica in each["replicas"] if replica["version"] == version["name"]]
                told = [version["name"], version["model"] or version["provider"], version["share"], version["state"]]
                for server in [[replica["run"], replica["state"], replica["cause"]] for replica in of] or [["", "", ""]]:
                    rows.append([each["name"], each["state"], *told, version["requests"], version["errors"], *server])
        return columns, rows

    def action_pane(self, by: int) -> None:
        """The next part that is shown; on a narrow page the last minutes take the chart's place while they have the keys."""
        panes = _PANES if self.endpoints else _PANES[:1]
        at = panes.index(self.focused.id) if self.focused is not None and self.focused.id in panes else 0
        self._give_keys(panes[(at + by) % len(panes)])

    def action_cycle_metric(self, by: int) -> None:
        """Another quantity in the chart."""
        names = self._metrics()
        at = names.index(self._metric) if self._metric in names else 0
        self._metric = names[(at + by) % len(names)]
        self.perform(self._draw_chart)
        if self._metric in LOADS:
            self.want(now=True)

    def action_cycle_span(self) -> None:
        """A longer stretch in the chart."""
        self.span = (self.span + 1) % len(SPANS)
        self.perform(self._draw_chart)
        self.want(now=True)

    def on_row_table_row_highlighted(self, message: RowTable.RowHighlighted) -> None:
        """Another endpoint or version is meant."""
        if message.table.id == "endpoints" and message.key != self._chosen_name:
            self.drop_draft()
            self.choose(message.key)
            self.query_one("#parts", RowTable).action_end(False)
        elif message.table.id == "parts" and self.focused is message.table and (endpoint := self.chosen) is not None:
            self._version = self._version_at(message.key)
            self._chosen_name = endpoint["name"]
            if self._metric in LOADS:
                self.want(now=True)
        self.perform(self.draw)

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """Apply the new split; else from the endpoint to its versions, from a server into its run's log."""
        if self.draft is not None:
            self.apply_draft()
        elif message.table.id == "endpoints":
            self._give_keys("parts")
        elif message.key.startswith("r:"):
            self.open_log(message.key.removeprefix("r:"))
        elif message.key.startswith("v:"):
            self.action_log()

    def on_braille_chart_linked_wanted(self) -> None:
        """GPUs and host go with one run."""
        self.llmops.tell("GPUs and host are shown beside one run: Enter on a server, then p", "warn")

    def on_descendant_focus(self) -> None:
        """On a narrow page what has the keys is what is shown."""
        super().on_descendant_focus()
        self.perform(self._arrange, self.draw)

    # What is shown.

    def draw(self) -> None:
        """Everything below the header."""
        self._arrange()
        now, ascii_only = self.state.clock(), self.llmops.ascii_only
        self.query_one("#gateway", LineWidget).show_lines([gateway_line(self.gateway)])
        table, wanted = self.query_one("#endpoints", RowTable), self._wanted_endpoint
        rows = [endpoint_row(each, self.live.get(each["name"]), self.compared.get(each["name"]), now) for each in self.endpoints]
        if any(row.key == wanted for row in rows):
            self._wanted_endpoint = ""
        table.show(rows, empty=_NOTHING if self.known else self.why, select=wanted or None)
        past = " as they are now: the past keeps their latency" if self.state.moment is not None else ", last five minutes"
        table.border_title = f"endpoints {len(rows)}{past}" if rows else "endpoints"
        endpoint = self.chosen
        parts = self.query_one("#parts", RowTable)
        parts.show(part_rows(endpoint, self.draft, now, ascii_only) if endpoint else [], empty="", select=self._wanted_part)
        self._wanted_part = None
        parts.border_title = self._parts_title(now)
        moving = self.draft is not None or (endpoint is not None and endpoint["pending"] is not None)
        parts.set_columns(part_columns(moving))
        self._draw_verdict()
        self._draw_now()
        self._draw_chart()

    def _parts_title(self, now: float) -> str:
        endpoint = self.chosen
        if endpoint is None:
            return "versions"
        if self.draft is not None:
            return f"{endpoint['name']}: {self.draft_words()} — Enter applies, Esc drops it"
        if endpoint["pending"] is not None:
            return f"{endpoint['name']}: {pending_words(endpoint, now)}"
        return " · ".join([endpoint["name"], *kept_words(endpoint)])

    def _draw_verdict(self) -> None:
        verdict, endpoint = self.query_one("#verdict", LineWidget), self.chosen
        if endpoint is None:
            verdict.show_lines([])
            return
        name = endpoint["name"]
        wide = self.size.width >= WIDE_COLUMNS
        lines: list[list[Run]] = [health_line(self.endpoints, self.gateway), *speed_lines(name, self.compared.get(name), wide)]
        verdict.show_lines([*lines, [(f" {endpoint['curl']}", "muted")]])

    def _draw_now(self) -> None:
        now, endpoint = self.query_one("#now", RowTable), self.chosen
        name = endpoint["name"] if endpoint else ""
        rows = now_rows(self.live.get(name), self.version_name, self.slo())
        past = "the last minutes are those of now; the chart shows the past"
        now.show(rows, empty=past if self.state.moment is not None else "asking the engine…" if endpoint else "")
        now.border_title = f"{name} {self.version_name}" if endpoint else "now"

    def _draw_chart(self) -> None:
        chart, endpoint = self.query_one("#chart", BrailleChart), self.chosen
        if endpoint is None:
            chart.border_title = "latency"
            chart.show([], empty="")
            return
        if self._metric not in self._metrics():
            self._metric = next(iter(METRICS))
        name, version, (_, words) = endpoint["name"], self.version_name, SPANS[self.span]
        whose = name if self._metric == VERSIONS else f"{name} {version}"
        if run := self.loaded_run():
            self._draw_load(chart, run, words)
            return
        chart.border_title = f"{whose}: {title_of(self._metric)}, {words}"
        curves = curves_of(self.history, self._metric, version, self.slo())
        detail, history = self.details.get(name), self.history
        marks = change_marks(detail["history"], history["since"], history["until"]) if detail and history else []
        bounds = (history["since"], history["until"]) if history else None
        empty = "asking the engine…" if history is None else f"no request to {version} in {words}"
        chart.show(curves, marks, empty, f"{name} {version} {self._metric}", bounds)

    def _draw_load(self, chart: BrailleChart, run: str, words: str) -> None:
        told = self.load if self.load is not None and self.load.run == run else None
        chart.border_title = f"{run}: {LOADS[self._metric].title}, {words}"
        bounds = (told.since, told.until) if told else None
        empty = "asking the engine…" if told is None else f"{run} told nothing of it in {words}"
        chart.show(load_curves(told, self._metric), [], empty, f"{run} {self._metric}", bounds)

    def _metrics(self) -> list[str]:
        """What the chart can show of the version: also what its servers tell of themselves, where it has any."""
        return [*metrics_of(self.history, self.slo()), *(LOADS if self._first_server() else ())]

    def _first_server(self) -> str:
        """Of the version, one that answers before others."""
        servers = self.servers()
        return min(servers, key=lambda replica: replica["state"] != "ready")["run"] if servers else ""

    def _arrange(self) -> None:
        """Rows by what there is to show."""
        wide, rows = self.size.width >= WIDE_COLUMNS, self.size.height
        endpoints, parts, now = (self.query_one(f"#{name}") for name in ("endpoints", "parts", "now"))
        most = 4 if rows < 20 else 6 if rows < 30 else max(8, rows // 4)
        _set_rows(endpoints, min(max(2, len(self.endpoints)) + 2, most) if self.endpoints else None)
        verdict = self.query_one("#verdict")
        self._shown(verdict, bool(self.endpoints) and rows >= 12)
        _set_rows(verdict, 3 if rows >= 20 else 2)
        self._shown(self.query_one("#serving"), bool(self.endpoints))
        instead = not wide and self.focused is now
        self._shown(self.query_one("#outside"), (wide or not instead) and rows >= 16)
        self._shown(now, (wide and rows >= _ROWS_FOR_ALL) or self.focused is now)
        endpoint = self.chosen
        count = len(endpoint["versions"]) + len(endpoint["replicas"]) if endpoint else 0
        if wide:
            inside = rows - 8 - (max(2, len(self.endpoints)) + 2)
            _set_rows(parts, min(max(2, count) + 2, max(_LEAST_PARTS, inside // 2)) if now.display else None)
        else:
            _set_rows(parts, min(max(2, count) + 2, max(_LEAST_PARTS, (rows - 7 - min(max(2, len(self.endpoints)) + 2, most)) // 2)))

    def _shown(self, widget: Widget, wanted: bool) -> None:
        """Unless another panel has the whole page."""
        if widget.has_class("-aside"):
            return
        if widget.display != wanted:
            widget.display = wanted

    def _give_keys(self, name: str) -> None:
        widget = self.query_one(f"#{name}")
        widget.display = True  # what is hidden cannot take them
        take_keys(widget)
        self.call_after_refresh(self.redraw)

    def _version_at(self, key: str) -> str:
        """The version of a row of the parts."""
        endpoint = self.chosen
        if key.startswith("r:") and endpoint is not None:
            return next((each["version"] for each in endpoint["replicas"] if each["run"] == key.removeprefix("r:")), "")
        return key.removeprefix("v:")


def _set_rows(widget: Widget, rows: int | None) -> None:
    """Only where it differs: setting a style lays the page out again."""
    wanted = rows if rows is not None else "1fr"
    present = widget.styles.height
    if present is None or (present.value if rows is not None else str(present)) != wanted:
        widget.styles.height = wanted
