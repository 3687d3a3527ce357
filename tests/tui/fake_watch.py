"""The fake engine's watchers: a spike that was seen, one that was not, and a plateau that is only noted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from llmops_tui.errors import NotFoundError
from llmops_tui.specs.answers_watch import Alarm, AlarmRow, AlarmRows, RuleState, WatchState
from llmops_tui.specs.watch_rules import RULES, RuleName

_LOOKS: dict[RuleName, tuple[str, float | None, float | None]] = {
    "not_finite": ("quiet", 1.4887, None), "first_loss": ("quiet", 3.7, 11.8), "spike": ("raised", 1.4887, 2.91),
    "divergence": ("quiet", 1.25, 40.0), "gradient": ("quiet", 0.61, 6.4), "plateau": ("raised", 0.004, 0.01),
    "overfit": ("quiet", 1.6927, 1.72), "data_stall": ("quiet", 0.03, 0.5), "hang": ("quiet", 0.0, 900.0), "frozen": ("quiet", 0.61, 1e-8),
}  # fmt: skip


def alarm(run_id: str, rule: RuleName, step: int, words: str, t: float, **changes: Any) -> Alarm:
    """An alarm as the engine tells it."""
    values: dict[str, Any] = {
        "id": f"{run_id}.1.{rule}.{step}", "run": run_id, "attempt": 1, "rule": rule, "step": step, "since": step,
        "t": t, "value": 6.2, "threshold": 2.9,
        "words": words, "action": "alarm", "wrong": RULES[rule].wrong, "acted": "", "acked_by": "", "acked_at": None, **changes,
    }  # fmt: skip
    return values  # type: ignore[return-value]


@dataclass
class WatchAnswers:
    """Every training run has rules, and alarms where `alarmed` says so; `acked` are the ids that were acknowledged."""

    alarmed: bool = field(default=False, kw_only=True)
    acked: list[str] = field(default_factory=list, kw_only=True)

    def _check(self) -> None:
        raise NotImplementedError

    def _moment(self) -> float:
        """When all this is so."""
        raise NotImplementedError

    def watchers(self, run_id: str, /) -> WatchState:
        """Its rules and alarms."""
        self._check()
        if not run_id.startswith("train-"):
            return WatchState(run=run_id, rules=[], alarms=[])
        now = self._moment()
        alarms = [
            alarm(run_id, "spike", 90, "the loss jumped to 6.2 at step 90; of late it was 2.4, at most 2.8", now - 780, acked_by="ada"),
            alarm(
                run_id,
                "plateau",
                300,
                "the loss stays at 1.51: in the 50 steps to 300 it hardly fell",
                now - 400,
                action="note",
            ),
            alarm(run_id, "spike", 340, "the loss jumped to 5.9 at step 340; of late it was 1.5, at most 1.9", now - 200),
        ]
        alarms = alarms if self.alarmed else []
        for one in alarms:
            one["acked_by"] = "you" if one["id"] in self.acked else one["acked_by"]
        rules = [
            RuleState(
                rule=rule,
                title=words.title,
                sees=words.sees,
                wrong=words.wrong,
                action="note" if rule == "plateau" else "alarm",
                state=_LOOKS[rule][0] if self.alarmed else "quiet",
                value=_LOOKS[rule][1],
                threshold=_LOOKS[rule][2],
                alarms=sum(one["rule"] == rule for one in alarms),
            )
            for rule, words in RULES.items()
        ]
        return WatchState(run=run_id, rules=rules, alarms=alarms)

    def alarm_rows(self, identity: str, /) -> AlarmRows:
        """Two rows behind each spike."""
        rows = [
            AlarmRow(number=421, text="What is a call option? 罏菕匮漤轱谲"),
            AlarmRow(number=77, text="Is it safe to hold cash? It depends."),
        ]
        spike = ".spike." in identity
        return AlarmRows(
            id=identity, step=340, file="/data/fiqa.jsonl", rows=rows if spike else [], problem="" if spike else "which rows is not known"
        )

    def ack_alarm(self, identity: str, /) -> Alarm:
        """Somebody has seen it."""
        run_id = identity.rsplit(".", 3)[0]
        found = next((one for one in self.watchers(run_id)["alarms"] if one["id"] == identity), None)
        if found is None:
            raise NotFoundError(f"no alarm {identity!r}", "see `llmops-tui alarms list`")
        self.acked.append(identity)
        return {**found, "acked_by": "you", "acked_at": time.time()}
