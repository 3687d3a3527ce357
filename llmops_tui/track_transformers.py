"""The Transformers trainer's callback that tells llmops-tui everything: `Trainer(…, callbacks=[RunCallback()])`.

Metrics under our names, progress with the time left, checkpoints marked whole, and a stop that saves first. Works with every trainer
built on `transformers.Trainer` (TRL, axolotl, LLaMA-Factory, Unsloth). Outside a run it does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmops_tui import track
from llmops_tui.engine.foreign.names import trainer_name


class RunCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Of several ranks the first one tells; all of them stop at the same step."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_others: Any) -> None:
        if state.is_world_process_zero:
            track.phase("train", total=state.max_steps, done=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_others: Any) -> TrainerControl:
        if state.is_world_process_zero:
            track.progress(state.global_step, state.max_steps)
        stop, save = _agreed(args, track.stop_requested(), track.checkpoint_requested())
        if stop:
            control.should_training_stop = True
        if (stop or save) and state.global_step < state.max_steps:
            control.should_save = True
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_others: Any
    ) -> None:
        if state.is_world_process_zero and logs:
            numbers = {trainer_name(name): value for name, value in logs.items() if isinstance(value, int | float)}
            track.metric(state.global_step, numbers)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_others: Any) -> None:
        if state.is_world_process_zero:
            track.checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}", state.global_step)


def _agreed(args: TrainingArguments, *asked: bool) -> list[bool]:
    """What any rank was asked, known to all: ranks that end at different steps would wait for each other forever."""
    if args.world_size <= 1:
        return list(asked)
    import torch
    from torch import distributed

    flags = torch.tensor([float(one) for one in asked], device=args.device)
    distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
    return [bool(one) for one in flags.tolist()]
