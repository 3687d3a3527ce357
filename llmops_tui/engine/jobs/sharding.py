"""A model cut over the ranks: torch's `fully_shard` (FSDP2), as accelerate's plugin applies it to a transformers trainer.

Each rank holds a part of every weight, and with it of the gradient and the optimizer's state (Zhao et al. 2023, arXiv:2304.11277).
A layer's weights are whole on a rank while the layer runs, and no longer: so whatever reads weights must run as the forward of
the module that they belong to (`as_forward_of`), and on all ranks alike, for each such moment is a collective call. It must not be
in inference mode either: the buffers that weights meet in are kept, and one that was made there serves no training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, fsdp2_prepare_model
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

Result = TypeVar("Result")

# For any config derived from transformers' TrainingArguments.
ARGUMENTS: dict[str, Any] = {
    "fsdp": True,
    # In a checkpoint each rank writes its part: nobody ever has to hold the whole with its optimizer's state.
    "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT", "reshard_after_forward": True},
    # Gradients are cut after each pass; kept whole until the last pass of an update they would take what was saved.
    "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
}


def enter_on_cpu(accelerator: Any, plugin_arguments: dict[str, Any]) -> bool:
    """Make accelerate do on CPU ranks what it does on GPUs alone; whether that was needed.

    `AcceleratorState` takes up an FSDP plugin for accelerators only and trains silently with DDP otherwise, though `fully_shard`
    and all that accelerate calls from there on work over gloo as well.
    """
    state = accelerator.state
    if state.distributed_type != DistributedType.MULTI_CPU:
        return False
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**plugin_arguments)
    state.distributed_type = DistributedType.FSDP
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    return True


def shard(accelerator: Any, model: torch.nn.Module) -> None:
    """Cut the model in place, layer by layer: each goes whole to the rank's device only to be cut. Once, before its optimizer is made."""
    fsdp2_prepare_model(accelerator, model)
    accelerator._prepare_fsdp2 = partial(_prepare_cut, accelerator)


def describe(model: torch.nn.Module) -> str:
    """How much of the model lies here, for the log."""
    parts = [parameter.to_local() if isinstance(parameter, DTensor) else parameter for parameter in model.parameters()]
    here, whole = (sum(each.numel() for each in found) for found in (parts, model.parameters()))
    return f"weights cut over {PartialState().num_processes} processes: {here / 1e6:.2f}M of {whole / 1e6:.2f}M parameters lie here"


def _prepare_cut(accelerator: Any, *objects: Any) -> tuple[Any, ...]:
    """Of a model that is cut and an optimizer made of its parts nothing is to be exchanged.

    accelerate would exchange the optimizer's parameters, telling them apart by where they lie in memory: parts without an element,
    which small weights have on the last ranks, all lie nowhere.
    """
    accelerator._models += [each for each in objects if isinstance(each, torch.nn.Module) and each not in accelerator._models]
    return tuple(each if isinstance(each, torch.nn.Module) else accelerator._prepare_one(each, first_pass=True) for each in objects)


def as_forward_of(module: torch.nn.Module, function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)` as if it were the forward of `module`, whose own weights are whole meanwhile.

    Within, the forward of every module below may run, and that of `module` too. Of a module that is not cut it is a plain call.
    """
    if not isinstance(module, FSDPModule):
        return function(*arguments)
    original = module.forward

    def once(*given: Any) -> Result:
        module.forward = original
        return function(*given)

    module.forward = once
    try:
        result: Result = module(*arguments)
    finally:
        module.forward = original
    return result


def apart_again(model: torch.nn.Module) -> None:
    """Let go of what a forward without a backward leaves whole: the outermost weights, which a backward would need at once."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gather(model: torch.nn.Module, *, trained_alone: bool) -> dict[str, torch.Tensor]:
    """A collective call: the whole weights in the first rank's host memory; nothing in the others'. `trained_alone`: without the frozen."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_alone)
    state: dict[str, torch.Tensor] = get_model_state_dict(model, options=options)
    for name in getattr(model, "all_tied_weights_keys", ()):
        state.pop(name, None)  # gathered twice, under the name it shares weights by too
    return state
