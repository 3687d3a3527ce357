"""The watchers at work: every committed point of a watched run goes through its rules, what fires is kept, told and acted upon.

A rule's state is never stored. It follows from the points in the order of events.jsonl, so an engine that was killed reads the
file again up to where the database stands and comes to the same firings; those that alarms.jsonl knows already are passed over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmops_tui.data.event_lines import LONGEST_LINE_BYTES, Batch, parse
from llmops_tui.data.queries import engine_events
from llmops_tui.data.rundir import RunDir
from llmops_tui.data.store import Store
from llmops_tui.engine.alarms import AlarmBook, make_alarm
from llmops_tui.engine.audit import AuditLog
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.people import Person, let_ask, who_asks
from llmops_tui.engine.permissions import Deed
from llmops_tui.engine.silence import hang_seconds
from llmops_tui.engine.watchers.panel import Facts, Panel
from llmops_tui.engine.watchers.rule import FAMILIES, Firing
from llmops_tui.errors import LlmopsError, NotFoundError
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.answers_watch import Alarm, RuleState, WatchState
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.control import SAVES
from llmops_tui.specs.train_watch import WatchChoice
from llmops_tui.specs.watch_rules import EVENT_TYPES, RULES, RuleName

_TICK_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 2 * _TICK_SECONDS
# Of a file longer than this its end is read: no rule looks back so far but the one for the first loss.
_MOST_REPLAYED_BYTES = 64 << 20
_CHUNK_BYTES = 4 << 20
_MOST_TOLD = 10_000
# Methods whose training loss is the cross-entropy of a token.
_TOKEN_LOSS = ("sft", "pretrain")
# Rules after which a run is seldom worth its time.
_GRAVE = ("not_finite", "divergence", "hang")
_ROLLED_BACK = "rolled it back"
# Nobody's: what a watcher asks for is told apart from what its run's user does.
_NOBODY = -1
log = logging.getLogger(__name__)

Fired = tuple[int, RuleName, Firing]


class Steer(Protocol):
    """What is asked of the scheduler where a rule's action is more than to tell."""

    async def stop(self, run_id: str, mode: str, why: str, /) -> RunSummary: ...

    async def control(self, run_id: str, command: str, arguments: Mapping[str, Any] | None, /, *, asker: str) -> RunSummary: ...

    async def roll_back(self, run_id: str, before: int, factor: float, /, *, asker: str) -> RunSummary: ...


@dataclass
class _Watched:
    """One run under watch. `offset` is the byte of its events.jsonl up to which the rules have seen it."""

    dir: RunDir
    choice: WatchChoice
    facts: Facts
    panel: Panel
    attempt: int = 1
    offset: int = 0
    sizes: tuple[int, int] = (-1, -1)
    quiet: float = 0.0

    def feed(self, batch: Batch) -> list[Fired]:
        """The points of a stretch of lines; what fires on them."""
        self.offset = batch.end
        watched = [name in FAMILIES for name in batch.names]
        fired: list[Fired] = []
        if not any(watched):
            return fired
        for number, step, t_ms, value, attempt in zip(batch.metric, batch.step, batch.t_ms, batch.value, batch.attempt, strict=True):
            if not watched[number]:
                continue
            if attempt > self.attempt:
                self.attempt, self.panel = attempt, Panel(self.choice, self.facts)
            fired += [(attempt, rule, firing) for rule, firing in self.panel.feed(batch.names[number], step, t_ms / 1000, value)]
        return fired


class Watch:
    """Belongs to the event loop's thread; the rules themselves run in others, one run at a time."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        book: AlarmBook,
        audit: AuditLog,
        one: Callable[[str], LiveRun],
        living: Callable[[], list[str]],
        steer: Steer,
    ) -> None:
        self.book = book
        self._store = store
        self._hub = hub
        self._audit = audit
        self._one = one
        self._living = living
        self._steer = steer
        self._watched: dict[str, _Watched] = {}
        self._turn = asyncio.Lock()
        self._acting: set[asyncio.Task[None]] = set()

    async def take(self, run: RunDir, batch: Batch) -> None:
        """A committed stretch of a run's events. Call it in the order they were committed."""
        async with self._turn:
            watched = await self._seen_up_to(run, batch.offset)
            if watched is not None and batch.offset == watched.offset:
                await self._raise_all(watched, await asyncio.to_thread(watched.feed, batch))

    async def settle(self, run: RunDir, offset: int) -> None:
        """Whatever was committed up to byte `offset` has been seen and its alarms are kept, though an engine died between the two."""
        async with self._turn:
            await self._seen_up_to(run, offset)

    async def run(self, stop: asyncio.Event) -> None:
        """Notice silence, until `stop` is set."""
        looked = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            await self.look_for_silence(min(now - looked, _LONGEST_PAUSE_SECONDS))
            looked = now
            try:
                await asyncio.wait_for(stop.wait(), _TICK_SECONDS)
            except TimeoutError:
                continue

    async def state(self, run: LiveRun, offset: int) -> WatchState:
        """A run's rules and alarms. Of one that is over the rules are shown as its last point left them."""
        alarms = self.book.of(run.id)
        choice = choice_of(run.spec)
        if choice is None:
            return WatchState(run=run.id, rules=[], alarms=alarms)
        watched = self._watched.get(run.id)
        if watched is None:
            watched = _begin(run, choice)
            await asyncio.to_thread(_replay, watched, offset)
        looks = watched.panel.looks()
        rules = [
            RuleState(
                rule=rule,
                title=words.title,
                sees=words.sees,
                wrong=words.wrong,
                action=choice.action(rule),
                state=looks[rule].state if rule in looks else "off",
                value=looks[rule].value if rule in looks else None,
                threshold=looks[rule].threshold if rule in looks else None,
                alarms=sum(alarm["rule"] == rule for alarm in alarms),
            )
            for rule, words in RULES.items()
            if rule in looks or choice.action(rule) == "off"
        ]
        return WatchState(run=run.id, rules=rules, alarms=alarms)

    def _run_of(self, run_id: str) -> LiveRun | None:
        try:
            return self._one(run_id)
        except NotFoundError:  # it was removed meanwhile
            return None

    async def _seen_up_to(self, run: RunDir, offset: int) -> _Watched | None:
        """The run's rules, which have seen its file up to `offset` at least. None: it is not watched."""
        watched = self._watched.get(run.id)
        if watched is not None and watched.offset >= offset:
            return watched
        live = self._run_of(run.id)
        choice = choice_of(live.spec) if live is not None else None
        if live is None or choice is None:
            return None
        watched = self._watched[run.id] = _begin(live, choice)
        fired = await asyncio.to_thread(_replay, watched, offset)
        await self._tell_again(run.id)
        await self._raise_all(watched, fired)
        return watched

    async def _raise_all(self, watched: _Watched, fired: list[Fired]) -> None:
        for attempt, rule, firing in fired:
            alarm = make_alarm(watched.dir.id, attempt, rule, watched.choice.action(rule), firing)
            try:
                fresh = await self.book.add(alarm)
            except OSError as error:
                # The file is read again at the next stretch, and it fires again.
                log.warning("%s: an alarm waits for room on the disk: %s", watched.dir.id, error)
                self._watched.pop(watched.dir.id, None)
                return
            if fresh:
                await self._tell(alarm)
                self._act_soon(alarm)

    async def _tell(self, alarm: Alarm) -> None:
        log.info("%s: alarm %s at step %d: %s", alarm["run"], alarm["rule"], alarm["step"], alarm["words"])
        await self._hub.publish(f"alarm.{alarm['rule']}", alarm["run"], event_data(alarm))

    async def _tell_again(self, run_id: str) -> None:
        """What an engine that died has kept but not told, or told but not done."""
        alarms = self.book.of(run_id)
        if not alarms:
            return
        try:
            events = await asyncio.to_thread(
                self._store.read, lambda con: engine_events(con, 0, _MOST_TOLD, newest=True, types=EVENT_TYPES, run=run_id)
            )
        except LlmopsError as error:
            log.warning("%s: whether its alarms were told is not known: %s", run_id, error)
            return
        told = {event["data"].get("id") for event in events}
        run = self._run_of(run_id)
        for alarm in alarms:
            if alarm["id"] not in told:
                await self._tell(alarm)
            if not alarm["acted"] and run is not None and alarm["attempt"] == run.attempt:
                self._act_soon(alarm)

    def _act_soon(self, alarm: Alarm) -> None:
        if alarm["action"] in ("pause", "stop", "rollback"):
            # Not here: the one who waits for us may hold what stopping waits for.
            task = asyncio.create_task(self._act(alarm), name=f"act {alarm['id']}")
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)

    async def _act(self, alarm: Alarm) -> None:
        """Do what the spec says, as the engine's deed. It is noted as done only afterwards: doing it twice changes nothing."""
        run = self._run_of(alarm["run"])
        if run is None or run.stop or run.attempt != alarm["attempt"]:
            return
        person = Person(f"the watcher {alarm['rule']}", _NOBODY, "admin")
        detail = {"alarm": alarm["id"], "words": alarm["words"]}
        deed = Deed(alarm["action"], "operator", run=run.id, target=run.id, detail=detail)
        try:
            ticket = await asyncio.to_thread(self._audit.begin, who_asks(), deed)
        except LlmopsError as error:
            log.warning("%s: %s of the watcher %s is not done: %s", run.id, alarm["action"], alarm["rule"], error)
            return
        let_ask(person)  # in this task alone
        try:
            what = await self._carry_out(alarm, run, person.user)
            await self.book.acted(alarm, what)
        except (LlmopsError, OSError) as error:
            log.warning("%s: %s of the watcher %s failed: %s", run.id, alarm["action"], alarm["rule"], error)
            await asyncio.to_thread(self._audit.close, ticket, "failed", str(error))
        else:
            await asyncio.to_thread(self._audit.close, ticket, "ok")

    async def _carry_out(self, alarm: Alarm, run: LiveRun, asker: str) -> str:
        """Ask for it; returns in words what was asked."""
        if alarm["action"] == "pause":
            await self._steer.control(run.id, "pause", None, asker=asker)
            return "paused it"
        choice = choice_of(run.spec)
        if alarm["action"] == "rollback" and choice is not None:
            made = sum(other["acted"].startswith(_ROLLED_BACK) for other in self.book.of(run.id))
            if made < choice.rollback.times:
                await self._steer.roll_back(run.id, alarm["since"], choice.rollback.factor, asker=asker)
                return f"{_ROLLED_BACK} to before step {alarm['since']}"
        saves = run.kind in SAVES
        await self._steer.stop(run.id, "checkpoint" if saves else "now", f"{asker} stopped it: {alarm['words']}")
        return "asked it to save a checkpoint and stop" if saves else "stopped it"

    async def look_for_silence(self, seconds: float) -> None:
        """`seconds` have passed since the last look: which of the watched runs said nothing meanwhile?"""
        living = set(self._living())
        for run_id in [run_id for run_id in self._watched if run_id not in living]:
            del self._watched[run_id]
        for watched in list(self._watched.values()):
            run = self._run_of(watched.dir.id)
            hang = watched.panel.hang
            if run is None or hang is None or run.state != "running" or run.held or run.attempt < watched.attempt:
                continue
            sizes = await asyncio.to_thread(_sizes, watched.dir)
            watched.quiet = watched.quiet + seconds if sizes == watched.sizes else 0.0
            watched.sizes = sizes
            firing = hang.silent(watched.quiet, time.time())
            if firing is not None and watched.panel.count("hang"):
                async with self._turn:
                    await self._raise_all(watched, [(run.attempt, "hang", firing)])


def choice_of(spec: RunSpec | None) -> WatchChoice | None:
    """What a spec wants watched; None for a kind that has no metrics to watch."""
    choice = getattr(spec, "watch", None)
    return choice if isinstance(choice, WatchChoice) else None


def event_data(alarm: Alarm) -> dict[str, Any]:
    """What the engine's event carries of it. `moment` is when it happened, which may be before the event."""
    return {
        "id": alarm["id"],
        "rule": alarm["rule"],
        "attempt": alarm["attempt"],
        "step": alarm["step"],
        "value": alarm["value"],
        "threshold": alarm["threshold"],
        "words": alarm["words"],
        "action": alarm["action"],
        "wrong": alarm["wrong"],
        "moment": alarm["t"],
        "level": "bad" if alarm["rule"] in _GRAVE else "warn",
        "title": f"{alarm['run']}: {_title(alarm['rule'])}",
        "text": alarm["words"],
    }


def _title(rule: str) -> str:
    return next((words.title for name, words in RULES.items() if name == rule), rule)


def _begin(run: LiveRun, choice: WatchChoice) -> _Watched:
    facts = facts_of(run)
    return _Watched(run.dir, choice, facts, Panel(choice, facts))


def facts_of(run: LiveRun) -> Facts:
    """What the rules must know of it: from its spec, and from what preflight found of its model."""
    prepared = run.record.get("prepared")
    model = prepared.get("model") if isinstance(prepared, dict) else None
    vocabulary = model.get("vocabulary") if isinstance(model, dict) else None
    return Facts(
        vocabulary=vocabulary if isinstance(vocabulary, int) and vocabulary > 1 else None,
        token_loss=getattr(run.spec, "method", "") in _TOKEN_LOSS,
        rewards=getattr(run.spec, "method", "") == "grpo",
        hang_seconds=hang_seconds(run),
    )


def _replay(watched: _Watched, offset: int) -> list[Fired]:
    """Feed what stands in events.jsonl before `offset`; blocks on the disk."""
    fired: list[Fired] = []
    begin, skipping = max(0, offset - _MOST_REPLAYED_BYTES), False
    try:
        with open(watched.dir.events, "rb") as file:
            if begin:
                file.seek(begin)
                begin += len(file.readline())
                watched.panel = Panel(watched.choice, watched.facts, from_beginning=False)
            while begin < offset:
                data = file.read(min(_CHUNK_BYTES, offset - begin))
                while data and b"\n" not in data and len(data) < LONGEST_LINE_BYTES and (more := file.read(_CHUNK_BYTES)):
                    data += more
                if not data:
                    break
                batch = parse(
                    data[: offset - begin],
                    begin,
                    now=time.time(),
                    final=begin + len(data) >= offset,
                    skipping=skipping,
                    attempt_starts=watched.dir.attempt_starts,
                )
                skipping = batch.skipping
                fired += watched.feed(batch)
                if batch.end == begin:
                    break
                begin = batch.end
                file.seek(begin)
    except OSError as error:
        log.warning("%s: its events cannot be read again: %s", watched.dir.id, error)
    watched.offset = offset
    return fired


def _sizes(run: RunDir) -> tuple[int, int]:
    return _size(run.events), _size(run.log)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
