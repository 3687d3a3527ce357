"""TRL's SFTTrainer with our loss, our order of rows, our checkpoints and our metrics; its loop, optimizer and resume stay.

What differs from the plain trainer, and why: the loss meets the vocabulary at labelled positions only (loss.py); a batch is
cut into passes without padding on a CPU (batching.py); a checkpoint counts only once it is marked complete; one record of
metrics a step goes to the events instead of a growing history; evaluation is ours (scoring.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import psutil
import torch
from torch.utils.data import Sampler
from transformers import TrainerState
from trl import SFTTrainer

from llmops_tui.data.checkpoints import mark_complete, prune
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.batching import Batch, LengthGroupedOrder, real_tokens, split_batch
from llmops_tui.engine.jobs.loss import has_plain_head, labelled_loss_sum
from llmops_tui.engine.jobs.reporting import Reporter

PROGRESS = "progress.json"
_GPU_METRIC = "gpu/0/memory_bytes"


class Carried(TypedDict):
    """What every checkpoint carries besides the trainer's state: real tokens and seconds so far, the scores before.

    `finished` says that no step is left: only the scoring and saving that come after.
    """

    tokens: int
    seconds: float
    before: dict[str, Any] | None
    finished: bool


class RunTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """One run's trainer."""

    def __init__(
        self,
        *,
        run: RunDir,
        reporter: Reporter,
        order: LengthGroupedOrder,
        token_budget: int | None,
        keep_checkpoints: int,
        evaluate: Callable[[int], None],
        carried: Carried,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = True  # count the labelled tokens of a whole update and hand them to compute_loss
        self.carried = carried
        self._run = run
        self._reporter = reporter
        self._order = order
        self._token_budget = token_budget
        self._keep_checkpoints = keep_checkpoints
        self._evaluate_model = evaluate
        self._causal_model: torch.nn.Module = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        self._own_loss = has_plain_head(self._causal_model) and not self.aux_loss_enabled
        self._process = psutil.Process()
        self._update_started = time.monotonic()
        self._update_waited = 0.0
        self._update_tokens = self._update_computed = 0

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._order

    def get_batch_samples(self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device) -> tuple[list[Batch], Any]:
        """An update begins with its data: measure the wait, and count what is real and what is padding."""
        self._update_started = time.monotonic()
        batches, labelled = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._update_waited = time.monotonic() - self._update_started
        self._update_tokens, self._update_computed = sum(real_tokens(batch) for batch in batches), 0
        return batches, labelled

    def training_step(self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        """Forward and backward of one batch, in passes of at most the token budget; the losses of the passes add up."""
        pieces = [inputs] if self._token_budget is None or not self._own_loss else split_batch(inputs, self._token_budget)
        loss = torch.zeros((), device=self.args.device)
        for piece in pieces:
            self._update_computed += piece["input_ids"].numel()
            loss += super().training_step(model, piece, num_items_in_batch)
            self._reporter.beat(self.state.global_step, self.state.max_steps, may_stop=False)
        return loss

    def compute_loss(self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Summed loss of the labelled tokens over their number in the whole update: exact over accumulation."""
        if not self._own_loss or return_outputs or num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
        with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
            return labelled_loss_sum(self._causal_model, inputs) / num_items_in_batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called by the loop after each update: one record of metrics, one line of log, a heartbeat."""
        if "loss" not in logs:
            return  # the summary at the end of training, which we make ourselves
        seconds = time.monotonic() - self._update_started
        self.carried["tokens"] += self._update_tokens
        self.carried["seconds"] += seconds
        step = self.state.global_step
        values = {
            "train/loss": logs["loss"],
            "train/grad_norm": logs["grad_norm"],
            "train/learning_rate": logs["learning_rate"],
            "train/epoch": float(self.state.epoch or 0.0),
            "train/tokens": self.carried["tokens"],
            "perf/tokens_per_second": self._update_tokens / seconds,
            "perf/step_seconds": seconds,
            "perf/data_wait_fraction": self._update_waited / seconds,
            "perf/padding_fraction": 1.0 - self._update_tokens / max(1, self._update_computed),
            "host/rss_bytes": self._process.memory_info().rss,
        }
        if self.args.device.type == "cuda":
            values[_GPU_METRIC] = torch.cuda.max_memory_allocated()
        self._reporter.beat(step, self.state.max_steps, may_stop=False, at_once=True)
        self._reporter.events.metrics(step, values)
        print(
            f"step {step}/{self.state.max_steps}  loss {logs['loss']:.4f}  {values['perf/tokens_per_second']:.0f} tokens/s"
            f"  learning rate {logs['learning_rate']:.2e}  gradient {logs['grad_norm']:.2f}",
            flush=True,
        )

    def evaluate(self, *_arguments: Any, **_options: Any) -> dict[str, float]:
        """Called by the loop where the callback asked for it; the scores go to the events, not back."""
        self._evaluate_model(self.state.global_step)
        return {}

    def stop_with_checkpoint(self) -> None:
        """From within `evaluate`: the loop saves right after it, and ends."""
        self.control.should_save = self.control.should_training_stop = True

    def take_up_finished(self, checkpoint: Path) -> None:
        """Load a checkpoint of the last step. `train` would resume it with one step more than the schedule has."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        directory = self._run.checkpoints / f"checkpoint-{step}"
        self.carried["finished"] = step >= self.state.max_steps
        (directory / PROGRESS).write_text(json.dumps(self.carried))
        checkpoint = mark_complete(directory, step)
        prune(self._run, self._keep_checkpoints)
        self._reporter.events.write("checkpoint", step=step, path=str(directory.relative_to(self._run.path)), bytes=checkpoint["bytes"])
        print(f"checkpoint at step {step}: {checkpoint['bytes'] / 1e6:.1f} MB", flush=True)

    def create_model_card(self, *_arguments: Any, **_options: Any) -> None:
        """No card in a checkpoint: TRL's names hub pages that do not exist."""


def read_progress(checkpoint: Path) -> Carried:
    """What a checkpoint carries. Raises OSError or ValueError where it is none of ours."""
    progress: Carried = json.loads((checkpoint / PROGRESS).read_bytes())
    return progress
