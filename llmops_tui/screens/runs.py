"""Runs: every run the engine knows, a filter in one line, marks, and what can be done to the marked ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Horizontal

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.calls import call
from llmops_tui.screens.filter_words import KnownWords, begins_key, column_words, suggest
from llmops_tui.screens.run_cells import as_of, run_columns, run_row
from llmops_tui.screens.run_preview import PreviewBoard
from llmops_tui.screens.widgets.edit_line import Completion, EditLine
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.table import Row, RowTable
from llmops_tui.specs.run_config import flatten
from llmops_tui.specs.run_filter import FilterError, parse
from llmops_tui.specs.states import ACTIVE

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunPage, RunSummary, Scalar

_TYPING_SECONDS = 0.08  # between a keystroke and the question, so that a word typed fast is one question
_KEY_SECONDS = 0.6  # the beginning of a key is no word to look for, unless nothing follows
_PREVIEW_SECONDS = 0.15
_COLUMNS_MOST = 8  # the engine answers no more at once
_OVERLAID = 8
_BLANK = "state:running tag:x cfg.learning_rate>=1e-4   Tab completes, Esc back to the table"
_NO_RUNS = "no runs yet: n makes one, `llmops-tui demo` in another terminal shows how it goes"

_EXPORT_PAGE = 10_000
_EXPORTED = (
    "id", "kind", "name", "state", "reason", "attempt", "owner", "tags", "note", "baseline", "submitted_at", "started_at", "ended_at",
    "exit_code", "gpus", "gpu_seconds", "energy_joules", "cost",
)  # fmt: skip


class RunsScreen(PreviewBoard):
    """The second mode. The engine filters, sorts and pages: the screen holds only what was looked at."""

    BINDINGS = bindings("runs", "run_actions", "pages")
    PLACES = ("runs", "run_actions")
    PAGE = "runs"

    def __init__(self) -> None:
        super().__init__()
        self._filter = ""
        self._added: list[str] = []
        self._runs: dict[str, RunSummary] = {}
        self._values: dict[str, dict[str, Scalar]] = {}
        self._known = KnownWords()
        self._costs = False
        self._total = -1
        self._renew = True
        self._home = False
        self._from_first = False
        self._asking_runs = False
        self._signature: tuple[object, ...] = ()
        self._drawn_at: tuple[object, ...] = ()
        self._typing = 0

    def compose(self) -> ComposeResult:
        """Header, filter, table and preview, the line that asks, foot."""
        yield LineWidget(id="header")
        yield EditLine("/", "filter: / then state:failed, tag:x, words, …", self._suggest, id="filter")
        with Horizontal(id="listed"):
            table = RowTable(run_columns((), False), "asking the engine…", markable=True, id="every")
            table.add_class("panel")
            yield table
            yield from self.compose_preview()
        yield EditLine("", id="ask")
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """The table has the keys, newest runs first."""
        table = self.query_one(RowTable)
        table.border_title = "runs"
        if not table.sort:
            table.sort, table.descending = "submitted", True
        self.query_one("#ask").display = False
        take_keys(table)

    # What the keys mean.

    def run_id(self) -> str | None:
        """The run under the cursor."""
        return self.query_one(RowTable).key

    def targets(self) -> list[str]:
        """The marked runs, else the cursor's."""
        return list(self.query_one(RowTable).marks) or super().targets()

    def summary_of(self, run_id: str) -> RunSummary | None:
        """From the newest status, else as it was when its row came."""
        return self.state.run(run_id) or self._runs.get(run_id)

    def tags_in_use(self) -> list[str]:
        """The tags seen in the table too."""
        return sorted({*super().tags_in_use(), *self._known.values.get("tag", ())})

    def runs_changed(self) -> None:
        """Rows, previews and order may be others now."""
        super().runs_changed()
        self.forget_previews()
        gone = {run_id for run_id in self.query_one(RowTable).marks if run_id not in self._runs}
        for run_id in gone:
            del self.query_one(RowTable).marks[run_id]
        self._ask()

    # What is shown.

    def draw(self) -> None:
        """Everything below the header."""
        moment = self.state.moment
        drawn = (moment, self.llmops.ascii_only, self._costs)
        if drawn != self._drawn_at:
            self._drawn_at = drawn
            self.query_one(RowTable).set_columns(run_columns(self._added, self._costs))
            self._redo(list(self._runs))
        self._draw_titles()
        self.draw_preview()

    def status_arrived(self) -> None:
        """Rows of the newest status are drawn anew; runs that came, went or changed state are asked for."""
        moving = []
        for run in self.state.runs():
            known = self._runs.get(run["id"])
            if known is not None and (known != run or run["state"] in ACTIVE):
                if self.state.moment is None:
                    self._runs[run["id"]] = run
                moving.append(run["id"])
        self._redo(moving)
        signature = (self.state.moment, *sorted((run["id"], run["state"]) for run in self.state.runs()))
        if signature != self._signature or self._total < 0:
            self._signature = signature
            self._ask()
        self.want_preview()

    def remember(self) -> dict[str, Any]:
        """Filter, order, columns, marks and the cursor's run."""
        table = self.query_one(RowTable)
        history = self.query_one("#filter", EditLine).editor.history
        return {
            "filter": self._filter, "history": history[-20:], "sort": table.sort, "descending": table.descending,
            "columns": self._added, "marks": list(table.marks), "selected": table.key,
        }  # fmt: skip

    def recall(self, remembered: dict[str, Any]) -> None:
        """Stand as before."""
        table, line = self.query_one(RowTable), self.query_one("#filter", EditLine)
        words = {name: [word for word in remembered.get(name) or [] if isinstance(word, str)] for name in ("history", "columns", "marks")}
        line.editor.history = words["history"]
        text = remembered.get("filter")
        if isinstance(text, str) and self._readable(text):
            self._filter = text
            line.put(text)
        self._added = [name for name in words["columns"] if name.startswith(("cfg.", "metric."))][:_COLUMNS_MOST]
        table.set_columns(run_columns(self._added, self._costs))
        table.marks = dict.fromkeys(words["marks"])
        if any(column.sort == remembered.get("sort") for column in table.columns if column.sort):
            table.sort, table.descending = str(remembered["sort"]), remembered.get("descending") is True
        selected = remembered.get("selected")
        self._select = selected if isinstance(selected, str) else None

    _select: str | None = None

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """The rows that were looked at."""
        return self.query_one(RowTable).export_rows()

    async def whole_table(self) -> tuple[list[str], list[list[Any]]]:
        """Every run that the filter finds, in the order shown, with the columns that were added; values, not how they are shown."""
        text, sort, descending, columns = self._question()
        rows: list[list[Any]] = []
        while True:
            page = await call(
                self.client.runs, filter=text, sort=sort, descending=descending, limit=_EXPORT_PAGE, offset=len(rows), columns=columns
            )
            for run in page["runs"]:
                extra = page["columns"].get(run["id"], {})
                rows.append([*(run.get(name) for name in _EXPORTED), *(extra.get(name) for name in columns)])
            if not page["runs"] or len(rows) >= page["total"]:
                return [*_EXPORTED, *columns], rows

    # The keys.

    def action_filter(self) -> None:
        """Write the filter."""
        take_keys(self.query_one("#filter", EditLine))
        self.run_worker(self._learn_words())

    def filter_by(self, text: str) -> None:
        """Another filter, from outside of the line."""
        self.query_one("#filter", EditLine).put(text)
        self._take_filter(text)

    def action_clear_filter(self) -> None:
        """Every run again."""
        line = self.query_one("#filter", EditLine)
        if line.text or self._filter:
            line.put("")
            self._readable("")  # what was wrong with the one before is no more
            self._take_filter("")

    def action_add_column(self) -> None:
        """A setting or a metric as a column."""
        self.run_worker(self._learn_words())
        self.ask("add a column:", "", "metric.eval/loss or cfg.learning_rate; Tab completes", self._add_column, self._suggest_column)

    def action_remove_column(self) -> None:
        """Take an added column away: the only one at once, one of several by name."""
        if not self._added:
            self.llmops.tell("no column was added: a adds one", "warn")
        elif len(self._added) == 1:
            self._drop_column(self._added[0])
        else:
            complete = [Completion(0, name) for name in self._added]
            self.ask("remove the column:", self._added[-1], "", self._drop_column, lambda text, at: complete)

    def action_compare(self) -> None:
        """The curves of the marked runs over each other, and how the runs differ."""
        self.run_worker(self._open_comparison())

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """Into the run's page."""
        self.llmops.open_run(message.key)

    def on_row_table_row_highlighted(self) -> None:
        """The preview follows, once the cursor rests."""
        self.state.selected = self.run_id() or self.state.selected
        self.draw_preview()
        self.set_timer(_PREVIEW_SECONDS, self.want_preview)

    def on_row_table_marks_changed(self) -> None:
        """They are counted in the title."""
        self._draw_titles()

    def on_row_table_sort_changed(self) -> None:
        """The engine sorts; the first row is what was asked for."""
        self._from_first = True
        self._ask()

    def on_row_table_page_wanted(self) -> None:
        """Rows that were scrolled to."""
        self._ask(renew=False)

    def on_edit_line_changed(self, message: EditLine.Changed) -> None:
        """The filter works as it is typed."""
        if message.line.id == "filter":
            self._typing += 1
            number, text = self._typing, message.text
            self._readable(text)

            def rested() -> None:
                if number == self._typing:
                    self._take_filter(text)

            begun = begins_key(text) and message.line.has_focus
            self.set_timer(_KEY_SECONDS if begun else _TYPING_SECONDS, rested)

    def on_edit_line_submitted(self, message: EditLine.Submitted) -> None:
        """Back to the table with this filter."""
        super().on_edit_line_submitted(message)
        if message.line.id == "filter":
            self._take_filter(message.text)
            take_keys(self.query_one(RowTable))

    def on_edit_line_left(self, message: EditLine.Left) -> None:
        """Back to the table; a filter that can't be read stays to be mended, the last good one holds."""
        super().on_edit_line_left(message)
        if message.line.id == "filter":
            self._take_filter(message.line.text)
            message.line.editor.keep()
            take_keys(self.query_one(RowTable))

    # How rows come.

    def _take_filter(self, text: str) -> None:
        self._typing += 1
        if text != self._filter and self._readable(text):
            self._filter, self._home = text, True
            self._ask()

    def _readable(self, text: str) -> bool:
        """Whether the filter can be read; where not, the reason stands under the character."""
        line = self.query_one("#filter", EditLine)
        try:
            parse(text)
        except FilterError as error:
            words = suggest(text, len(text), self._known) if error.position == len(text) and line.has_focus else []
            if words:  # not wrong, only not written yet
                line.tell(" ".join(word.text.strip() for word in words), "muted", error.position)
            else:
                _tell_error(line, error, error.position)
            return False
        line.tell("")
        return True

    def _ask(self, renew: bool = True) -> None:
        self._renew = self._renew or renew
        if not self._asking_runs:
            self._asking_runs = True
            self.run_worker(self._fetch())

    def _question(self) -> tuple[str, str, bool, tuple[str, ...]]:
        table = self.query_one(RowTable)
        return self._filter, table.sort, table.descending, tuple(self._added)

    async def _fetch(self) -> None:
        try:
            while self.ready:
                renew, question = self._renew, self._question()
                self._renew = False
                wanted = self.query_one(RowTable).missing()
                if not renew and wanted is None:
                    break
                page, offset = await self._ask_page(question, renew, wanted)
                if question != self._question():
                    self._renew = True  # another question was asked meanwhile: its answer counts
                elif self.ready:
                    self.perform(lambda page=page, offset=offset, renew=renew: self._take_page(page, offset, renew))  # type: ignore[misc]
                    if not page["runs"] and not renew:
                        break
        except LlmopsError as error:
            refusal = error
            if self.ready:
                self.perform(lambda: self._refuse(refusal))
        finally:
            self._asking_runs = False

    async def _ask_page(
        self, question: tuple[str, str, bool, tuple[str, ...]], renew: bool, wanted: tuple[int, int] | None
    ) -> tuple[RunPage, int]:
        table = self.query_one(RowTable)
        text, sort, descending, columns = question
        first, limit = table.window()
        if not renew and wanted is not None:
            first, limit = wanted
        offset = 0 if renew and (self._home or self._from_first) else first
        around = (self._select or table.key or "") if renew and not self._from_first else ""
        page = await call(
            self.client.runs, filter=text, sort=sort, descending=descending, limit=limit, offset=offset, columns=columns, around=around
        )
        return page, page["offset"]

    def _take_page(self, page: RunPage, offset: int, renew: bool) -> None:
        table = self.query_one(RowTable)
        if renew:
            self._runs, self._values = {}, {}
        self._total = page["total"]
        self._values.update(page["columns"])
        for run in page["runs"]:
            self._runs[run["id"]] = run
            self._known.add("tag", run["tags"])
            self._known.add("owner", [run["owner"]])
            self._known.metrics.update(run["latest"])
        costs = self._costs or any(run["cost"] is not None or run["energy_joules"] is not None for run in page["runs"])
        if costs != self._costs:
            self._costs = costs
            table.set_columns(run_columns(self._added, costs))
        rows = [self._row(run) for run in page["runs"]]
        select, self._select = self._select, None
        if renew and self._from_first:
            self._from_first = False
            select = page["runs"][0]["id"] if page["runs"] else None
        empty = "no run matches the filter; Esc takes it away" if self._filter else _NO_RUNS
        table.show_part(offset, rows, page["total"], renew=renew, home=self._home, select=select, empty=empty)
        self._home = False if renew else self._home
        self._draw_titles()
        self.want_preview()

    def _refuse(self, error: LlmopsError) -> None:
        table = self.query_one(RowTable)
        if any(field.get("field") == "filter" for field in error.fields):
            # The engine knows settings that the filter's grammar does not.
            place = error.fields[0].get("position", "")
            _tell_error(self.query_one("#filter", EditLine), error, int(place) if place.isdigit() else None)
        elif self.state.live:
            self.llmops.tell(str(error), "bad")
        elif not table.total:
            table.show([], empty=str(error))
        self._signature = ()  # the next good status asks again

    def _row(self, run: RunSummary) -> Row:
        moment = self.state.moment
        shown = run if moment is None else as_of(run, self.state.run(run["id"]), moment)
        values = self._values.get(run["id"], {})
        currency = self.state.status["currency"] if self.state.status else ""
        return run_row(shown, self._added, values, self._costs, self.state.clock(), self.llmops.ascii_only, currency)

    def _redo(self, run_ids: list[str]) -> None:
        if run_ids:
            self.query_one(RowTable).replace_rows({run_id: self._row(self._runs[run_id]) for run_id in run_ids if run_id in self._runs})

    def _draw_titles(self) -> None:
        table = self.query_one(RowTable)
        parts = [] if self._total < 0 else [f"{self._total} match" if self._filter else f"{self._total}"]
        if table.marks:
            parts.append(f"{len(table.marks)} marked")
        table.border_title = f"runs {' · '.join(parts)}"

    # Words and columns.

    def _suggest(self, text: str, at: int) -> list[Completion]:
        return suggest(text, at, self._known)

    def _suggest_column(self, text: str, at: int) -> list[Completion]:
        return [word for word in column_words(text, at, self._known) if word.text not in self._added]

    async def _learn_words(self) -> None:
        """The settings of one run of each kind seen: what Tab knows of."""
        kinds = {run["kind"]: run["id"] for run in reversed(list(self._runs.values()))}
        key = self.run_id()
        for run_id in [*([key] if key else []), *list(kinds.values())[:4]]:
            try:
                detail = await call(self.client.run, run_id)
            except LlmopsError:
                continue  # completion knows one run less
            self._known.config.update(flatten(detail["spec"]))
            self._known.metrics.update(detail["metrics"])

    def _add_column(self, text: str) -> None:
        name = text.strip()
        if not name:
            return
        if not name.startswith(("cfg.", "metric.")):
            name = f"metric.{name}" if "/" in name else f"cfg.{name}"
        if name in self._added:
            self.llmops.tell(f"{name} is a column already", "warn")
        elif len(self._added) >= _COLUMNS_MOST:
            self.llmops.tell(f"{_COLUMNS_MOST} columns at most: A takes one away", "warn")
        else:
            self._added.append(name)
            self._columns_changed()

    def _drop_column(self, text: str) -> None:
        if text.strip() not in self._added:
            self.llmops.tell(f"no added column {text.strip()!r}", "warn")
            return
        self._added.remove(text.strip())
        table = self.query_one(RowTable)
        if table.sort == text.strip():
            table.sort, table.descending = "submitted", True
        self._columns_changed()

    def _columns_changed(self) -> None:
        self.query_one(RowTable).set_columns(run_columns(self._added, self._costs))
        self._redo(list(self._runs))
        self._ask()

    # The comparison.

    async def _open_comparison(self) -> None:
        ids = self.targets()
        try:
            pinned = (await call(self.client.runs, filter="baseline:yes", limit=_OVERLAID))["runs"]
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
            return
        baselines = [run["id"] for run in pinned]
        # A pinned run that is marked comes first; one that is not marked only where nothing else is there to compare with.
        first = [run_id for run_id in baselines if run_id in ids] or (baselines[:1] if len(ids) == 1 else [])
        chosen = [*first, *(run_id for run_id in ids if run_id not in first)]
        if not self.ready:
            return
        if len(chosen) < 2:
            self.llmops.tell("mark at least two runs with space, or pin a baseline with b", "warn")
            return
        if len(chosen) > _OVERLAID:
            self.llmops.tell(f"the first {_OVERLAID} of {len(chosen)} marked runs are compared", "warn")
        from llmops_tui.screens.compare import CompareScreen

        self.app.push_screen(CompareScreen(chosen[:_OVERLAID]))


def _tell_error(line: EditLine, error: LlmopsError, position: int | None) -> None:
    """The reason stands under its character, so its number need not be told."""
    reason = error.fields[0]["message"].rsplit(" (character", 1)[0]
    line.tell(reason + (f"; {error.next_step}" if error.next_step else ""), "bad", position)
