"""What every trainer of a run shares: a mixin over any trainer of TRL or transformers, whose loop, optimizer and loss stay.

    class DpoRunTrainer(RunTrainer, DPOTrainer):
        metric_names = {"rewards/margins": "train/reward_margin"}

One record of metrics a step goes to the events, instead of a growing history; a checkpoint counts only once it is marked
complete, and carries what a resumed run needs beside the trainer's own state; the order of the rows is ours where one is
given; evaluation is the run's (train.py). What a trainer logs under its own names is passed on where `metric_names` has it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NotRequired, TypedDict, TypeVar

import psutil
import torch
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerState

from llmops_tui.data.checkpoints import mark_complete, prune
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs import ranking, sharding
from llmops_tui.engine.jobs.adapter_norm import AdapterNorm
from llmops_tui.engine.jobs.batch_ring import BatchRing
from llmops_tui.engine.jobs.batching import real_tokens
from llmops_tui.engine.jobs.keeping import BestSoFar
from llmops_tui.engine.jobs.probe import ProbeLosses
from llmops_tui.engine.jobs.reporting import Reporter

PROGRESS = "progress.json"
_GPU_METRIC = "gpu/0/memory_bytes"

Found = TypeVar("Found")


class Carried(TypedDict):
    """What every checkpoint carries besides the trainer's state: real tokens and seconds so far, the scores before.

    `finished` says that no step is left: only the scoring and saving that come after. `best` is the lowest held-out loss so far,
    `probe` the base ability before (both where the spec asks for them).
    """

    tokens: int
    seconds: float
    before: dict[str, Any] | None
    finished: bool
    best: NotRequired[BestSoFar]
    probe: NotRequired[ProbeLosses]


@dataclass(frozen=True)
class Books:
    """Where a trainer keeps its books. `look` is called with the step where the callback asked for a look in between."""

    run: RunDir
    reporter: Reporter
    keep_checkpoints: int
    carried: Carried
    look: Callable[[int], None]


class RunTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped to mypy here
    """One run's trainer; put it before the trainer of the method among the bases."""

    # Keys that the method's own trainer logs, and the metrics they become.
    metric_names: ClassVar[Mapping[str, str]] = {}
    is_fsdp_enabled: bool  # transformers' own, said by `create_accelerator_and_postprocess`

    def __init__(self, *, books: Books, order: Sampler[int] | None = None, ring: BatchRing | None = None, **arguments: Any) -> None:
        """`order` None leaves the order of rows to the method's trainer; into `ring` goes which rows were whose. The others are its own."""
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)
        self.reporter = books.reporter
        if self.is_fsdp_enabled:
            sharding.shard(self.accelerator, self.model)  # before the first score: a model that is cut may fit nowhere whole
            self.reporter.log(sharding.describe(self.model))
        self.carried = books.carried
        self._run = books.run
        self._keep_checkpoints = books.keep_checkpoints
        self._look = books.look
        self._order = order
        self._ring = ring
        self._adapter: AdapterNorm | None = None
        self._ends_early = False
        self._process = psutil.Process()
        self._update_started = time.monotonic()
        self._update_waited = 0.0
        self._update_tokens = self._update_computed = 0

    @property
    def causal_model(self) -> torch.nn.Module:
        """The model itself, adapters within."""
        model: torch.nn.Module = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return model

    def inside(self, function: Callable[[], Found]) -> Found:
        """What reads the weights other than by a forward of `model`; among ranks that hold a part of it each, all call it alike."""
        try:
            return sharding.as_forward_of(self.model, function)
        finally:
            sharding.apart_again(self.model)

    def gathered(self) -> dict[str, torch.Tensor] | None:
        """The trained weights in the first rank's memory, where each rank holds a part: a collective call. None: each has them whole."""
        return sharding.gather(self.model, trained_alone=hasattr(self.model, "get_base_model")) if self.is_fsdp_enabled else None

    def count_tokens(self, batch: Any) -> int:
        """Real tokens of one batch as its collator made it. For a batch that holds none yet, call `add_tokens` later."""
        return real_tokens(dict(batch)) if isinstance(batch, Mapping) and "input_ids" in batch else 0

    def add_tokens(self, real: int, computed: int = 0) -> None:
        """Count tokens that came to be within an update: completions, or the passes a batch is cut into."""
        self._update_tokens += real
        self._update_computed += computed

    def held_out_metrics(self, dataset: Any) -> dict[str, float]:
        """The method's own evaluation on rows as its `evaluate` wants them; its keys begin with `eval_`."""
        metrics: dict[str, float] = super().evaluate(dataset)
        return metrics

    def stop_with_checkpoint(self) -> None:
        """From within a look in between: the loop saves right after it, and ends."""
        self.control.should_save = self.control.should_training_stop = True

    def save_soon(self) -> None:
        """From within a look in between: the loop saves right after it, and goes on."""
        self.control.should_save = True

    def end_early(self) -> None:
        """From within a look in between: this was the last step, though the schedule has more."""
        self._ends_early = True
        self.control.should_save = self.control.should_training_stop = True

    def take_up_weights(self, checkpoint: Path) -> None:
        """Go back to what was learnt by a checkpoint, which only the first rank's box may have: a collective call."""
        if self.is_fsdp_enabled or ranking.number() == 0:
            self._load_from_checkpoint(str(checkpoint))
        if ranking.count() > 1 and not self.is_fsdp_enabled:
            ranking.taken_from_the_first(parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def take_up_finished(self, checkpoint: Path) -> None:
        """Load a checkpoint of the last step. `train` would resume it with one step more than the schedule has."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    # What follows is called by transformers.

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            self.is_fsdp_enabled = sharding.enter_on_cpu(self.accelerator, self.args.fsdp_plugin_args)

    def _run_epoch(self, **given: Any) -> None:
        """One pass, in its own order. accelerate looks for the order two samplers deep at most, and in a resumed pass of several ranks
        it lies three deep: they would go on with the rows of the first pass.
        """
        sampler = given["train_dataloader"].batch_sampler
        while hasattr(sampler, "batch_sampler"):
            sampler = sampler.batch_sampler
        if hasattr(getattr(sampler, "sampler", None), "set_epoch"):
            sampler.sampler.set_epoch(given["epoch"])
        super()._run_epoch(**given)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        return self._order if self._order is not None else super()._get_train_sampler(train_dataset)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """An update begins with its data: measure the wait, and count what is real."""
        self._update_started = time.monotonic()
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._update_waited = time.monotonic() - self._update_started
        self._update_tokens, self._update_computed = sum(self.count_tokens(batch) for batch in batches), 0
        return batches, items

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        """Forward and backward of one batch, or of one of the passes it is cut into."""
        if isinstance(inputs, Mapping) and "input_ids" in inputs:
            self._update_computed += inputs["input_ids"].numel()
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.reporter.beat(self.state.global_step, self.state.max_steps, may_stop=False)
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: transformers walks over every module after each pass for a sum that only its own log would show."""
        return 0

    def prediction_step(
        self, model: torch.nn.Module, inputs: Any, prediction_loss_only: bool, ignore_keys: Sequence[str] | None = None
    ) -> Any:
        """One batch of the method's own evaluation; asked to stop, it raises StoppedError, as all scoring does."""
        result = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        self.reporter.beat(self.state.global_step, self.state.max_steps or None)
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each update: one record of metrics, one line of log, a heartbeat."""
        super().log(logs, start_time)  # the method's trainer adds what it has measured
        self.state.log_history.clear()  # the events are the history; this one would be written into every checkpoint
        if "loss" not in logs:
            return  # an evaluation, or the summary at the end of training, which we make ourselves
        seconds = time.monotonic() - self._update_started - self.reporter.take_held_seconds()
        tokens, computed = ranking.summed([self._update_tokens, self._update_computed], self.args.device)
        self.carried["tokens"] += tokens
        self.carried["seconds"] += seconds
        step = self.state.global_step
        values = {
            "train/loss": logs["loss"],
            "train/grad_norm": logs["grad_norm"],
            "train/learning_rate": logs["learning_rate"],
            "train/epoch": float(self.state.epoch or 0.0),
            "train/tokens": self.carried["tokens"],
            "perf/tokens_per_second": tokens / seconds,
            "perf/step_seconds": seconds,
            "perf/data_wait_fraction": self._update_waited / seconds,
            "host/rss_bytes": self._process.memory_info().rss,
            **{name: logs[key] for key, name in self.metric_names.items() if logs.get(key) is not None},
        }
        self._adapter = self._adapter or AdapterNorm(self.model)
        if (norm := self._adapter.now()) is not None:
            values["train/adapter_norm"] = norm
        if computed:
            values["perf/padding_fraction"] = max(0.0, 1.0 - tokens / computed)
        if self.args.device.type == "cuda":
            values[_GPU_METRIC] = torch.cuda.max_memory_allocated()
        self.reporter.beat(step, self.state.max_steps, may_stop=False, at_once=True)
        if self._ring is not None and ranking.number() == 0:
            self._ring.note(step)  # before the record that may make somebody ask for them
        self.reporter.events.metrics(step, values)
        print(
            f"step {step}/{self.state.max_steps}  loss {logs['loss']:.4f}  {values['perf/tokens_per_second']:.0f} tokens/s"
            f"  learning rate {logs['learning_rate']:.2e}  gradient {logs['grad_norm']:.2f}",
            flush=True,
        )

    def evaluate(self, *_arguments: Any, **_options: Any) -> dict[str, float]:
        """Called where the callback asked for it; the scores go to the events, not back."""
        self.control.should_evaluate = False  # the loop asks twice after the last step of a pass
        self._look(self.state.global_step)
        return {}

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.control.should_save = False  # as for `evaluate`
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        ranking.wait_for_all()  # each has its random state in there
        directory = self._run.checkpoints / f"checkpoint-{step}"
        self.carried["finished"] = self._ends_early or step >= self.state.max_steps
        if ranking.number() == 0:
            self._complete(directory, step)

    def _save_rng_state(self, output_dir: str) -> None:
        """Every rank's where the first one writes: the others may be on a box that keeps nothing."""
        if ranking.count() == 1:
            super()._save_rng_state(output_dir)
            return
        name = f"rng_state_{ranking.number()}.pth"
        with tempfile.TemporaryDirectory() as own:
            super()._save_rng_state(own)
            states = ranking.at_the_first((name, Path(own, name).read_bytes()))
        for name, state in states:
            Path(output_dir, name).write_bytes(state)

    def _complete(self, directory: Path, step: int) -> None:
        """Give the checkpoint what a resumed run needs besides, and say that it is whole."""
        (directory / PROGRESS).write_text(json.dumps(self.carried))
        checkpoint = mark_complete(directory, step)
        best = self.carried.get("best")
        prune(self._run, self._keep_checkpoints, spare=best["step"] if best else None)
        self.reporter.events.write("checkpoint", step=step, path=str(directory.relative_to(self._run.path)), bytes=checkpoint["bytes"])
        print(f"checkpoint at step {step}: {checkpoint['bytes'] / 1e6:.1f} MB", flush=True)

    def create_model_card(self, *_arguments: Any, **_options: Any) -> None:
        """No card in a checkpoint: TRL's names hub pages that do not exist."""


def read_progress(checkpoint: Path) -> Carried:
    """What a checkpoint carries. Raises OSError or ValueError where it is none of ours."""
    progress: Carried = json.loads((checkpoint / PROGRESS).read_bytes())
    return progress
