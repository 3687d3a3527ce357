"""What a user wrote to a run after it was submitted: tags, a note, a pinned baseline. Entries of its journal, the last one holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

ANNOTATE = "annotate"


class Annotation(NamedTuple):
    """None: not said, so what was before stands (in the end the spec's own tags and notes)."""

    tags: list[str] | None = None
    note: str | None = None
    baseline: bool | None = None

    def over(self, before: Annotation) -> Annotation:
        """Both in one, this one later."""
        return Annotation(
            before.tags if self.tags is None else self.tags,
            before.note if self.note is None else self.note,
            before.baseline if self.baseline is None else self.baseline,
        )

    def to_json(self) -> dict[str, Any]:
        """The journal entry's data: only what was said."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def read_annotation(data: Mapping[str, Any]) -> Annotation:
    """The data of one entry; what has another type than it should is as if it were not said."""
    tags, note, baseline = data.get("tags"), data.get("note"), data.get("baseline")
    return Annotation(
        [str(tag) for tag in tags] if isinstance(tags, list) else None,
        note if isinstance(note, str) else None,
        baseline if isinstance(baseline, bool) else None,
    )


def fold_annotations(journal: Iterable[Mapping[str, Any]]) -> Annotation:
    """All entries of a journal folded into one."""
    folded = Annotation()
    for entry in journal:
        data = entry.get("data")
        if entry.get("entry") == ANNOTATE and isinstance(data, dict):
            folded = read_annotation(data).over(folded)
    return folded
