"""The box itself: processor, memory and the disk under the state directory. Cheap enough for once a second."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from llmops_tui.specs.answers import HostSample


class HostMonitor:
    """Samples the host. `path` lies on the file system whose free space counts; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cores = len(os.sched_getaffinity(0))
        self._busy, self._total = _cpu_seconds()
        self._cpu: float | None = None

    def sample(self, slots: int, free: int) -> HostSample:
        """One sample; `cpu` is the mean since the last call (the load average stands in when no time has passed).

        `slots` and `free` are the scheduler's CPU slots, all of them and those not held. Raises nothing: a state
        directory that is gone has no free space.
        """
        memory = psutil.virtual_memory()
        disk_free, disk_total = _disk(self._path)
        load = os.getloadavg()[0]
        return {
            "t": time.time(),
            "cpu": self._cpu_fraction(load),
            "cpu_cores": self._cores,
            "load_1m": load,
            "memory_used_bytes": memory.total - memory.available,
            "memory_total_bytes": memory.total,
            "disk_free_bytes": disk_free,
            "disk_total_bytes": disk_total,
            "cpu_slots": slots,
            "cpu_slots_free": free,
        }

    def _cpu_fraction(self, load: float) -> float:
        busy, total = _cpu_seconds()
        # Kernel counters advance in ticks of 10 ms; below a few of them a quotient would be noise.
        if total - self._total >= 0.05:
            self._cpu = min(1.0, max(0.0, (busy - self._busy) / (total - self._total)))
            self._busy, self._total = busy, total
        if self._cpu is None:
            return min(1.0, load / (os.cpu_count() or 1))
        return self._cpu


def _cpu_seconds() -> tuple[float, float]:
    """Busy and total CPU seconds since boot, over all cores; waiting for the disk is idle time."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # guest time is already part of user time (man 5 proc)
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - idle, total


def _disk(path: Path) -> tuple[int, int]:
    for place in (path, *path.parents):
        try:
            usage = os.statvfs(place)
        except OSError:
            continue
        return usage.f_bavail * usage.f_frsize, usage.f_blocks * usage.f_frsize
    return 0, 0
