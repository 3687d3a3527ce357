"""The trainer's callback: after each update, what the user wants and what the plan says comes next.

What was asked for before an update ended takes effect before the next one begins, and is answered by a `control` event with that step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmops_tui.engine.jobs.adjustments import Adjustment, read_adjustment
from llmops_tui.engine.jobs.control import Request
from llmops_tui.engine.jobs.learning_rate import scale_learning_rate
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.specs.train import TrainSpec


class Looks(NamedTuple):
    """What a look in between is for."""

    evaluate: bool
    sample: bool


class RunCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Turns the control channel and the spec's intervals into the trainer's own flags. Steps count from 1."""

    def __init__(self, reporter: Reporter, spec: TrainSpec, adjustment: Adjustment) -> None:
        """`spec` as this attempt follows it; of `adjustment` only the learning rate's scale is not in it."""
        self._reporter = reporter
        self._control = reporter.control
        self._evaluate_every = spec.evaluate_every
        self._sample_every = spec.sample_every
        self._checkpoint_every = spec.checkpoint_every
        self._scale = adjustment.get("learning_rate_scale")
        self._looks = Looks(False, False)
        self._told_end = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any) -> None:
        """What was set for an attempt before counts for this one too."""
        if self._scale is not None:
            scale_learning_rate(others["optimizer"], others["lr_scheduler"], self._scale)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any) -> TrainerControl:
        """Set should_save, should_evaluate and should_training_stop for the loop to obey, in its order: log, evaluate, save."""
        step, last = state.global_step, state.global_step >= state.max_steps
        asked = self._listen(state, others)
        if self._control.stop:
            self._tell_end(step)
            control.should_save = control.should_training_stop = True
            return control
        if "checkpoint" in asked or last or _due(step, self._checkpoint_every):
            control.should_save = True
        if not last:
            evaluate = "evaluate" in asked or _due(step, self._evaluate_every)
            self._looks = Looks(evaluate, "sample" in asked or _due(step, self._sample_every))
            control.should_evaluate = any(self._looks)
        return control

    def looks(self) -> Looks:
        """What the look in between that the trainer now makes is for."""
        return self._looks

    def _listen(self, state: TrainerState, others: dict[str, Any]) -> set[str]:
        """Carry out and answer what was asked, and keep still as long as that is asked; the commands that are left for the loop."""
        self._control.poll()
        self._control.agree()
        asked: set[str] = set()
        while True:
            for request in self._control.take():
                asked.add(request.command)
                self._answer(request, state.global_step, self._carry_out(request, state, others))
            if self._control.stop or not self._control.held:
                return asked
            self._reporter.hold(state.global_step, state.max_steps)

    def _carry_out(self, request: Request, state: TrainerState, others: dict[str, Any]) -> str:
        """The answer: what comes of it."""
        match request.command:
            case "checkpoint":
                return "writes a checkpoint"
            case "evaluate" | "sample" if state.global_step >= state.max_steps:
                return "that was the last step: it is scored and sampled anyway"
            case "evaluate":
                return "scores the held-out rows"
            case "sample":
                return "lets the model speak"
            case "pause":
                return "keeps still, with its memory"
            case "resume":
                return "goes on"
            case _:
                return self._set(read_adjustment(request.arguments), others)

    def _set(self, settings: Adjustment, others: dict[str, Any]) -> str:
        said = []
        if "learning_rate_scale" in settings:
            before, after = scale_learning_rate(others["optimizer"], others["lr_scheduler"], settings["learning_rate_scale"])
            said.append(f"learning rate {before:.3g} to {after:.3g}")
        if "checkpoint_every" in settings:
            self._checkpoint_every = settings["checkpoint_every"]
            said.append(f"a checkpoint {_every(self._checkpoint_every)}")
        if "evaluate_every" in settings:
            self._evaluate_every = settings["evaluate_every"]
            said.append(f"an evaluation {_every(self._evaluate_every)}")
        return ", ".join(said) or "sets nothing that it knows"

    def _tell_end(self, step: int) -> None:
        if not self._told_end:
            self._told_end = True
            ending = self._control.ending
            self._answer(Request(ending.command or "stop", ending.who, ending.arguments), step, "saves a checkpoint and ends")

    def _answer(self, request: Request, step: int, outcome: str) -> None:
        self._reporter.events.write(
            "control", command=request.command, step=step, outcome=outcome, by=request.who, arguments=request.arguments
        )
        print(f"step {step}: {request.command}{f', asked by {request.who}' if request.who else ''}: {outcome}", flush=True)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _every(steps: int | None) -> str:
    return "never" if steps is None else f"every {steps} steps"
