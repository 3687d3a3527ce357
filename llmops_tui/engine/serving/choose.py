"""Which runtime serves a model, with how many conversations of what length: chosen from what is free, refused where none fits. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from llmops_tui.engine.serving.replica_memory import ModelMemory, most_tokens, replica_memory
from llmops_tui.errors import InsufficientResourcesError, UsageError

# Of what is free, what a replica may plan with: the rest is for what grows beside it.
_ROOM = 0.9
_USUAL_CONTEXT = 8192
_LEAST_CONTEXT = 256
# Requests at a time: llama.cpp divides its context among them, vLLM batches them, `transformers serve` computes one after another
# unless it batches.
_USUAL_SLOTS = {("llamacpp", False): 4, ("llamacpp", True): 8, ("vllm", False): 8, ("vllm", True): 64}
_LIMITED = frozenset({"llamacpp", "vllm"})


@dataclass(frozen=True)
class Size:
    """What one replica gets. `memory_bytes` is predicted, `kv_bytes` the conversations' part."""

    context: int
    slots: int
    memory_bytes: int
    kv_bytes: int


def runtime_for(model_format: str, installed: Collection[str], *, gpu: bool, vllm_can: bool) -> str:
    """The runtime that `auto` means. Nothing has to be installed for it: a wish is refused later, by the name of what is missing."""
    if model_format == "gguf":
        return "llamacpp"
    return "vllm" if gpu and vllm_can and "vllm" in installed else "transformers"


def size_for(
    model: ModelMemory,
    runtime: str,
    *,
    context: int | Literal["auto"],
    slots: int | Literal["auto"],
    own_context: int | None,
    free_bytes: int,
    gpu: bool,
    dtype: str,
    where: str,
) -> Size:
    """Context and slots as asked, or what fits. `own_context` is the model's, `where` names the memory ("this box", "GPU 0").

    Raises UsageError where more is asked than the model was made for, InsufficientResourcesError where it cannot fit.
    """
    if context != "auto" and own_context and context > own_context:
        raise _refused("context", f"the model was made for {own_context} tokens", f"use at most {own_context}")
    room = int(free_bytes * _ROOM)
    count = slots if slots != "auto" else _USUAL_SLOTS.get((runtime, gpu), 1)
    # What the model can hold bounds what a slot is worth; each slot has a context of its own.
    wished = context if context != "auto" else min(own_context or _USUAL_CONTEXT, _USUAL_CONTEXT)

    def needs(tokens: int, number: int) -> int:
        return replica_memory(model, runtime, tokens, number, gpu=gpu, dtype=dtype).total

    if slots == "auto":
        while count > 1 and needs(wished if context != "auto" else min(wished, 2048), count) > room:
            count //= 2
    tokens = wished
    if context == "auto":
        fits = most_tokens(model, runtime, count, room, gpu=gpu, dtype=dtype)
        if tokens > fits >= _LEAST_CONTEXT:
            tokens = 1 << (fits.bit_length() - 1)
    memory = replica_memory(model, runtime, tokens, count, gpu=gpu, dtype=dtype)
    if memory.total > room:
        raise _too_large(model, runtime, tokens, count, memory.total, room, where, gpu=gpu, dtype=dtype)
    return Size(tokens, count, memory.total, memory.kv)


def threads_for(wished: int | Literal["auto"], cores: int) -> int:
    """One core stays free: a busy neighbour of a server that has them all made an answer of 47 ms take 6 s. Raises UsageError."""
    most = max(1, cores - 1)
    if wished == "auto":
        return most
    if wished > cores:
        raise UsageError(
            f"threads: {wished} are more than the {cores} cores of this box", f"use at most {most}", _field("threads", "too many")
        )
    return wished


def _too_large(
    model: ModelMemory, runtime: str, context: int, slots: int, needed: int, room: int, where: str, *, gpu: bool, dtype: str
) -> InsufficientResourcesError:
    fits = most_tokens(model, runtime, slots, room, gpu=gpu, dtype=dtype)
    single = most_tokens(model, runtime, 1, room, gpu=gpu, dtype=dtype)
    if fits >= _LEAST_CONTEXT:
        instead = f"context={fits} fits with {slots} slots"
    elif single >= _LEAST_CONTEXT:
        instead = f"slots=1 with context={single} fits"
    else:
        instead = "a quantized version, or another box: its weights alone do not fit"
    message = f"needs {gib(needed)} for {slots} × {context} tokens, and {where} has {gib(room)} to give"
    return InsufficientResourcesError(message, instead, _field("model", message))


def gib(size: float) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _refused(field: str, message: str, next_step: str) -> UsageError:
    return UsageError(f"{field}: {message}", next_step, _field(field, message))


def _field(field: str, message: str) -> list[dict[str, str]]:
    return [{"field": field, "message": message}]
