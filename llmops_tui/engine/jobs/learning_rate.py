"""The learning rate as it is changed while a run goes on: its whole schedule is scaled."""

from __future__ import annotations

from typing import Any


def scale_learning_rate(optimizer: Any, scheduler: Any, scale: float) -> tuple[float, float]:
    """Make the schedule `scale` times the spec's own, from the next update on; returns the rate before and after.

    A scheduler that follows a function of the step (torch's LambdaLR, which all of ours are) takes its rates from `base_lrs`, not
    from the optimizer's groups, which it overwrites after every update; its state, and so every checkpoint, carries them.
    """
    inner = getattr(scheduler, "scheduler", scheduler)  # accelerate wraps it where there are several processes
    groups = optimizer.param_groups
    before = float(groups[0]["lr"])
    for at, group in enumerate(groups):
        inner.base_lrs[at] = group["initial_lr"] * scale
        group["lr"] = inner.base_lrs[at] * inner.lr_lambdas[at](inner.last_epoch)
    inner._last_lr = [group["lr"] for group in groups]
    return before, float(groups[0]["lr"])
