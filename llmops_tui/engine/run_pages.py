"""One page of many runs: which of them, in which order, with which columns. Only the rows of the page are described.

On the event loop, so it has to be quick: 10,000 runs are filtered and sorted in some milliseconds (benchmarks/tables.py).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.queue_rules import queue_key
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import RunPage, Scalar
from llmops_tui.specs.filter_terms import nearest
from llmops_tui.specs.run_config import as_number
from llmops_tui.specs.run_filter import Filter, FilterError, parse
from llmops_tui.specs.run_sorts import SORTS, descends
from llmops_tui.specs.states import STATES, WAITING

MOST_COLUMNS = 32
_FAMILIES = ("cfg.", "metric.")
# What goes on first, then what waits, then what is over.
_STATE_ORDER = {state: place for place, state in enumerate(dict.fromkeys(("running", "stopping", "starting", "queued", *STATES)))}

# What a run is sorted by; None: last, in whichever direction.
SortKey = Callable[[LiveRun, float], float | str | None]

_SUBMITTED = operator.attrgetter("submitted_at")
_KEYS: dict[str, SortKey] = {
    "submitted": lambda run, now: run.submitted_at,
    "started": lambda run, now: run.started_at,
    "ended": lambda run, now: run.ended_at,
    "duration": lambda run, now: None if run.started_at is None else (now if run.ended_at is None else run.ended_at) - run.started_at,
    "id": lambda run, now: run.id,
    "state": lambda run, now: _STATE_ORDER.get(run.state, len(_STATE_ORDER)),
    "kind": lambda run, now: run.kind,
    "name": lambda run, now: run.name,
    "owner": lambda run, now: run.owner,
    "priority": lambda run, now: run.priority,
    "attempt": lambda run, now: run.attempt,
}


@dataclass(frozen=True)
class PageWish:
    """What was asked for. `states` and `kinds` empty: any; `descending` None: as the sort key is usually read.

    `around`: a run that shall be on the page, wherever that is; where it does not match, the page is the one at `offset`.
    """

    filter: Filter
    states: Collection[str] = ()
    kinds: Collection[str] = ()
    sort: str = "submitted"
    descending: bool | None = None
    columns: tuple[str, ...] = ()
    limit: int = 100
    offset: int = 0
    around: str = ""


def read_wish(
    *, filter: str, states: Collection[str], kinds: Collection[str], sort: str, descending: bool | None, columns: Iterable[str],
    limit: int, offset: int, around: str = "",
) -> PageWish:  # fmt: skip
    """Raises FilterError, or UsageError naming the sort key or column there is not."""
    chosen = tuple(dict.fromkeys(columns))
    if sort and sort not in SORTS and not _is_column(sort):
        raise _no_such("sort", sort, [*SORTS, *_FAMILIES])
    for column in chosen:
        if not _is_column(column):
            raise _no_such("column", column, _FAMILIES)
    return PageWish(parse(filter), states, kinds, sort or "submitted", descending, chosen, limit, offset, around)


def page(runs: Collection[LiveRun], wish: PageWish, now: float) -> RunPage:
    """The page that was wished for. Raises FilterError for a short setting name that could mean several."""
    if wish.filter.config_keys:
        _require_one_meaning(runs, wish.filter)
    test, states, kinds = wish.filter.test, wish.states, wish.kinds
    found: list[LiveRun] = list(runs)
    if states:
        found = [run for run in found if run.state in states]
    if kinds:
        found = [run for run in found if run.kind in kinds]
    if not wish.filter.everything:
        found = [run for run in found if test(run, now)]
    ordered = _sorted(found, wish, now)
    offset = _offset(ordered, wish)
    shown = ordered[offset : offset + wish.limit]
    places: dict[str, int] = {}
    if any(run.state in WAITING for run in shown):
        queue = sorted((run for run in runs if run.state in WAITING), key=queue_key)
        places = {run.id: number for number, run in enumerate(queue, 1)}
    return RunPage(
        runs=[run.summary(places.get(run.id)) for run in shown],
        total=len(found),
        columns={run.id: {column: _cell(run, column) for column in wish.columns} for run in shown} if wish.columns else {},
        offset=offset,
    )


def _offset(runs: list[LiveRun], wish: PageWish) -> int:
    place = next((at for at, run in enumerate(runs) if run.id == wish.around), None) if wish.around else None
    if place is None or wish.offset <= place < wish.offset + wish.limit:
        return wish.offset
    return max(0, place - wish.limit // 2)


def _sorted(runs: list[LiveRun], wish: PageWish, now: float) -> list[LiveRun]:
    """In the wished order: numbers before words; equal ones the newest first, those without a value last."""
    runs.reverse()  # they came oldest first, so that this sort has nearly nothing to do
    runs.sort(key=_SUBMITTED, reverse=True)
    descending = descends(wish.sort) if wish.descending is None else wish.descending
    if wish.sort == "submitted":
        return runs if descending else runs[::-1]
    key = _KEYS.get(wish.sort) or _column_key(wish.sort)
    values = [key(run, now) for run in runs]
    # Places are sorted, not pairs: ten thousand tuples would set off the garbage collector.
    numbers = [place for place, value in enumerate(values) if value is not None and not isinstance(value, str)]
    words = [place for place, value in enumerate(values) if isinstance(value, str)]
    for part in (numbers, words):
        part.sort(key=values.__getitem__, reverse=descending)  # type: ignore[arg-type]  # one part has no mixture
    nothing = [place for place, value in enumerate(values) if value is None]
    return [runs[place] for part in ((words, numbers) if descending else (numbers, words)) for place in part] + [runs[n] for n in nothing]


def _column_key(column: str) -> SortKey:
    """What is not finite counts as no value."""
    name = column.partition(".")[2]

    def setting(run: LiveRun, now: float) -> float | str | None:
        value = run.config.get(name)
        number = as_number(value)
        if number is not None:
            return number if math.isfinite(number) else None
        return None if value is None else str(value).casefold()

    def metric(run: LiveRun, now: float) -> float | None:
        value = run.latest.get(name)
        return value if value is not None and math.isfinite(value) else None

    return setting if column.startswith("cfg.") else metric


def _cell(run: LiveRun, column: str) -> Scalar:
    family, _, name = column.partition(".")
    if family == "cfg":
        return run.config.get(name)
    value = run.latest.get(name)
    return value if value is not None and math.isfinite(value) else None


def _require_one_meaning(runs: Iterable[LiveRun], wish: Filter) -> None:
    """A short name that fits several settings in every run that has it would find nothing without a word."""
    shapes = {run.config.shape for run in runs}
    for key, position in wish.config_keys:
        meanings = [meant for shape in shapes if (meant := shape.meant(key))]
        if meanings and all(len(meant) > 1 for meant in meanings):
            names = sorted({name for meant in meanings for name in meant})
            raise FilterError(f"cfg.{key} could be {' or '.join(names[:4])}", position, f"write it whole: cfg.{names[0]}")


def _is_column(name: str) -> bool:
    return name.startswith(_FAMILIES) and not name.endswith(".")


def _no_such(field: str, name: str, known: Collection[str]) -> UsageError:
    return UsageError(f"there is no {field} {name!r}", nearest(name, known), [{"field": field, "message": "unknown"}])
