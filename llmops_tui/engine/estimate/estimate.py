"""A training run's estimate: what it will take on this box, each figure with its band, and the largest sizes that fit. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmops_tui.engine.disk_forecast import checkpoint_bytes
from llmops_tui.engine.estimate import speed
from llmops_tui.engine.estimate.adapters import Adapted, adapted
from llmops_tui.engine.estimate.calibration import FORMULA, Calibration, Correction, Likeness
from llmops_tui.engine.estimate.generation import generation_seconds
from llmops_tui.engine.estimate.memory import Parts, Setup, memory_parts, weight_bytes
from llmops_tui.engine.estimate.methods import MethodWork, method_work
from llmops_tui.engine.estimate.shapes import ModelShape
from llmops_tui.engine.estimate.workload import RowFacts, Workload, workload
from llmops_tui.engine.tariff import Tariff
from llmops_tui.specs.answers import EstimateAnswer
from llmops_tui.specs.train import TrainSpec

# ledger.py: what the driver keeps for itself. Of the host's memory something must stay for the system.
_USABLE = {"cuda": 0.98, "cpu": 0.95}
# jobs/hardware.py, "auto": checkpointing where weights and activations (20 H a token and layer) pass 80 % of the free memory.
_AUTO_ACTIVATIONS_PER_HIDDEN = 20
_AUTO_SHARE = 0.8
# What fsdp cuts over the processes; the copies that are computed with are a layer's at a time.
_CUT_PARTS = ("weights", "gradients", "optimizer", "copies")
# A weight trained in float32 with bfloat16 products: itself, its gradient, two moments, and its copy.
MASTER_BYTES = 4 + 4 + 8 + 2
# A search for the largest size ends here: beyond, memory is not what limits it.
MOST_MICRO_BATCH = 4096
MOST_LENGTH = 1 << 20
_LABELLED_SHARE = 0.5
_PACKED_METHODS = ("sft", "pretrain")
_FEW_MEASURED = "method {} was measured less than sft: its estimate is rougher"


@dataclass(frozen=True)
class Box:
    """The device a run would get. `memory_bytes` of one device (the largest GPU), None where it does not tell; `watts` of one."""

    device: str
    name: str
    memory_bytes: int | None
    threads: int
    gpus: int = 0
    watts: float | None = None


@dataclass(frozen=True)
class ModelFacts:
    """The shape, and what lies on disk: bytes and the element size of its weight files. `teacher_parameters` are a teacher's."""

    shape: ModelShape
    file_bytes: int = 0
    file_item_bytes: int = 2
    teacher_parameters: int | None = None


def estimate(
    spec: TrainSpec, model: ModelFacts, rows: RowFacts, box: Box, calibration: Calibration | None = None, tariff: Tariff | None = None
) -> EstimateAnswer:
    """Everything at once. Raises ValueError where the model's parameters cannot be told from its configuration and headers."""
    if model.shape.parameters is None:
        raise ValueError(f"the parameters of a {model.shape.family} model cannot be told without its safetensors files")
    question = _Question(spec, model, rows, box, adapted(model.shape, spec.lora.target_modules), calibration or Calibration())
    return question.answer(tariff or Tariff())


def least_memory(spec: TrainSpec, model: ModelFacts, rows: RowFacts, box: Box, calibration: Calibration | None = None) -> int:
    """The lower bound of the peak with one row a pass, and with checkpointing unless that was ruled out: below it nothing runs."""
    smaller = spec if spec.gradient_checkpointing is False else spec.model_copy(update={"gradient_checkpointing": True})
    question = _Question(smaller, model, rows, box, adapted(model.shape, spec.lora.target_modules), calibration or Calibration())
    memory = question.memory(1, spec.max_length)
    return memory.peak(memory.correction.low)


def keeps_master_weights(spec: TrainSpec, model: ModelFacts, rows: RowFacts, box: Box) -> bool:
    """Whether every weight is trained in float32 with bfloat16 products (as HF Trainer's bf16=True on a float32 model), or in bfloat16
    alone: the former on a GPU that holds it by the formula, uncorrected, so that the job decides as the estimate did.

    Updates of a thousandth are lost in bfloat16's eight bits (Micikevicius et al. 2018, arXiv:1710.03740, section 3.1).
    """
    if adaptation_of(spec) != "full" or spec.dtype != "auto" or box.device != "cuda":
        return False
    if box.memory_bytes is None:
        return True
    question = _Question(spec, model, rows, box, adapted(model.shape, spec.lora.target_modules), Calibration())
    memory = question.memory_with(spec, master=True)
    held = sum(memory.parts.get(name, 0) for name in _CUT_PARTS) if spec.processes.strategy == "fsdp" else 0
    elsewhere = held * (1 - 1 / spec.processes.total)
    return memory.peak(memory.correction.high) - elsewhere <= box.memory_bytes * _USABLE[box.device]


@dataclass(frozen=True)
class _Memory:
    parts: Parts
    load: Workload
    setup: Setup
    work: MethodWork
    correction: Correction

    @property
    def work_bytes(self) -> int:
        """The formula's, without what was there before."""
        return sum(self.parts.values()) - self.parts["framework"]

    def peak(self, factor: float) -> int:
        return round(self.work_bytes * self.correction.factor * factor) + self.parts["framework"]


@dataclass(frozen=True)
class _Question:
    spec: TrainSpec
    model: ModelFacts
    rows: RowFacts
    box: Box
    targets: Adapted
    calibration: Calibration

    @property
    def teacher_parameters(self) -> int:
        """Of the second model that a student learns from; where none is known, one like it is meant."""
        if self.spec.method != "distill":
            return 0
        return (self.model.teacher_parameters or self.model.shape.parameters) or 0

    def memory(self, micro_batch: int, max_length: int) -> _Memory:
        spec = self.spec.model_copy(update={"micro_batch": micro_batch, "max_length": max_length})
        return self.memory_with(spec, master=keeps_master_weights(spec, self.model, self.rows, self.box))

    def memory_with(self, spec: TrainSpec, *, master: bool) -> _Memory:
        """Of this spec, with the precision decided."""
        shape, device = self.model.shape, self.box.device
        adaptation = adaptation_of(spec)
        work = method_work(spec, full=adaptation == "full", plain_head=shape.plain_head)
        packed = spec.method in _PACKED_METHODS and (device == "cuda" if spec.packing == "auto" else spec.packing)
        load = workload(
            spec, self.rows, device=device, packed=packed, own_loss=work.cut_to_passes, sequences=work.sequences, generates=work.generates
        )
        item_bytes = _item_bytes(spec, device)
        checkpointing = self._checkpointing(spec, item_bytes, master)
        setup = Setup(
            device, adaptation, item_bytes, checkpointing, spec.lora.r, self.model.file_bytes, self.model.file_item_bytes, master
        )  # fmt: skip
        parts = memory_parts(shape, self.targets, setup, load, work, self.teacher_parameters)
        return _Memory(parts, load, setup, work, self.calibration.correction("memory", self._likeness(setup)))

    def answer(self, tariff: Tariff) -> EstimateAnswer:
        spec, shape, box = self.spec, self.model.shape, self.box
        memory = self.memory(spec.micro_batch, spec.max_length)
        setup, load = memory.setup, memory.load
        trained = (shape.parameters or 0) if setup.full else self.targets.parameters(spec.lora.r, dora=setup.adaptation == "dora")
        pace = self.calibration.correction("seconds", self._likeness(setup))
        formula_seconds = self._training_seconds(setup, load, memory.work)
        scoring_seconds = self._scoring_seconds(setup, load)
        seconds = [
            None
            if formula_seconds is None
            else round((formula_seconds + scoring_seconds) * pace.factor * by + speed.around_seconds(box.device) * around, 1)
            for by, around in ((1, 1), (pace.low, 1 / speed.AROUND_SPREAD), (pace.high, speed.AROUND_SPREAD))
        ]
        gpu_seconds = None if seconds[0] is None else seconds[0] * box.gpus
        energy = None if gpu_seconds is None or box.watts is None or not box.gpus else round(gpu_seconds * box.watts, 1)
        capacity = None if box.memory_bytes is None else round(box.memory_bytes * _USABLE[box.device])
        return EstimateAnswer(
            parameters=shape.parameters or 0,
            trainable=trained,
            device=box.device,
            device_name=box.name,
            adaptation=setup.adaptation,
            checkpointing=setup.checkpointing,
            architecture=shape.architecture,
            capacity_bytes=capacity,
            memory_bytes=memory.peak(1.0),
            memory_low=memory.peak(memory.correction.low),
            memory_high=memory.peak(memory.correction.high),
            parts={name: size for name, size in _corrected(memory).items() if size},
            seconds=seconds[0],
            seconds_low=seconds[1],
            seconds_high=seconds[2],
            steps=load.steps,
            tokens=load.tokens,
            energy_joules=energy,
            cost=None if gpu_seconds is None else tariff.cost(gpu_seconds, energy),
            disk_bytes=checkpoint_bytes(spec, trained, weight_bytes(shape, setup) if setup.full else 0),
            fits=_fits(memory, capacity),
            largest_micro_batch=self._largest(capacity, MOST_MICRO_BATCH, lambda size: self.memory(size, spec.max_length)),
            largest_max_length=self._largest(
                capacity, min(shape.context or MOST_LENGTH, MOST_LENGTH), lambda size: self.memory(spec.micro_batch, size)
            ),
            basis=self._basis(memory.correction, pace),
            formula={"version": FORMULA, "family": shape.family, "work_bytes": memory.work_bytes, "training_seconds": formula_seconds},
        )

    def _likeness(self, setup: Setup) -> Likeness:
        return Likeness(setup.device, setup.adaptation, setup.checkpointing, self.model.shape.family)

    def _checkpointing(self, spec: TrainSpec, item_bytes: int, master: bool) -> bool:
        if spec.gradient_checkpointing != "auto":
            return spec.gradient_checkpointing
        if self.box.device == "cpu" or self.box.memory_bytes is None:
            return False
        tokens = spec.micro_batch * spec.max_length
        activations = tokens * self.model.shape.layers * _AUTO_ACTIVATIONS_PER_HIDDEN * self.model.shape.hidden * item_bytes
        resident = MASTER_BYTES * (self.model.shape.parameters or 0) if master else self.model.file_bytes
        return resident + activations >= _AUTO_SHARE * self.box.memory_bytes

    def _training_seconds(self, setup: Setup, load: Workload, work: MethodWork) -> float | None:
        if load.tokens is None or load.steps is None:
            return None
        labelled = _LABELLED_SHARE if self.spec.assistant_only else 1.0
        training, forward = speed.flops_a_token(self.model.shape, self.targets, setup, load, labelled)
        processes = self.spec.processes  # on a CPU those of one box share what one would have
        at_once = processes.total if setup.device == "cuda" else processes.boxes
        training += forward * work.forwards + 2.0 * self.teacher_parameters
        answers = generation_seconds(self.model.shape, load, setup.device, setup.item_bytes, self._flops(setup), self.box.threads)
        return round(load.tokens * training / self._flops(setup) / at_once + load.steps * answers, 3)

    def _scoring_seconds(self, setup: Setup, load: Workload) -> float:
        """Held-out rows before and after, and in between where asked for."""
        _, forward = speed.flops_a_token(self.model.shape, self.targets, setup, load, 1.0)
        times = 2 + ((load.steps or 0) // self.spec.evaluate_every if self.spec.evaluate_every else 0)
        return times * load.held_out_tokens * forward / self._flops(setup)

    def _flops(self, setup: Setup) -> float:
        return speed.device_flops(self.box.device, self.box.name, self.box.threads, setup.item_bytes)

    def _largest(self, capacity: int | None, most: int, at: Callable[[int], _Memory]) -> int | None:
        """The largest size whose upper bound fits; 0 where none does, None where the capacity is not known."""
        if capacity is None:
            return None

        def fits(size: int) -> bool:
            memory = at(size)
            return memory.peak(memory.correction.high) <= capacity

        if fits(most):
            return most
        low, high = 0, most  # low fits (or is none), high does not
        while high - low > max(1, low // 64):
            middle = (low + high) // 2 if low else max(1, high // 4)
            if middle in (low, high):
                break
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _basis(self, memory: Correction, pace: Correction) -> str:
        words = [_history(memory)]
        if self.rows.learnt is None and self.spec.max_steps is None:
            words.append("time is not known: the rows were not counted")
        else:
            words.append(f"tokens: {self.rows.source}")
        words += self.model.shape.guessed
        if self.spec.method not in _PACKED_METHODS:
            words.append(_FEW_MEASURED.format(self.spec.method))
        if self.spec.method == "distill" and self.model.teacher_parameters is None:
            words.append("the teacher is not known: one as large as the student is meant")
        if pace.alike == 0 and memory.alike:
            words.append("no run like it was timed here yet")
        return "; ".join(words)


def adaptation_of(spec: TrainSpec) -> str:
    """How the weights are trained."""
    return str(getattr(spec, "adaptation", "lora"))


def _item_bytes(spec: TrainSpec, device: str) -> int:
    if spec.dtype == "auto":
        return 2 if device == "cuda" else 4
    return 2 if spec.dtype == "bfloat16" else 4


def _corrected(memory: _Memory) -> Parts:
    """The parts as they add up to the corrected peak."""
    factor = memory.correction.factor
    return {name: size if name == "framework" else round(size * factor) for name, size in memory.parts.items()}


def _fits(memory: _Memory, capacity: int | None) -> str:
    if capacity is None:
        return "unknown"
    if memory.peak(memory.correction.high) <= capacity:
        return "yes"
    return "maybe" if memory.peak(1.0) <= capacity else "no"


def _history(correction: Correction) -> str:
    if correction.alike:
        return f"corrected by {correction.alike} run{'s' if correction.alike > 1 else ''} like it on this box"
    if correction.runs:
        return f"no run like it was measured here yet; corrected a little by {correction.runs} others"
    return "no run like it was measured here yet: the formula alone"
