"""The plan of a replica: what its facts come to on this box, with what is free on it now."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_tui.engine.serving.choose import runtime_for, size_for, threads_for
from llmops_tui.engine.serving.launchers.plan import Adapter, Plan
from llmops_tui.engine.serving.replica_memory import ModelMemory
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.serve import ServeSpec


def fit_replica(
    spec: ServeSpec,
    prepared: Mapping[str, Any],
    gpus: Sequence[GpuSample],
    host_free_bytes: int,
    uses_gpu: Mapping[str, bool],
) -> dict[str, Any]:
    """`prepared` with `serving` (the plan), `estimate` (its memory, which the ledger holds) and `resources` (how many GPUs it is given).

    `uses_gpu` says of each runtime that is there whether its build can use a GPU. Raises UsageError, InsufficientResourcesError.
    """
    facts = prepared["serving_facts"]
    usable = [gpu for gpu in gpus if gpu["health"] != "lost"] if spec.resources.gpus != 0 else []
    runtime: str = spec.runtime
    if runtime == "auto":
        runtime = runtime_for(facts["format"], facts["runtimes"], gpu=bool(usable), vllm_can=uses_gpu.get("vllm", False))
    place = facts["runtimes"].get(runtime)
    if place is None:
        raise UsageError(
            f"runtime: {runtime} is not installed",
            f"llmops-tui runtimes install {runtime}",
            [{"field": "runtime", "message": "not installed"}],
        )
    gpu = bool(usable) and uses_gpu.get(runtime, False)
    wanted = spec.resources.gpus if isinstance(spec.resources.gpus, int) else 1
    if spec.adapters and runtime == "transformers":
        raise UsageError(
            "adapters: `transformers serve` answers for one model", "serve each adapter as a replica with model=ADAPTER, or use vllm",
            [{"field": "adapters", "message": "transformers serves one model"}],
        )  # fmt: skip
    free, where = (_gpu_room(usable, wanted), "the roomiest GPU") if gpu else (host_free_bytes, "this box")
    size = size_for(
        ModelMemory(**facts["memory"]), runtime, context=spec.context, slots=spec.slots, own_context=facts["own_context"], free_bytes=free,
        gpu=gpu, dtype=spec.dtype, where=where,
    )  # fmt: skip
    fraction = spec.memory_fraction
    if fraction is None and free:
        fraction = _share(size.memory_bytes, usable, gpu=gpu, free_bytes=free)
    plan = Plan(
        runtime=runtime, python=place["python"], runtime_version=place["version"], model_path=facts["model_path"], model_name=facts["name"],
        context=size.context, slots=size.slots, threads=threads_for(spec.threads, len(os.sched_getaffinity(0))), host=spec.host,
        port=spec.port if isinstance(spec.port, int) else 0, format=facts["format"], base_path=facts["base_path"], gpu=gpu,
        dtype=spec.dtype, memory_bytes=size.memory_bytes, kv_bytes=size.kv_bytes, memory_fraction=fraction,
        chat_template=facts["chat_template"], has_template=facts["has_template"], arguments=list(spec.arguments),
        adapters=[Adapter(one["name"], one["path"], one.get("rank", 0)) for one in facts["adapters"]],
        served_as=":".join(part for part in (spec.endpoint, spec.version) if part), adapter_room=spec.adapter_room,
        sleep_mode=spec.sleep_mode,
    )  # fmt: skip
    warnings = list(prepared.get("warnings") or [])
    if usable and not gpu:
        warnings.append(f"this box has a GPU, and this build of {runtime} cannot use it: it will answer from the CPU, slowly")
    if runtime != "vllm" and (idle := [name for name in ("adapter_room", "sleep_mode") if getattr(spec, name)]):
        warnings.append(f"{' and '.join(idle)}: only vllm heeds {'them' if len(idle) > 1 else 'it'}, and this will be {runtime}")
    return {
        **prepared,
        "warnings": warnings,
        "serving": plan.to_json(),
        "estimate": {"memory_bytes": size.memory_bytes, "memory_high": size.memory_bytes, "device": "cuda" if gpu else "cpu"},
        "resources": {"gpus": wanted if gpu else 0},
    }


def _gpu_room(gpus: Sequence[GpuSample], count: int) -> int:
    """What the GPU with the least room has free, of the `count` roomiest; times their number, as the weights are split among them."""
    rooms = sorted(((gpu["memory_total_bytes"] or 0) - (gpu["memory_used_bytes"] or 0) for gpu in gpus), reverse=True)[: max(1, count)]
    return min(rooms) * len(rooms) if rooms else 0


def _share(memory_bytes: int, gpus: Sequence[GpuSample], *, gpu: bool, free_bytes: int) -> float:
    """Of a whole GPU (vLLM counts so), or of the free memory."""
    whole = max(((one["memory_total_bytes"] or 0) for one in gpus), default=0) if gpu else free_bytes
    return round(min(0.95, max(0.02, memory_bytes / whole)), 3) if whole else 0.5
