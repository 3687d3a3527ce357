"""Queue: what waits, for what and in which order; moving it, its priority, taking it out; and what it waits behind."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Container

from llmops_tui.keys import bindings
from llmops_tui.screens.board import Board
from llmops_tui.screens.widgets.axes import duration_text
from llmops_tui.screens.widgets.lines import LineWidget
from llmops_tui.screens.widgets.panels import elapsed_seconds, eta_of, progress_run, state_run
from llmops_tui.screens.widgets.table import Column, Row, RowTable
from llmops_tui.specs.answers import RunSummary

_PROGRESS_CELLS = 15
_WAITING = (
    Column("", 3, right=True),
    Column("run", 26, middle=True),
    Column("state", 10),
    Column("prio", 4, right=True),
    Column("owner", 10, rank=2),
    Column("waited", 7, right=True, rank=1),
    Column("waits for", 0, least=28),
)
_RUNNING = (
    Column("run", 26, middle=True),
    Column("state", 10),
    Column("progress", _PROGRESS_CELLS, rank=1),
    Column("eta", 7, right=True),
    Column("owner", 10, rank=2),
    Column("holds", 0),
)
_MOST_PRIORITY = 100


class QueueScreen(Board):
    """The waiting runs have the keys; `U` takes the last move or priority back."""

    BINDINGS = bindings("queue", "pages")
    PLACES = ("queue",)
    PAGE = "queue"

    def __init__(self) -> None:
        super().__init__()
        self._undo: list[tuple[str, str, int]] = []
        self._wanted: str | None = None

    def compose(self) -> ComposeResult:
        """Header, what waits, what runs, foot."""
        yield LineWidget(id="header")
        with Container(id="queue-body"):
            waiting = RowTable(_WAITING, "nothing waits: the next run starts at once", id="waiting")
            waiting.add_class("panel")
            yield waiting
            running = RowTable(_RUNNING, "nothing runs", id="running")
            running.add_class("panel")
            yield running
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """The waiting ones have the keys."""
        self.query_one("#waiting").border_title = "waiting"
        self.query_one("#running").border_title = "running"
        self.set_focus(self.query_one("#waiting"))

    def run_id(self) -> str | None:
        """The run under the cursor of the focused table."""
        running = self.query_one("#running", RowTable)
        return running.key if self.focused is running else self.query_one("#waiting", RowTable).key

    def remember(self) -> dict[str, Any]:
        """The cursor."""
        return {"key": self.query_one("#waiting", RowTable).key}

    def recall(self, remembered: dict[str, Any]) -> None:
        """Back to the same row."""
        self._wanted = key if isinstance(key := remembered.get("key"), str) else None

    def export_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """The queue in its order."""
        waiting = self.state.status["waiting"] if self.state.status else []
        columns = ["position", "run", "state", "priority", "owner", "submitted_at", "reason"]
        names = ("queue_position", "id", "state", "priority", "owner", "submitted_at", "reason")
        return columns, [[run.get(name) for name in names] for run in waiting]

    def draw(self) -> None:
        """Both tables."""
        status = self.state.status
        if status is None:
            return
        now = self.state.clock()
        waiting, running = self.query_one("#waiting", RowTable), self.query_one("#running", RowTable)
        waiting.border_title = f"waiting {len(status['waiting'])}"
        running.border_title = f"running {len(status['running'])}"
        running.styles.height = min(len(status["running"]) + 2, max(4, self.size.height // 2)) if status["running"] else 4
        waiting.show([Row(run["id"], self._waiting_cells(run, now)) for run in status["waiting"]], select=self._wanted)
        self._wanted = None
        running.show([Row(run["id"], self._running_cells(run)) for run in status["running"]])

    def on_row_table_row_chosen(self, message: RowTable.RowChosen) -> None:
        """Into the run's page."""
        self.llmops.open_run(message.key)

    def action_move_in_queue(self, by: int) -> None:
        """One place forward or back."""
        run = self._waiting()
        if run is None:
            return
        here = run["queue_position"] or 1
        there = max(1, min(here + by, len(self.state.status["waiting"]) if self.state.status else 1))
        if there != here:
            self._undo.append(("move", run["id"], here))
            run_id = run["id"]
            self.change(lambda: self.client.move(run_id, there), f"{run_id} is number {there}; U takes it back")

    def action_priority(self, by: int) -> None:
        """Higher starts first."""
        run = self._waiting()
        if run is None:
            return
        wanted = max(-_MOST_PRIORITY, min(_MOST_PRIORITY, run["priority"] + by))
        if wanted != run["priority"]:
            self._undo.append(("priority", run["id"], run["priority"]))
            run_id = run["id"]
            self.change(lambda: self.client.set_priority(run_id, wanted), f"{run_id} has priority {wanted}; U takes it back")

    def action_undo(self) -> None:
        """The last move or priority as it was."""
        if self.refuse_in_past():
            return
        if not self._undo:
            self.llmops.tell("nothing to take back", "muted")
            return
        what, run_id, value = self._undo.pop()
        wish = (lambda: self.client.move(run_id, value)) if what == "move" else (lambda: self.client.set_priority(run_id, value))
        self.change(wish, f"{run_id}: {'number' if what == 'move' else 'priority'} {value} again")

    def _waiting(self) -> RunSummary | None:
        """The waiting run under the cursor, unless nothing may be changed."""
        if self.refuse_in_past():
            return None
        run = self.state.run(self.query_one("#waiting", RowTable).key)
        if run is None:
            self.llmops.tell("nothing waits", "muted")
        return run

    def _waiting_cells(self, run: RunSummary, now: float) -> tuple[tuple[str, str], ...]:
        return (
            (str(run["queue_position"] or ""), "bright"),
            (run["id"], "text"),
            state_run(run["state"]),
            (str(run["priority"]), "accent" if run["priority"] else "muted"),
            (run["owner"], "muted"),
            (duration_text(elapsed_seconds(run, now)), "muted"),
            (run["reason"] or "its turn", "muted"),
        )

    def _running_cells(self, run: RunSummary) -> tuple[tuple[str, str], ...]:
        holds = f"GPU {', '.join(run['gpus'])}" if run["gpus"] else "CPU slots"
        return (
            (run["id"], "bright"),
            state_run(run["state"]),
            progress_run(run, _PROGRESS_CELLS, self.llmops.ascii_only),
            (eta_of(run), "text"),
            (run["owner"], "muted"),
            (holds, "muted"),
        )
