"""A sweep and its trials for the console's tests: twelve trials over a rate and a rank, some pruned, one failed, two running."""

from __future__ import annotations

from math import log10

from llmops_tui.specs.answers_sweep import SweepAnswer, SweepBudgetUse, SweepRange, SweepTrial

SWEEP = "sweep-fiqa-1050"
_RATES = (3e-4, 1e-3, 3e-5, 2e-3, 1e-4, 5e-3, 6e-4, 9e-3, 4e-4, 2e-2, 7e-4, 1e-5)
_STATES = (
    "complete", "complete", "pruned", "complete", "pruned", "pruned", "complete", "failed", "complete", "pruned", "running", "running",
)  # fmt: skip


def sweep_answer(now: float) -> SweepAnswer:
    """As the engine tells it at `now`."""
    trials = []
    for number, (rate, state) in enumerate(zip(_RATES, _STATES, strict=True), 1):
        loss = None if state == "failed" else round(1.9 + (log10(rate) + 3.2) ** 2 * 0.4 + (0.6 if state == "pruned" else 0), 4)
        why = {"pruned": "pruned at 41,000 tokens: eval/loss is not among the best 2 of 7", "failed": "the loss is no number"}.get(
            state, ""
        )
        trials.append(
            SweepTrial(
                number=number, run=f"train-fiqa-t{number:02d}-{1050 + number}", state=state, reason=why,
                params={"optim.learning_rate": rate, "lora.r": (8, 16, 32)[number % 3], "optim.schedule": ("cosine", "linear")[number % 2]},
                value=loss, tokens=41_000 if state == "pruned" else 12_000 if state in ("failed", "running") else 369_000,
                reports=[], started_at=now - 3000 + 200 * number, ended_at=None if state == "running" else now - 2800 + 200 * number,
            )
        )  # fmt: skip
    order = {"complete": 0, "pruned": 1, "running": 1, "failed": 2}
    trials.sort(key=lambda trial: (order[trial["state"]], trial["value"] or 0.0))
    return SweepAnswer(
        id=SWEEP, kind="sweep", name="fiqa", state="running", reason="", metric="eval/loss", least_wins=True, sampler="tpe", pruner="asha",
        space={
            "optim.learning_rate": SweepRange(choices=[], low=1e-5, high=2e-2, log=True),
            "lora.r": SweepRange(choices=[8, 16, 32], low=None, high=None, log=False),
            "optim.schedule": SweepRange(choices=["cosine", "linear"], low=None, high=None, log=False),
        },
        trials=trials, best_so_far=[[1, 2.0], [4, 1.96], [7, 1.91], [9, 1.9016], [10, 1.9016]],
        importances={"optim.learning_rate": 0.81, "lora.r": 0.12, "optim.schedule": 0.07}, folds=None,
        budget=SweepBudgetUse(
            trials=27, trials_used=12, hours=8.0, hours_used=0.83, energy_kwh=None, energy_kwh_used=0.42, tokens=2_100_000, eta_seconds=90
        ),
    )  # fmt: skip
