"""How much memory a job's work took: what the estimator's predictions are held against. Standard library, and torch only if it is there."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TypedDict

_STATUS = Path("/proc/self/status")


class MemoryFacts(TypedDict, total=False):
    """Bytes. `rss_growth_bytes`: the peak less what the process held right after its imports; `gpu_peak_bytes` on a GPU alone."""

    peak_rss_bytes: int
    rss_growth_bytes: int
    gpu_peak_bytes: int


class MemoryUse:
    """Begin it once the libraries are imported: what is there by then is no part of the work."""

    def __init__(self) -> None:
        self._begun_at = _status_bytes("VmRSS")

    def facts(self) -> MemoryFacts:
        """The peaks so far."""
        # Not ru_maxrss: a process starts with that of the one it was forked from.
        peak = _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        facts = MemoryFacts(peak_rss_bytes=peak, rss_growth_bytes=max(0, peak - self._begun_at))
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            # Allocated: the same for the same work; what the allocator keeps beyond it depends on what was freed when.
            facts["gpu_peak_bytes"] = int(torch.cuda.max_memory_allocated())
        return facts


def _status_bytes(name: str) -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:  # no /proc
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
