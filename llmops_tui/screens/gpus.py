"""GPUs: each with its load and health, who holds which memory since when and idle how long, and stopping what is one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import WIDE_COLUMNS, Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.gpu_cells import detail_lines, gpu_cells, heaviest_of_mine, holder_cells, holders, slot_rows
from llmops_tui.screens.linked import LinkedCharts, history_groups
from llmops_tui.screens.widgets.axes import duration_text
from llmops_tui.screens.widgets.lines import LineWidget, Run
from llmops_tui.screens.widgets.panels import host_panel
from llmops_tui.screens.widgets.strips import history_strip
from llmops_tui.screens.widgets.table import Column, Row, RowTable

if TYPE_CHECKING:
    from llmops_tui.specs.answers import GpuSample, RunSummary

_STRIP_CELLS = 16
_ROWS_FOR_DETAIL, _ROWS_FOR_CHARTS = 32, 30
_HISTORY_SECONDS, _HISTORY_EVERY_SECONDS = 600.0, 5.0
_GPU_COLUMNS = (
    Column("", 2),
    Column("load", _STRIP_CELLS, rank=3),
    Column("", 4, right=True),
    Column("memory", 10, rank=2),
    Column("", 13, right=True),
    Column("power", 10, right=True, rank=1),
    Column("heat", 5, right=True),
    Column("health", 10),
    Column("who", 0, least=14),
)
_HOLDER_COLUMNS = (
    Column("gpu", 3),
    Column("memory", 9, right=True),
    Column("run or process", 0, least=26),
    Column("owner", 10),
    Column("since", 7, right=True, rank=1),
    Column("idle", 11),
)


class GpusScreen(Board):
    """The holders have the keys, the cursor on one's own heaviest run: `x` stops it."""

    BINDINGS = bindings("gpus", "pages")
    PLACES = ("gpus",)
    PAGE = "gpus"

    def __init__(self) -> None:
        super().__init__()
        self._chosen = False
        self._wanted: dict[str, str] = {}
        self._asked: tuple[float | None, int | None] | None = None
        self._asked_at = 0.0

    def compose(self) -> ComposeResult:
        """Header, GPUs (or the host), holders beside details, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="box", classes="panel")
        cards = RowTable(_GPU_COLUMNS, "no GPU on this box: runs take CPU slots", id="cards")
        cards.add_class("panel")
        yield cards
        with Container(id="middle"):
            table = RowTable(_HOLDER_COLUMNS, "nobody holds GPU memory", id="holders")
            table.add_class("panel")
            yield table
            with Container(id="beside"):
                yield LineWidget(id="detail", classes="panel")
                yield LinkedCharts(id="past-minutes", classes="panel")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """The holders have the keys."""
        self.query_one("#cards").border_title = "gpus"
        self.query_one("#holders").border_title = "who holds what"
        self.query_one("#detail").border_title = "gpu"
        self.query_one("#box").border_title = "box"
        self.set_focus(self.query_one("#holders"))

    def run_id(self) -> str | None:
        """The run under the cursor."""
        status = self.state.status
        key = self.query_one("#holders", RowTable).key
        if status is None or key is None:
            return None
        if not status["gpus"]:
            return key
        return next((holder.run for holder in holders(status) if holder.key == key), None)

    def gpu(self) -> GpuSample | None:
        """The GPU under the cursor of the focused table."""
        gpus = self.state.status["gpus"] if self.state.status else []
        cards, table = self.query_one("#cards", RowTable), self.query_one("#holders", RowTable)
        key = cards.key if self.focused is cards else (table.key or cards.key)
        index = (key or "").split(" ")[0]
        return next((gpu for gpu in gpus if str(gpu["index"]) == index), None)

    def fields(self) -> dict[str, str]:
        """The selection: the run, the GPU."""
        gpu = self.gpu()
        return {**super().fields(), **({"gpu": str(gpu["index"]), "uuid": gpu["uuid"]} if gpu else {})}

    def remember(self) -> dict[str, Any]:
        """The cursors."""
        return {"card": self.query_one("#cards", RowTable).key, "holder": self.query_one("#holders", RowTable).key}

    def recall(self, remembered: dict[str, Any]) -> None:
        """Back to the same rows."""
        self._wanted = {name: key for name, key in remembered.items() if isinstance(key, str)}

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """Who holds what."""
        found = holders(self.state.status) if self.state.status else []
        columns = ["gpu", "memory_bytes", "run", "owner", "since", "idle_seconds", "what"]
        return columns, [[h.gpu, h.memory_bytes, h.run, h.owner, h.since, h.idle_seconds, h.what] for h in found]

    def draw(self) -> None:
        """Everything below the header."""
        status = self.state.status
        if status is None:
            return
        now, ascii_only, you = self.state.clock(), self.llmops.ascii_only, self.state.you()
        gpus = status["gpus"]
        box, cards, table = self.query_one("#box", LineWidget), self.query_one("#cards", RowTable), self.query_one("#holders", RowTable)
        self._show(box, not gpus)
        self._show(cards, bool(gpus))
        roomy = self.size.width >= WIDE_COLUMNS or self.size.height >= _ROWS_FOR_DETAIL
        self._show(self.query_one("#detail"), bool(gpus) and roomy)
        self._show(self.query_one("#past-minutes"), self._charted())
        if not gpus:
            box.styles.height = 4
            box.show_lines(host_panel(self.state, box.size.width, ascii_only))
            running = slot_rows(status["running"])
            table.border_title = "no GPU here: runs in the box's CPU slots"
            table.show([Row(run["id"], _slot_cells(run, now)) for run in running], empty="nothing runs")
            return
        cards.styles.height = min(len(gpus) + 2, max(4, self.size.height // 2))
        strips = [self._strip(gpu) for gpu in gpus]
        rows = [Row(str(gpu["index"]), gpu_cells(gpu, strip, now, ascii_only)) for gpu, strip in zip(gpus, strips, strict=True)]
        cards.show(rows, select=self._wanted.pop("card", None))
        found = holders(status)
        select = None if self._chosen or not found else self._wanted.get("holder") or heaviest_of_mine(found, you)
        self._chosen = self._chosen or bool(found)
        table.show([Row(holder.key, holder_cells(holder, now, you)) for holder in found], select=select)
        self._draw_detail()

    def status_arrived(self) -> None:
        """The minutes before, for the charts."""
        moment = self.state.moment
        gpu = self.gpu()
        wanted = (moment, gpu["index"] if gpu else None)
        if self._charted() and (wanted != self._asked or (moment is None and self.state.now() - self._asked_at >= _HISTORY_EVERY_SECONDS)):
            self._asked, self._asked_at = wanted, self.state.now()
            self.run_worker(self._ask_history())

    def on_row_table_row_highlighted(self, message: RowTable.RowHighlighted) -> None:
        """Another GPU's details."""
        self.perform(self._draw_detail, self.status_arrived)

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """Into the page of the run."""
        gpu = self.gpu()
        run_id = self.run_id() if message.table.id == "holders" else next(iter(gpu["held_by"]), None) if gpu else None
        if run_id:
            self.llmops.open_run(run_id)

    async def action_ask_owner(self) -> None:
        """A polite note to whom the run belongs."""
        if run_id := self.run_id():
            await self.llmops.action_command_line(f"ask {run_id} ")
        else:
            self.llmops.tell("that is no run of this engine: its owner hears nothing from here", "warn")

    async def action_reserve(self) -> None:
        """Keep a GPU for oneself."""
        if gpu := self.gpu():
            await self.llmops.action_command_line(f"reserve {gpu['index']} 2h ")

    def _charted(self) -> bool:
        return self.size.height >= _ROWS_FOR_CHARTS and self.size.width >= WIDE_COLUMNS

    async def _ask_history(self) -> None:
        end = self.state.clock()
        try:
            history = await call(self.client.host_history, _HISTORY_SECONDS, start=end - _HISTORY_SECONDS, end=end)
        except LlmopsError:
            return  # the header says that the engine is gone; the next status asks again
        if self.ready:
            gpu = self.gpu()
            charts = self.query_one(LinkedCharts)
            charts.show(history_groups(history, [gpu["index"]] if gpu else []))
            charts.border_title = f"gpu {gpu['index']}, the last ten minutes" if gpu else "the last ten minutes"

    @staticmethod
    def _show(widget: Widget, wanted: bool) -> None:
        """Unless another panel has the whole page."""
        widget.display = wanted and not widget.has_class("-aside")

    def _strip(self, gpu: GpuSample) -> str:
        return history_strip(list(self.state.history.get(f"gpu/{gpu['index']}/utilisation", ())), _STRIP_CELLS, self.llmops.ascii_only)

    def _draw_detail(self) -> None:
        detail, gpu = self.query_one("#detail", LineWidget), self.gpu()
        detail.border_title = f"gpu {gpu['index']}" if gpu else "gpu"
        lines = detail_lines(gpu, self.state.clock()) if gpu else []
        detail.show_lines(lines)


def _slot_cells(run: RunSummary, now: float) -> tuple[Run, ...]:
    """As `holder_cells`, of a run that holds no GPU."""
    since = "" if run["started_at"] is None else duration_text(now - run["started_at"])
    return ("-", "muted"), ("-", "muted"), (run["id"], "accent"), (run["owner"], "text"), (since, "muted"), ("", "muted")
