"""Why a server died, in words that name the remedy; and whether starting it again could help."""

from __future__ import annotations

import signal

import pytest

from llmops_tui.engine.jobs.serving_backoff import RestartRule, Restarts
from llmops_tui.engine.serving.causes import cause_of

# Real last words: of ld.so, CPython, torch, vLLM 0.6–0.32, llama.cpp b4000–b11500, uvicorn.
_TOLD = [
    (132, "", "the processor lacks an instruction this build needs", True),
    (-signal.SIGILL, "", "AVX-512", True),
    (137, "", "killed, as the kernel does when the memory runs out", False),
    (-9, "loading model\n", "memory runs out", False),
    (127, "x: error while loading shared libraries: libcudart.so.12: cannot open shared object file", "libcudart.so.12 is missing", True),
    (1, "ImportError: libcublas.so.13: cannot open shared object file: No such file or directory", "libcublas.so.13 is missing", True),
    (1, "/lib/libm.so.6: version `GLIBC_2.38' not found (required by libllama.so)", "lacks GLIBC_2.38", True),
    (1, "ModuleNotFoundError: No module named 'fastapi'", "lacks the Python module fastapi", True),
    (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "the GPU's memory ran out", False),
    (1, "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory", "the GPU's memory ran out", False),
    (1, "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "lower context", True),
    (1, "[Errno 98] error while attempting to bind on address ('127.0.0.1', 9001): address already in use", "its port is in use", False),
    (1, "main: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 9001", "its port is in use", False),
    (1, "tensor 'blk.3.ffn_up.weight' data is not within the file bounds, model is corrupted or incomplete", "broken or cut short", True),
    (1, "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata", "broken or cut short", True),
    (1, "error loading model architecture: unknown model architecture: 'mamba9'", "the architecture mamba9", True),
    (1, "CUDA error: no kernel image is available for execution on the device", "no code for this GPU's generation", True),
    (1, "RuntimeError: CUDA driver version is insufficient for CUDA runtime version", "no usable GPU", True),
    (1, "vllm: error: unrecognized arguments: --no-such-thing", "the argument --no-such-thing", True),
    (1, "ValueError: LoRA rank 256 is greater than max_lora_rank 16", "made for another base, or its rank", True),
    (1, "terminate called after throwing an instance of 'std::bad_alloc'", "the host's memory ran out", False),
    (1, "OSError: [Errno 28] No space left on device", "the disk is full", False),
    (-signal.SIGSEGV, "", "segmentation fault", False),
    (3, "ValueError: something of its own", "ValueError: something of its own", False),
    (0, "", "exit code 0", False),
]


@pytest.mark.parametrize(("code", "tail", "words", "lasting"), _TOLD, ids=[words for _, _, words, _ in _TOLD])
def test_a_death_is_told_in_plain_words(code: int, tail: str, words: str, *, lasting: bool) -> None:
    cause = cause_of(code, f"INFO starting\n{tail}\n")
    assert words in cause.words
    assert cause.lasting is lasting


def test_only_a_port_in_use_is_helped_by_another_port() -> None:
    assert cause_of(1, "OSError: [Errno 98] Address already in use").port
    assert not cause_of(1, "CUDA out of memory").port


def test_pauses_double_up_to_the_longest_and_end_with_the_bound() -> None:
    restarts = Restarts(RestartRule(limit=5, window_seconds=600, first_seconds=1, most_seconds=5))
    assert [restarts.after_death(float(second)) for second in range(6)] == [1, 2, 4, 5, 5, None]


def test_a_death_long_ago_does_not_count() -> None:
    restarts = Restarts(RestartRule(limit=1, window_seconds=10, first_seconds=1, most_seconds=5))
    assert restarts.after_death(0) == 1
    assert restarts.after_death(100) == 1
    assert restarts.after_death(101) is None
