"""The best moment of a run, and when to end it: what `keep.best` and `keep.early_stop` say of a held-out loss. Pure."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from llmops_tui.specs.train_keep import EarlyStopChoice


class BestSoFar(TypedDict):
    """Carried from attempt to attempt. `worse` counts the evaluations since the loss was last lower by more than `min_delta`."""

    step: int
    loss: float
    mark: float
    worse: int


class Seen(NamedTuple):
    """What an evaluation means."""

    best: BestSoFar
    improved: bool
    enough: bool


def see(best: BestSoFar | None, step: int, loss: float, rule: EarlyStopChoice) -> Seen:
    """Take an evaluation in. The lowest loss is the best; patience is measured from the last loss that was better by `min_delta`.

    A loss that is not a number is never better (Prechelt 1998, Early Stopping: but when?).
    """
    if best is None:
        return Seen(BestSoFar(step=step, loss=loss, mark=loss, worse=0), improved=True, enough=False)
    improved = loss < best["loss"]
    # A first loss that is not a number is beaten by any that is.
    if best["loss"] != best["loss"] and loss == loss:
        improved = True
    better = improved and not loss >= best["mark"] - rule.min_delta
    now = BestSoFar(
        step=step if improved else best["step"],
        loss=loss if improved else best["loss"],
        mark=loss if better else best["mark"],
        worse=0 if better else best["worse"] + 1,
    )
    return Seen(now, improved, enough=rule.patience is not None and now["worse"] >= rule.patience)
