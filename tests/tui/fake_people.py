"""What the fake engine does with the queue, with other people, and with a query."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import Done, RunSummary, SqlAnswer

LOSSES: SqlAnswer = {
    "columns": ["step", "train/loss", "eval/loss", "note"],
    "types": ["BIGINT", "DOUBLE", "DOUBLE", "VARCHAR"],
    "rows": [[step, 4.0 - step / 20, 4.2 - step / 22, None if step % 7 else "kept"] for step in range(1, 41)],
    "truncated": False,
}


@dataclass
class PeopleAnswers:
    """`moved`, `notes` and `reserved` are what was wished for; `queries` what the database was asked."""

    moved: list[tuple[str, int]] = field(default_factory=list, kw_only=True)
    priorities: list[tuple[str, int]] = field(default_factory=list, kw_only=True)
    notes: list[tuple[str, str]] = field(default_factory=list, kw_only=True)
    reserved: list[tuple[tuple[int, ...], float, str]] = field(default_factory=list, kw_only=True)
    queries: list[str] = field(default_factory=list, kw_only=True)

    def _check(self) -> None:
        raise NotImplementedError

    def waiting_runs(self) -> list[RunSummary]:
        """The queue in its order."""
        raise NotImplementedError

    def move(self, run_id: str, position: int, /) -> RunSummary:
        self._check()
        self.moved.append((run_id, position))
        queue = self.waiting_runs()
        run = next(run for run in queue if run["id"] == run_id)
        queue.remove(run)
        queue.insert(position - 1, run)
        for number, each in enumerate(queue, 1):
            each["queue_position"] = number
        return run

    def set_priority(self, run_id: str, priority: int, /) -> RunSummary:
        self._check()
        self.priorities.append((run_id, priority))
        run = next(run for run in self.waiting_runs() if run["id"] == run_id)
        run["priority"] = priority
        return run

    def export_run(self, run_id: str, form: str, /) -> bytes:
        """A tar with one file, which names the run."""
        self._check()
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            member = tarfile.TarInfo(f"{form}.txt")
            member.size = len(run_id)
            archive.addfile(member, io.BytesIO(run_id.encode()))
        return content.getvalue()

    def ask(self, run_id: str, message: str, /) -> Done:
        self._check()
        self.notes.append((run_id, message))
        return {"done": f"asked about {run_id}"}

    def reserve(self, gpus: Sequence[int], seconds: float, note: str = "", /) -> dict[str, Any]:
        self._check()
        self.reserved.append((tuple(gpus), seconds, note))
        return {"gpus": list(gpus), "note": note}

    def sql(self, query: str, limit: int = 1000, /) -> SqlAnswer:
        self._check()
        self.queries.append(query)
        if not query.casefold().startswith("select"):
            raise UsageError("Parser Error: syntax error at or near", "only reading statements are answered")
        return LOSSES
