"""What a driver must be able to tell: the protocol between the monitor and NVML, AMD's sysfs, or a test.

Every reading may be missing (None). Only two things are errors: a driver that is not there or does not start, and a GPU
that is gone or answers with errors only. Calls may hang; the monitor makes them in a thread of the GPU's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class DriverMissingError(Exception):
    """No such driver on this box: not worth a warning."""


class DriverFailedError(Exception):
    """The driver is installed and does not work; the message says how."""


class GpuLostError(Exception):
    """The driver says that the GPU no longer answers on its bus; the message says so for a person."""


class GpuFaultError(Exception):
    """The GPU is there and answers with errors only; the message says which."""


@dataclass(frozen=True)
class FastReading:
    """Read at every tick. `processes` are (pid, bytes held or None); `all_processes`: nobody else can hold memory of this GPU.

    `energy_joules` counts from the driver's load on. It is read this often because a run's energy is the difference between
    two readings, and a run may be short.
    """

    utilisation: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    temperature_celsius: float | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_reasons: list[str] = field(default_factory=list)
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    all_processes: bool = False
    energy_joules: float | None = None


@dataclass(frozen=True)
class SlowReading:
    """Read every ten seconds: these calls block for tens of milliseconds, or change slowly."""

    pcie_rx_bytes_per_second: float | None = None
    pcie_tx_bytes_per_second: float | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    ecc_uncorrected: int | None = None


class Device(Protocol):
    """One GPU. Both readings raise GpuLostError when the GPU is gone, GpuFaultError when it only tells errors."""

    @property
    def index(self) -> int: ...
    @property
    def uuid(self) -> str: ...
    @property
    def name(self) -> str: ...
    def read_fast(self) -> FastReading: ...
    def read_slow(self) -> SlowReading: ...


class Probe(Protocol):
    """A driver."""

    def open(self) -> Sequence[Device]:
        """Start the driver and list its GPUs. Raises DriverMissingError or DriverFailedError."""

    def versions(self) -> dict[str, str]:
        """Versions of the driver and what comes with it, for the capsule; after `open`."""

    def close(self) -> None:
        """Let the driver go. Never called while a reading hangs."""

    def wait_for_xid(self, seconds: float) -> tuple[int, int] | None:
        """Block for at most so long and return (GPU index, Xid), or None; raises DriverMissingError if there are no events."""
