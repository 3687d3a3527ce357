"""All rules of one run together: points in, firings by rule out. It begins anew with each attempt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from llmops_tui.engine.watchers.data_stall import DataStall
from llmops_tui.engine.watchers.divergence import Divergence
from llmops_tui.engine.watchers.first_loss import FirstLoss
from llmops_tui.engine.watchers.gradient import ExplodingGradient, Frozen
from llmops_tui.engine.watchers.hang import Hang
from llmops_tui.engine.watchers.not_finite import NotFinite
from llmops_tui.engine.watchers.overfit import Overfit
from llmops_tui.engine.watchers.plateau import Plateau
from llmops_tui.engine.watchers.rule import FAMILIES, Family, Firing, Look, Rule
from llmops_tui.engine.watchers.spike import Spike
from llmops_tui.specs.train_watch import WatchChoice
from llmops_tui.specs.watch_rules import RuleName

# A run that fires without end is told of so often; then the rule keeps silent for the attempt.
MOST_FIRINGS = 20


@dataclass(frozen=True)
class Facts:
    """What the rules must know of a run besides its metrics.

    `token_loss`: its training loss is the cross-entropy of a token; `rewards`: it learns where answers to a prompt earn differently.
    """

    vocabulary: int | None = None
    token_loss: bool = False
    rewards: bool = False
    hang_seconds: float | None = None


class Panel:
    """The rules that are not off, for one attempt."""

    def __init__(self, choice: WatchChoice, facts: Facts, *, from_beginning: bool = True) -> None:
        self.hang: Hang | None = Hang(choice.hang.share, facts.hang_seconds) if choice.hang.action != "off" else None
        highest = math.log(facts.vocabulary) + choice.first_loss.margin if facts.vocabulary and facts.token_loss else None
        made: dict[RuleName, Rule] = {
            "not_finite": NotFinite(),
            "spike": Spike(choice.spike.spreads),
            "divergence": Divergence(choice.divergence.limit),
            "gradient": ExplodingGradient(choice.gradient.times),
            "plateau": Plateau(choice.plateau.window, choice.plateau.improvement),
            "overfit": Overfit(choice.overfit.patience, choice.overfit.rise),
            "data_stall": DataStall(choice.data_stall.fraction),
            "frozen": Frozen(rewards=facts.rewards),
        }
        if from_beginning and facts.token_loss:
            made["first_loss"] = FirstLoss(highest, choice.first_loss.lowest)
        self._rules: dict[RuleName, Rule] = {name: rule for name, rule in made.items() if choice.action(name) != "off"}
        self._by_family: dict[Family, list[tuple[RuleName, Rule]]] = {}
        for name, rule in self._rules.items():
            for family in rule.families:
                self._by_family.setdefault(family, []).append((name, rule))
        self._fired: dict[RuleName, int] = {}

    def feed(self, metric: str, step: int, t: float, value: float) -> Iterator[tuple[RuleName, Firing]]:
        """One point, in the order of the file; what fires on it."""
        family = FAMILIES.get(metric)
        if family is None:
            return
        if self.hang is not None:
            self.hang.record(step, t)
        finite = math.isfinite(value)
        for name, rule in self._by_family.get(family, ()):
            if finite or name == "not_finite":
                firing = rule.feed(family, step, t, value)
                if firing is not None and self.count(name):
                    yield name, firing

    def count(self, rule: RuleName) -> bool:
        """Whether this rule may fire once more."""
        self._fired[rule] = self._fired.get(rule, 0) + 1
        return self._fired[rule] <= MOST_FIRINGS

    def looks(self) -> dict[RuleName, Look]:
        """How each rule stands."""
        found: dict[RuleName, Look] = {name: rule.look() for name, rule in self._rules.items()}
        return found | ({"hang": self.hang.look()} if self.hang is not None else {})
