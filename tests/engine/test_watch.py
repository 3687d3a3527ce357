"""The watchers at work: an alarm is kept and told exactly once, whatever dies, and its action is carried out as the engine's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data import queries
from llmops_tui.data.rundir import RunDir, append_line, create_run, read_lines
from llmops_tui.data.store import Store
from llmops_tui.engine.alarms import AlarmBook
from llmops_tui.engine.audit import AuditLog
from llmops_tui.engine.hub import Hub
from llmops_tui.engine.ingest import Ingest
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.watch import Watch
from llmops_tui.errors import LlmopsError, NotFoundError, UsageError
from llmops_tui.specs.answers import EngineEvent, RunSummary
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import EngineSettings
from tests.engine.scheduling import until

NAN_AT = 30


@dataclass
class Box:
    """The parts of an engine that alarms pass through; `begin` is a start of it, over what the last one left."""

    root: Path
    store: Store
    live: LiveRun
    asked: list[tuple[str, str]] = field(default_factory=list)
    refuses: bool = False
    ingest: Ingest = field(init=False)
    watch: Watch = field(init=False)

    async def begin(self) -> None:
        self.ingest = Ingest(self.store, EngineSettings(), lambda *_: None, lambda: 1 << 40)
        book = AlarmBook(self.root / "runs")
        await book.load()
        self.watch = Watch(self.store, Hub(self.store), book, AuditLog(self.root / "audit.jsonl"), self.one, lambda: [self.live.id], self)
        self.ingest.watcher = self.watch

    def one(self, run_id: str) -> LiveRun:
        if run_id != self.live.id:
            raise NotFoundError("no such run")
        return self.live

    async def stop(self, run_id: str, mode: str, why: str, /) -> RunSummary:
        if self.refuses:
            raise LlmopsError("it cannot be asked")
        self.asked.append((f"stop {mode}", who_asks().user))
        return self.live.summary(None)

    async def control(self, run_id: str, command: str, arguments: Mapping[str, Any] | None, /, *, asker: str) -> RunSummary:
        self.asked.append((command, asker))
        return self.live.summary(None)

    async def roll_back(self, run_id: str, before: int, factor: float, /, *, asker: str) -> RunSummary:
        self.asked.append((f"rollback {before} {factor}", asker))
        return self.live.summary(None)

    def told(self) -> list[EngineEvent]:
        return [event for event in self.store.read(lambda con: queries.engine_events(con, 0, 1000)) if event["type"].startswith("alarm.")]

    def kept(self) -> list[str]:
        return [str(line["id"]) for line in read_lines(self.live.dir.path / "alarms.jsonl") if line["entry"] == "alarm"]


def live_run(root: Path, **watch: Any) -> LiveRun:
    spec = parse_spec({"kind": "command", "argv": ["true"], "watch": watch})
    record = {"spec": spec.model_dump(mode="json"), "submitted_at": 1.0, "owner": "me", "prepared": {}}
    directory = create_run(root / "runs", "command", "test", record)
    return LiveRun(directory, record, spec, state="running")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield Box(tmp_path, store, live_run(tmp_path))
    store.close()


def write(run: RunDir, first: int, last: int, *, attempt: int = 1) -> None:
    """Steps of a healthy loss, but for a NaN at `NAN_AT`."""
    for step in range(first, last):
        value: object = "NaN" if step == NAN_AT else 2.0 + 0.01 * (step % 7)
        line = {"t": 1000.0 + step, "attempt": attempt, "type": "metric", "step": step, "values": {"loss": value, "other": 1.0}}
        append_line(run.events, line)


async def test_what_fires_is_in_the_runs_directory_and_among_the_engines_events_with_its_moment(box: Box) -> None:
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    (event,) = box.told()
    assert event["type"] == "alarm.not_finite"
    assert event["run"] == box.live.id
    assert (event["data"]["step"], event["data"]["moment"], event["data"]["value"]) == (NAN_AT, 1030.0, None)
    assert event["data"]["wrong"].startswith("never wrong")
    assert box.kept() == [event["data"]["id"]] == [f"{box.live.id}.1.not_finite.30"]


async def test_points_that_were_committed_by_an_engine_that_died_before_it_looked_still_alarm_and_once(box: Box) -> None:
    await box.begin()
    box.ingest.watcher = None  # it dies between the commit and the look
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    assert box.told() == []
    for _ in range(3):
        await box.begin()
        await box.ingest.drain(box.live.dir)
    write(box.live.dir, 40, 60)
    await box.ingest.drain(box.live.dir, ended=True)
    assert len(box.told()) == len(box.kept()) == 1


async def test_an_alarm_that_was_kept_but_not_told_is_told_by_the_next_engine(box: Box) -> None:
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    box.store.write(lambda con: con.execute("DELETE FROM engine_events")).result()
    await box.begin()
    write(box.live.dir, 40, 41)
    await box.ingest.drain(box.live.dir)
    assert [event["data"]["id"] for event in box.told()] == box.kept()
    assert len(box.kept()) == 1


async def test_a_restart_in_the_middle_changes_no_firing(box: Box) -> None:
    """The rules know after the restart what they knew before: a spike is judged by the losses before it."""
    await box.begin()
    write(box.live.dir, 31, 140)
    await box.ingest.drain(box.live.dir)
    await box.begin()
    append_line(box.live.dir.events, {"t": 1140.0, "attempt": 1, "type": "metric", "step": 140, "values": {"loss": 9.5}})
    await box.ingest.drain(box.live.dir)
    assert box.kept() == [f"{box.live.id}.1.spike.140"]


async def test_a_further_attempt_is_watched_anew_and_its_alarms_are_its_own(box: Box) -> None:
    await box.begin()
    write(box.live.dir, 1, 40)
    write(box.live.dir, 20, 40, attempt=2)
    await box.ingest.drain(box.live.dir)
    assert box.kept() == [f"{box.live.id}.1.not_finite.30", f"{box.live.id}.2.not_finite.30"]


async def test_a_rule_whose_action_is_stop_stops_the_run_as_the_watchers_deed(box: Box) -> None:
    box.live = live_run(box.root, not_finite={"action": "stop"})
    box.refuses = True
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    await until(lambda: [entry["outcome"] for entry in AuditLog(box.root / "audit.jsonl").read()] == ["failed"])
    box.refuses = False
    await box.begin()  # the engine died before it was done
    await box.ingest.drain(box.live.dir)
    await until(lambda: bool(box.watch.book.of(box.live.id)[0]["acted"]))
    assert box.asked == [("stop now", "the watcher not_finite")]
    entry = AuditLog(box.root / "audit.jsonl").read()[-1]
    assert (entry["action"], entry["target"], entry["detail"]["alarm"]) == ("stop", box.live.id, f"{box.live.id}.1.not_finite.30")
    await box.begin()
    await box.ingest.drain(box.live.dir)
    assert len(box.asked) == 1, "what was done is not done again"


async def test_a_rule_whose_action_is_pause_pauses_the_run(box: Box) -> None:
    box.live = live_run(box.root, not_finite={"action": "pause"})
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    await until(lambda: box.asked == [("pause", "the watcher not_finite")])


async def test_a_rollback_goes_to_before_the_fault_and_after_so_many_the_run_is_stopped(box: Box) -> None:
    spec = parse_spec(
        {"kind": "train", "model": "m", "dataset": {"path": "d"}, "watch": {"not_finite": {"action": "rollback"}, "rollback": {"times": 1}}}
    )
    directory = create_run(box.root / "runs", "train", "test", {"spec": spec.model_dump(mode="json")})
    box.live = LiveRun(directory, {"spec": {"kind": "train"}}, spec, state="running")
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    await until(lambda: bool(box.watch.book.of(box.live.id)[0]["acted"]))
    box.live.attempt = 2
    write(box.live.dir, 25, 40, attempt=2)
    await box.ingest.drain(box.live.dir)
    await until(lambda: len(box.asked) == 2)
    assert box.asked == [("rollback 30 0.5", "the watcher not_finite"), ("stop checkpoint", "the watcher not_finite")]


def test_a_command_has_nothing_to_be_rolled_back_to() -> None:
    with pytest.raises(UsageError, match=r"watch\.spike\.action: rollback needs the checkpoints of a training"):
        parse_spec({"kind": "command", "argv": ["true"], "watch": {"spike": {"action": "rollback"}}})


def test_off_means_off_although_yaml_takes_it_for_false() -> None:
    spec = parse_spec({"kind": "command", "argv": ["true"], "watch": {"spike": {"action": False}}})
    assert spec.model_dump()["watch"]["spike"]["action"] == "off"


async def test_silence_alarms_before_the_limit_ends_the_run(box: Box) -> None:
    spec = parse_spec({"kind": "command", "argv": ["true"], "limits": {"hang_seconds": 100}})
    box.live.spec = spec
    await box.begin()
    write(box.live.dir, 1, 20)
    await box.ingest.drain(box.live.dir)
    for _ in range(6):
        await box.watch.look_for_silence(9.0)
    assert box.kept() == []
    await box.watch.look_for_silence(9.0)
    (event,) = box.told()
    assert (event["type"], event["data"]["step"]) == ("alarm.hang", 19)


async def test_the_rules_of_a_run_are_told_as_they_stand_also_by_an_engine_that_saw_none_of_it(box: Box) -> None:
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    for _ in range(2):
        state = await box.watch.state(box.live, box.live.dir.events.stat().st_size)
        rules = {rule["rule"]: rule for rule in state["rules"]}
        assert rules["not_finite"]["state"] == "raised"
        assert rules["not_finite"]["alarms"] == 1
        assert rules["divergence"]["value"] is not None
        assert "first_loss" not in rules, "a command's loss need not be a token's"
        await box.begin()


async def test_an_alarm_is_acknowledged_once_and_it_lasts(box: Box) -> None:
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    identity = box.kept()[0]
    await box.watch.book.ack(identity, "ada")
    await box.watch.book.ack(identity, "bob")
    await box.begin()
    assert [alarm["acked_by"] for alarm in box.watch.book.of(box.live.id)] == ["ada"]
    assert box.watch.book.find([box.live.id], acked=False) == []
    assert len(box.watch.book.find([box.live.id], since=1030.0)) == 1
    assert box.watch.book.find([box.live.id], since=1031.0) == []
    with pytest.raises(NotFoundError, match="no alarm"):
        await box.watch.book.ack(f"{box.live.id}.1.spike.7", "ada")


async def test_alarms_whose_file_was_torn_by_a_power_cut_are_read_as_far_as_they_stand(box: Box) -> None:
    await box.begin()
    write(box.live.dir, 1, 40)
    await box.ingest.drain(box.live.dir)
    with open(box.live.dir.path / "alarms.jsonl", "ab") as file:
        file.write(json.dumps({"entry": "ack", "id": box.kept()[0]}).encode()[:20])
    await box.begin()
    assert [alarm["acked_by"] for alarm in box.watch.book.of(box.live.id)] == [""]
