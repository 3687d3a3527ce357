"""The answer of a `:sql` query, as a table or, where its columns are numbers, as a chart over the first of them."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.palettes import SERIES
from llmops_tui.screens.widgets.axes import value_text
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.curve import NUMBER, Curve
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run, spaced
from llmops_tui.screens.widgets.table import Column, Row, RowTable
from llmops_tui.specs.answers import SqlAnswer

_MOST_ROWS = 10_000
_MEASURED_ROWS = 200
_WIDEST = 40


class SqlScreen(Board):
    """`c` changes between table and chart, `r` asks again, `e` edits the query."""

    BINDINGS = bindings("sql")
    PLACES = ("sql",)
    PAGE = "sql"

    def __init__(self, query: str) -> None:
        super().__init__()
        self._query = query
        self._answer: SqlAnswer | None = None
        self._problem = "asking the database…"
        self._charted = False
        self._took = 0.0

    def compose(self) -> ComposeResult:
        """Header, the query, the answer, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        with Container(id="answer"):
            yield Container(id="table", classes="panel")
            chart = BrailleChart(id="chart")
            chart.add_class("panel")
            yield chart
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask."""
        self.query_one("#chart").display = False
        self.run_worker(self._ask())

    def draw(self) -> None:
        """The query in a line; the parts draw themselves."""
        title = self.query_one("#title", LineWidget)
        rows = len(self._answer["rows"]) if self._answer else 0
        cut = " (the first; add LIMIT or WHERE)" if self._answer and self._answer["truncated"] else ""
        told = f"{rows} rows{cut} · {self._took:.2f} s" if self._answer else self._problem
        query = " ".join(self._query.split())
        right: Run = (f"  {told} ", "muted" if self._answer else "warn")
        title.show_lines([spaced([(" sql ", "title"), (query, "text")], [right], title.size.width)])

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """The answer."""
        return (self._answer["columns"], self._answer["rows"]) if self._answer else None

    def action_back(self) -> None:
        """To the page before."""
        self.leave()

    def action_ask_again(self) -> None:
        """The same query now."""
        self.run_worker(self._ask())

    async def action_edit(self) -> None:
        """Change the query."""
        await self.leave()
        await self.llmops.action_command_line(f"sql {self._query}")

    def action_chart(self) -> None:
        """Table or chart."""
        if self._answer is None:
            return
        curves = curves_of(self._answer)
        if not curves:
            self.llmops.tell("a chart needs a first column of numbers or times, ascending, and another column of numbers", "warn")
            return
        self._charted = not self._charted
        self.query_one("#table").display = not self._charted
        chart = self.query_one(BrailleChart)
        chart.display = self._charted
        chart.show(curves)
        take_keys(chart if self._charted else self.query_one(RowTable))

    async def _ask(self) -> None:
        began = time.monotonic()
        try:
            self._answer = await call(lambda: self.client.sql(self._query, _MOST_ROWS))
        except LlmopsError as error:
            self._answer, self._problem = None, str(error)
        self._took = time.monotonic() - began
        if self.ready:
            await self._show()
            self.redraw()

    async def _show(self) -> None:
        place = self.query_one("#table", Container)
        await place.remove_children()
        if self._answer is None:
            table = RowTable((Column("", 0),), self._problem)
            await place.mount(table)
        else:
            texts = [[_cell(value) for value in row] for row in self._answer["rows"]]
            table = RowTable(_columns(self._answer, texts), "no rows")
            await place.mount(table)
            table.show([Row(str(at), tuple((text, "text") for text in row)) for at, row in enumerate(texts)])
        take_keys(table)


def _columns(answer: SqlAnswer, texts: list[list[str]]) -> list[Column]:
    """As wide as what the first rows hold; the last takes the rest."""
    columns = []
    for at, (name, kind) in enumerate(zip(answer["columns"], answer["types"], strict=True)):
        longest = max([len(name), *(len(row[at]) for row in texts[:_MEASURED_ROWS])])
        last = at == len(answer["columns"]) - 1
        width = 0 if last else min(_WIDEST, max(3, longest))
        columns.append(Column(name, width, right=_is_number(kind) and not last, rank=0 if at < 3 else at))
    return columns


def _is_number(kind: str) -> bool:
    return any(kind.upper().startswith(word) for word in ("INT", "BIG", "SMALL", "TINY", "HUGE", "U", "DOUBLE", "FLOAT", "DECIMAL"))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return value_text(value)
    return str(value)


def curves_of(answer: SqlAnswer) -> list[Curve]:
    """Each further column of numbers over the first column, where that one ascends; otherwise over the row's number."""
    numbers = [at for at, kind in enumerate(answer["types"]) if _is_number(kind)]
    rows = answer["rows"]
    if not numbers or len(rows) < 2:
        return []
    first = [row[numbers[0]] for row in rows]
    ascends = len(numbers) > 1 and all(a is not None and b is not None and a <= b for a, b in pairwise(first))
    x = [float(value) for value in first] if ascends else [float(at) for at in range(len(rows))]
    shown = (numbers[1:] if ascends else numbers)[:SERIES]
    return [Curve.from_points(answer["columns"][at], x, [row[at] for row in rows], NUMBER) for at in shown]
