"""A quantize run's page: its forms side by side, those that no other beats marked; Enter picks one, its card stands beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from llmops_tui.commands.quantized import card_lines, cells_of, forms_of, picks_of
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.facts import CHECKPOINT_COLUMNS
from llmops_tui.screens.run import FACT_COLUMNS, RunScreen
from llmops_tui.screens.watch_rows import WATCH_COLUMNS
from llmops_tui.screens.widgets.axes import bytes_text
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.log_pane import LogPane
from llmops_tui.screens.widgets.sample_pane import SamplePane
from llmops_tui.screens.widgets.table import Column, Row, RowTable

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail

# As commands/quantized.py's HEAD; what has a rank goes first where there is no room.
FORM_COLUMNS = (
    Column("", 1), Column("type", 12), Column("size", 9, right=True), Column("perplexity", 10, right=True), Column("change", 9, right=True),
    Column("KL", 8, right=True, rank=4), Column("same", 6, right=True, rank=5), Column("tok/s", 6, right=True),
    Column("first", 8, right=True, rank=2), Column("memory", 9, right=True, rank=3), Column("model", 18, rank=1),
)  # fmt: skip


class QuantizedScreen(RunScreen):
    """The panes of every run's page under their keys: the metrics' place has the forms, that of the predicted memory the card."""

    PANES = {  # noqa: RUF012  # as the base class has it
        **RunScreen.PANES, "chart": ("curves", "right"), "metrics": ("forms", "left"), "memory": ("card", "right"),
    }  # fmt: skip
    STACKED = ("memory", "chart", "facts", "samples", "checkpoints", "capsule", "watchers")

    def __init__(self, run_id: str, pane: str = "") -> None:
        super().__init__(run_id, pane)
        self.pane, self.stacked = "metrics", "memory"

    def compose(self) -> ComposeResult:
        """As a run's page, with the forms over the log on the wide side."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        yield LineWidget(id="tabs")
        with Horizontal(id="panes"):
            with Container(id="left"):
                yield RowTable(FORM_COLUMNS, "no form is done yet: each is shown when all are", id="metrics")
                yield LogPane(id="log")
            with Container(id="right"):
                yield RowTable(FACT_COLUMNS, "no form is done yet", id="memory")
                yield BrailleChart(id="chart")
                yield SamplePane(id="samples")
                yield RowTable(CHECKPOINT_COLUMNS, "no checkpoint yet", id="checkpoints")
                yield RowTable(FACT_COLUMNS, "asking the engine…", id="facts")
                yield RowTable(FACT_COLUMNS, "asking the engine…", id="capsule")
                yield RowTable(WATCH_COLUMNS, "asking the engine…", id="watchers")
        yield EditLine("", id="ask")
        yield LineWidget(id="foot")

    def draw_metrics(self, metrics: RowTable) -> None:
        """The forms, in the order they were asked for."""
        rows = form_rows(self._detail)
        metrics.show(rows)
        to_pick = self._to_pick()
        metrics.border_title = "forms" + (": * is beaten by no other" if rows[1:] else "") + ("; Enter picks" if to_pick else "")

    def draw_memory(self, memory: RowTable) -> None:
        """The card of the form under the cursor."""
        card = self._card(self.query_one("#metrics", RowTable).key)
        lines = card_lines(card) if card else []
        checks = (card or {}).get("checks") or []
        rows = [Row(f"{number} {name}", ((name, "muted"), (words, "text"))) for number, (name, words) in enumerate(lines)]
        for check in checks:
            role = {"passed": "good", "warning": "warn"}.get(str(check.get("verdict")), "bad")
            rows.append(Row(f"check {check.get('name')}", ((str(check.get("name")), "muted"), (str(check.get("words")), role))))
        memory.show(rows)
        memory.border_title = f"card of {card['type']}" if card else "card"

    def metric_chosen(self, key: str) -> None:
        """A form: ask, then pick it."""
        card = self._card(key)
        if card is None or self.refuse_in_past():
            return
        if not self._to_pick():
            self.llmops.tell(f"it was the only form asked for and is registered as {card.get('name')}", "muted")
            return
        word = str(card["type"])
        others = [one for one in forms_of(self._detail) if one is not card] if self._detail else []
        entries = [("pick", f"register {word} as {card.get('name')}")]
        if others:
            room = bytes_text(sum(one.get("bytes") or 0 for one in others))
            entries.append(("pick, remove", f"and delete the others' files, {room}"))

        def answered(chosen: str | None) -> None:
            if chosen:
                remove = chosen != "pick"
                self.each([self._run_id], lambda run_id: self.client.pick(run_id, word, remove_others=remove), f"{word} is registered")

        self.app.push_screen(ChooseScreen(f"pick {word}?", entries), answered)

    def on_row_table_row_highlighted(self, message: RowTable.RowHighlighted) -> None:
        """Another form's card; the base class has its own say beside this one."""
        if message.table.id == "metrics":
            self.draw_memory(self.query_one("#memory", RowTable))

    def _to_pick(self) -> bool:
        return bool(self._detail and (self._detail.get("outcome") or {}).get("to_pick"))

    def _card(self, key: str | None) -> dict[str, Any] | None:
        forms = forms_of(self._detail) if self._detail else []
        return next((card for card in forms if card.get("type") == key), forms[0] if forms and key is None else None)


def form_rows(detail: RunDetail | None) -> list[Row]:
    """One row a form; the key is its type."""
    if detail is None:
        return []
    cards, picks = forms_of(detail), picks_of(detail)
    alone = not (detail.get("outcome") or {}).get("to_pick")
    rows = []
    for card in cards:
        cells = cells_of(card, picks, alone)
        roles = ["good", "bright" if card.get("on_front") else "text", *["text"] * 8, "muted" if cells[-1] in ("-", "removed") else "good"]
        rows.append(Row(str(card.get("type")), tuple(zip(cells, roles, strict=True))))
    return rows
