"""The wish to be warned: what the engine watches in a run's metrics, and what it does when a rule fires."""

from __future__ import annotations

from pydantic import Field, field_validator

from llmops_tui.specs.common import MOST_STEPS, StrictModel
from llmops_tui.specs.watch_rules import RULES, Action, RuleName


def _what(rule: RuleName) -> str:
    """A rule's own words, for the form: what it sees and how often it is wrong."""
    words = RULES[rule]
    return f"Fires on {words.sees}. False alarms: {words.wrong}"


class _Rule(StrictModel):
    """What all rules have in common."""

    @field_validator("action", mode="before", check_fields=False)
    @classmethod
    def _yaml_takes_off_for_false(cls, value: object) -> object:
        return "off" if value is False else value


class NotFiniteRule(_Rule):
    """A number that is none."""

    action: Action = Field("alarm", description=_what("not_finite"))


class FirstLossRule(_Rule):
    """The loss before anything was learnt."""

    action: Action = Field("alarm", description=_what("first_loss"))
    margin: float = Field(1.0, ge=0, le=100, description="Above ln(vocabulary) by more than this is too high")
    lowest: float = Field(0.02, ge=0, le=100, description="Below this is too low; only where the loss is a token's")


class SpikeRule(_Rule):
    """One wild batch."""

    action: Action = Field("alarm", description=_what("spike"))
    spreads: float = Field(
        10.0, ge=2, le=1000, description="Times the noise (its spread by the quartiles) above the median of the last 50 losses"
    )


class DivergenceRule(_Rule):
    """A loss that rises and stays up."""

    action: Action = Field("alarm", description=_what("divergence"))
    limit: float = Field(40.0, ge=3, le=10_000, description="Sum of spreads above the median, less one a step, that fires; lower is sooner")


class GradientRule(_Rule):
    """A gradient that explodes."""

    action: Action = Field("alarm", description=_what("gradient"))
    times: float = Field(10.0, gt=1, le=1e6, description="Times the usual norm")


class PlateauRule(_Rule):
    """A loss that does not fall any more."""

    action: Action = Field("note", description=_what("plateau"))
    window: int = Field(500, ge=20, le=MOST_STEPS, description="Steps of each of the two stretches that are compared")
    improvement: float = Field(0.01, gt=0, lt=1, description="Share the loss must fall by from one stretch to the next")


class OverfitRule(_Rule):
    """A model that learns its rows by heart."""

    action: Action = Field("alarm", description=_what("overfit"))
    patience: int = Field(3, ge=1, le=10_000, description="Evaluations in a row that must be worse than the best one")
    rise: float = Field(0.02, ge=0, le=100, description="Share above the best held-out loss that counts as worse")


class DataStallRule(_Rule):
    """A box that is slower at reading than at training."""

    action: Action = Field("alarm", description=_what("data_stall"))
    fraction: float = Field(0.5, gt=0, lt=1, description="Share of a step's time spent waiting, median of 20 steps")


class HangRule(_Rule):
    """A run that says nothing."""

    action: Action = Field("alarm", description=_what("hang"))
    share: float = Field(
        0.5, gt=0, lt=1, description="Share of limits.hang_seconds; without a limit: 30 times the usual pause, 5 minutes at least"
    )


class FrozenRule(_Rule):
    """A model that does not move."""

    action: Action = Field("alarm", description=_what("frozen"))


class RollbackChoice(StrictModel):
    """What `rollback` does: back to the last checkpoint before the fault, and on from there with a lower learning rate."""

    factor: float = Field(0.5, gt=0, le=1, description="The learning rate is multiplied by this at each rollback")
    times: int = Field(3, ge=1, le=100, description="Rollbacks of a run at most; after that it is stopped instead")


class WatchChoice(StrictModel):
    """Every rule: off, note (kept and marked on the chart), alarm (told to people), pause, stop, rollback."""

    not_finite: NotFiniteRule = Field(default_factory=NotFiniteRule)
    first_loss: FirstLossRule = Field(default_factory=FirstLossRule)
    spike: SpikeRule = Field(default_factory=SpikeRule)
    divergence: DivergenceRule = Field(default_factory=DivergenceRule)
    gradient: GradientRule = Field(default_factory=GradientRule)
    plateau: PlateauRule = Field(default_factory=PlateauRule)
    overfit: OverfitRule = Field(default_factory=OverfitRule)
    data_stall: DataStallRule = Field(default_factory=DataStallRule)
    hang: HangRule = Field(default_factory=HangRule)
    frozen: FrozenRule = Field(default_factory=FrozenRule)
    rollback: RollbackChoice = Field(default_factory=RollbackChoice)

    def action(self, rule: RuleName) -> Action:
        """What is to be done when a rule fires."""
        chosen: Action = getattr(self, rule).action
        return chosen
