"""What a replica is given of the box: context, slots, threads, memory, GPU; refused before it starts where it cannot fit."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tui.engine.serving.choose import runtime_for, size_for, threads_for
from llmops_tui.engine.serving.fitting import fit_replica
from llmops_tui.engine.serving.replica_memory import ModelMemory, most_tokens, replica_memory
from llmops_tui.errors import InsufficientResourcesError, UsageError
from llmops_tui.specs.serve import ServeSpec

GIB = 1 << 30
# A Llama of 8 billion parameters in 4 bits: 128 KiB of keys and values a token.
EIGHT_B = ModelMemory(5 * GIB, 8_030_000_000, 131_072, 4096, 128_256)


def size(**given: Any) -> Any:
    values: dict[str, Any] = {
        "context": "auto", "slots": "auto", "own_context": 131_072, "free_bytes": 24 * GIB, "gpu": False,
        "dtype": "auto", "where": "this box",
    }  # fmt: skip
    return size_for(EIGHT_B, given.pop("runtime", "llamacpp"), **{**values, **given})


def test_what_is_left_open_is_chosen_to_fit() -> None:
    chosen = size()
    assert (chosen.context, chosen.slots) == (8192, 4)
    assert chosen.memory_bytes < 24 * GIB * 0.9
    assert chosen.kv_bytes == 4 * 8192 * 131_072
    less = size(free_bytes=8 * GIB)
    assert less.context * less.slots < chosen.context * chosen.slots
    assert less.memory_bytes < 8 * GIB * 0.9


def test_what_was_asked_for_and_cannot_fit_is_refused_with_what_would() -> None:
    with pytest.raises(InsufficientResourcesError, match=r"needs .* for 8 × 32768 tokens, and this box has 21.6 GiB") as refused:
        size(context=32_768, slots=8)
    fits = int(refused.value.next_step.split("context=")[1].split()[0])
    assert size(context=fits, slots=8).memory_bytes <= 24 * GIB * 0.9
    with pytest.raises(InsufficientResourcesError, match="its weights alone do not fit"):
        size(free_bytes=4 * GIB)


def test_more_than_the_model_was_made_for_is_refused() -> None:
    with pytest.raises(UsageError, match="context: the model was made for 2048 tokens"):
        size(context=4096, own_context=2048)


def test_the_longest_context_that_fits_is_found_to_the_token() -> None:
    free = 12 * GIB
    most = most_tokens(EIGHT_B, "llamacpp", 2, free, gpu=True)
    assert replica_memory(EIGHT_B, "llamacpp", most, 2, gpu=True).total <= free
    assert replica_memory(EIGHT_B, "llamacpp", most + 1, 2, gpu=True).total > free


def test_transformers_on_a_cpu_is_counted_in_float32() -> None:
    half, whole = (replica_memory(EIGHT_B, "transformers", 1024, 1, gpu=gpu).weights for gpu in (True, False))
    assert whole == 4 * EIGHT_B.parameters  # type: ignore[operator]
    assert half == EIGHT_B.weights_bytes


def test_one_core_stays_free_and_more_than_there_are_is_refused() -> None:
    assert [threads_for("auto", cores) for cores in (1, 2, 16)] == [1, 1, 15]
    assert threads_for(2, 2) == 2
    with pytest.raises(UsageError, match="threads: 9 are more than the 8 cores"):
        threads_for(9, 8)


def test_auto_means_the_engine_that_serves_the_format_and_can_use_what_is_there() -> None:
    assert runtime_for("gguf", {"vllm"}, gpu=True, vllm_can=True) == "llamacpp"
    assert runtime_for("full", {"vllm", "transformers"}, gpu=True, vllm_can=True) == "vllm"
    assert runtime_for("full", {"vllm", "transformers"}, gpu=True, vllm_can=False) == "transformers"
    assert runtime_for("full", {"transformers"}, gpu=True, vllm_can=True) == "transformers"


def facts(**more: Any) -> dict[str, Any]:
    return {
        "serving_facts": {
            "format": "gguf", "model_path": "/m/x.gguf", "base_path": "", "name": "x", "own_context": 4096, "memory": EIGHT_B.to_json(),
            "runtimes": {"llamacpp": {"python": "/env/bin/python", "version": "1"}}, "adapters": [], "chat_template": "",
            "has_template": True, **more,
        }
    }  # fmt: skip


def gpu(index: int, free: int) -> Any:
    return {"uuid": f"GPU-{index}", "health": "ok", "memory_total_bytes": 24 * GIB, "memory_used_bytes": 24 * GIB - free}


def test_a_build_that_cannot_use_the_gpu_is_said_loudly_and_serves_from_the_cpu() -> None:
    fitted = fit_replica(ServeSpec(model="x"), facts(), [gpu(0, 24 * GIB)], 32 * GIB, {"llamacpp": False})
    assert "this box has a GPU, and this build of llamacpp cannot use it" in fitted["warnings"][0]
    assert (fitted["serving"]["gpu"], fitted["resources"]) == (False, {"gpus": 0})


def test_on_a_gpu_the_roomiest_counts_and_its_memory_is_held() -> None:
    fitted = fit_replica(ServeSpec(model="x"), facts(), [gpu(0, GIB), gpu(1, 20 * GIB)], 32 * GIB, {"llamacpp": True})
    assert (fitted["serving"]["gpu"], fitted["resources"], fitted["estimate"]["device"]) == (True, {"gpus": 1}, "cuda")
    assert fitted["estimate"]["memory_high"] == fitted["serving"]["memory_bytes"] <= 18 * GIB
    with pytest.raises(InsufficientResourcesError, match="the roomiest GPU has"):
        fit_replica(ServeSpec(model="x"), facts(), [gpu(0, GIB), gpu(1, 2 * GIB)], 32 * GIB, {"llamacpp": True})


def test_no_gpu_may_be_asked_for_on_a_box_that_has_one() -> None:
    spec = ServeSpec.model_validate({"model": "x", "resources": {"gpus": 0}})
    fitted = fit_replica(spec, facts(), [gpu(0, 24 * GIB)], 32 * GIB, {"llamacpp": True})
    assert (fitted["serving"]["gpu"], fitted["warnings"]) == (False, [])


def test_a_runtime_that_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(UsageError, match="runtime: vllm is not installed; llmops-tui runtimes install vllm"):
        fit_replica(ServeSpec(model="x", runtime="vllm"), facts(format="full"), [], 32 * GIB, {})


def test_a_server_of_an_endpoint_is_named_after_its_version_and_one_of_nobody_after_its_model() -> None:
    of_one = fit_replica(ServeSpec(model="x", endpoint="support", version="v3"), facts(), [], 32 * GIB, {})["serving"]
    assert (of_one["served_as"], of_one["model_name"]) == ("support:v3", "x")
    assert fit_replica(ServeSpec(model="x"), facts(), [], 32 * GIB, {})["serving"]["served_as"] == ""


def test_what_only_vllm_heeds_is_said_where_another_will_serve() -> None:
    spec = ServeSpec(model="x", adapter_room=2, sleep_mode=True)
    fitted = fit_replica(spec, facts(), [], 32 * GIB, {})
    assert fitted["warnings"] == ["adapter_room and sleep_mode: only vllm heeds them, and this will be llamacpp"]
    there = {"vllm": {"python": "/env/bin/python", "version": "1"}}
    heeded = fit_replica(spec, facts(format="full", runtimes=there), [gpu(0, 20 * GIB)], 32 * GIB, {"vllm": True})
    assert (heeded["serving"]["adapter_room"], heeded["serving"]["sleep_mode"], heeded["warnings"]) == (2, True, [])
