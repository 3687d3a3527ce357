"""The trainer's callback: after each update, what the user wants and what the plan says comes next."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmops_tui.engine.jobs.control import ControlChannel


class RunCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Turns the control channel and the spec's intervals into the trainer's own flags. Steps count from 1."""

    def __init__(self, control: ControlChannel, *, look_every: list[int], checkpoint_every: int | None) -> None:
        self._control = control
        self._look_every = look_every
        self._checkpoint_every = checkpoint_every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_others: Any) -> TrainerControl:
        """Set should_save, should_evaluate and should_training_stop for the loop to obey, in its order: log, evaluate, save."""
        self._control.poll()
        self._control.agree()
        asked = {request.command for request in self._control.take()}
        step, last = state.global_step, state.global_step >= state.max_steps
        if self._control.stop:
            control.should_save = control.should_training_stop = True
        elif "checkpoint" in asked or last or _due(step, self._checkpoint_every):
            control.should_save = True
        if not last and not self._control.stop and any(_due(step, every) for every in self._look_every):
            control.should_evaluate = True
        return control


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
