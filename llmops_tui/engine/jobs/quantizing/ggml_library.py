"""llama.cpp's own quantization kernels, from the shared library of the `xllamacpp` wheel.

`ggml_quantize_chunk` is exported by it and by no Python binding. That is undocumented, so it is proved at each load: one
known block a type is quantized and read back by the `gguf` package's independent code.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np

from llmops_tui.errors import UsageError

# Root mean square error of N(0, 1) values that each type may not exceed, twice what it was measured to have.
_ERROR = {"Q8_0": 0.011, "Q6_K": 0.036, "Q5_K": 0.073, "Q4_K": 0.143, "Q5_0": 0.086, "Q5_1": 0.077}
_ROWS_A_TASK = 64


class GgmlLibrary:
    """Loaded and proved. Raises UsageError where the library cannot be used."""

    def __init__(self, library: Path, threads: int) -> None:
        try:
            loaded = ctypes.CDLL(os.fspath(library))
            self._quantize = loaded.ggml_quantize_chunk
        except (OSError, AttributeError) as error:
            raise UsageError(f"{library} does not offer ggml_quantize_chunk: {error}", _NEXT) from error
        self._quantize.restype = ctypes.c_size_t
        # enum ggml_type, const float *, void *, int64 start, int64 rows, int64 columns, const float *imatrix (ggml.h)
        self._quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
        self._threads = threads
        self._prove(library)

    def quantize(self, values: np.ndarray, quant_type: str) -> np.ndarray:
        """Rows of float32 as the type's bytes: shape (rows, bytes a row). The last axis must be whole blocks."""
        kind = gguf.GGMLQuantizationType[quant_type]
        rows = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, values.shape[-1])
        if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            return np.asarray(gguf.quantize(rows, kind))
        block, size = gguf.GGML_QUANT_SIZES[kind]
        target = np.empty((len(rows), rows.shape[1] // block * size), dtype=np.uint8)

        def part(begin: int) -> None:
            count = min(_ROWS_A_TASK, len(rows) - begin)
            wrote = self._quantize(
                int(kind), rows[begin:].ctypes.data, target[begin:].ctypes.data, 0, count, rows.shape[1], None
            )  # fmt: skip
            if wrote != count * target.shape[1]:
                raise UsageError(f"llama.cpp wrote {wrote} bytes of {quant_type} for {count} rows", _NEXT)

        # ctypes lets the interpreter go during the call, so threads share the work.
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(part, range(0, len(rows), _ROWS_A_TASK)))
        return target

    def _prove(self, library: Path) -> None:
        known = np.random.default_rng(1).standard_normal((2, 512)).astype(np.float32)
        for quant_type, most in _ERROR.items():
            again = gguf.dequantize(self.quantize(known, quant_type), gguf.GGMLQuantizationType[quant_type])
            error = float(np.sqrt(np.mean((again - known) ** 2)))
            if not error <= most:
                raise UsageError(f"{library}: {quant_type} comes back with an error of {error:.3g}, above {most}", _NEXT)


_NEXT = "install the pinned xllamacpp: pip install 'llmops-tui[serve]', or llmops-tui runtimes install llamacpp"
