"""NVIDIA GPUs through NVML (nvidia-ml-py). Imported only by the probe's thread, and pynvml only where the library is.

Any call may say NotSupported, whichever card it is: the reading is then missing. "Lost" ends a reading, and so do real
errors where not even memory and use are told: no run is to be placed on such a card.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

from llmops_tui.engine.gpu_probe import DriverFailedError, DriverMissingError, FastReading, GpuFaultError, GpuLostError, SlowReading

_LIBRARY = "libnvidia-ml.so.1"
# nvml.h, nvmlClocksEventReason*: bit → name. Idle (bit 0) is no throttling.
_THROTTLES = {
    0x002: "applications_clocks",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
T = TypeVar("T")


class NvmlProbe:
    """The driver as a whole."""

    def __init__(self) -> None:
        self._nvml: ModuleType | None = None
        self._event_set: Any = None
        self._indices: dict[int, int] = {}

    def open(self) -> Sequence[NvmlDevice]:
        """Load the library, start it and take a handle of each GPU. A GPU that is already lost is listed as lost."""
        try:
            ctypes.CDLL(_LIBRARY)
        except OSError as error:
            if "cannot open shared object file: No such file" in str(error):
                raise DriverMissingError(f"{_LIBRARY} is not installed") from None
            raise DriverFailedError(f"{_LIBRARY} is installed and does not load: {error}") from None
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise DriverFailedError(f"the NVIDIA driver does not start: {str(error).rstrip('.')}; nvidia-smi says more") from None
        devices = [NvmlDevice(pynvml, index) for index in range(count)]
        self._register_events(devices)
        return devices

    def versions(self) -> dict[str, str]:
        """Driver version and the newest CUDA it can run."""
        nvml = self._nvml
        found: dict[str, str] = {}
        if nvml is None:
            return found
        try:
            found["nvidia"] = nvml.nvmlSystemGetDriverVersion()
            cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
        except nvml.NVMLError:
            return found
        return found | {"cuda": f"{cuda // 1000}.{cuda % 1000 // 10}"}

    def close(self) -> None:
        """Free the event set and shut NVML down."""
        nvml = self._nvml
        if nvml is None:
            return
        self._nvml = None
        try:
            if self._event_set is not None:
                nvml.nvmlEventSetFree(self._event_set)
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            return  # it ends with the process anyway

    def wait_for_xid(self, seconds: float) -> tuple[int, int] | None:
        """Block for at most so long and return (GPU index, Xid)."""
        nvml = self._nvml
        if nvml is None or self._event_set is None:
            raise DriverMissingError("this driver tells no events")
        try:
            event = nvml.nvmlEventSetWait(self._event_set, int(seconds * 1000))
        except nvml.NVMLError_Timeout:
            return None
        if not event.eventType & nvml.nvmlEventTypeXidCriticalError:
            return None
        address = ctypes.cast(event.device, ctypes.c_void_p).value or 0
        index = self._indices.get(address)
        return None if index is None else (index, int(event.eventData))

    def _register_events(self, devices: Sequence[NvmlDevice]) -> None:
        nvml = self._nvml
        assert nvml is not None
        try:
            event_set = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return
        for device in devices:
            if device.handle is None:
                continue
            try:
                if not nvml.nvmlDeviceGetSupportedEventTypes(device.handle) & nvml.nvmlEventTypeXidCriticalError:
                    continue
                nvml.nvmlDeviceRegisterEvents(device.handle, nvml.nvmlEventTypeXidCriticalError, event_set)
            except nvml.NVMLError:
                continue
            self._indices[ctypes.cast(device.handle, ctypes.c_void_p).value or 0] = device.index
        if self._indices:
            self._event_set = event_set
        else:
            nvml.nvmlEventSetFree(event_set)


class NvmlDevice:
    """One GPU behind its handle; `handle` is None for one that was lost before we came."""

    def __init__(self, nvml: ModuleType, index: int) -> None:
        self._nvml = nvml
        self.index = index
        self.handle: Any = None
        # "this card, this driver or this user has no such reading", in the words of drivers old and new
        self._missing = {
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_NO_PERMISSION,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_INVALID_ARGUMENT,
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            nvml.NVML_ERROR_NOT_FOUND,
            nvml.NVML_ERROR_NO_DATA,
            nvml.NVML_ERROR_DEPRECATED,
        }
        self._fault = ""
        self.uuid, self.name, self._lost = f"GPU-unknown-{index}", "NVIDIA GPU", ""
        try:
            self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
            self.uuid = nvml.nvmlDeviceGetUUID(self.handle)
            self.name = nvml.nvmlDeviceGetName(self.handle)
        except nvml.NVMLError as error:
            self.handle, self._lost = None, f"the driver gives no handle: {error}"

    def read_fast(self) -> FastReading:
        """What is shown every second. Raises GpuLostError and GpuFaultError."""
        nvml = self._nvml
        if self.handle is None:
            raise GpuLostError(self._lost)
        self._fault = ""
        utilisation = self._ask(nvml.nvmlDeviceGetUtilizationRates)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, nvml.nvmlMemory_v2) or self._ask(nvml.nvmlDeviceGetMemoryInfo)
        if utilisation is None and memory is None and self._fault:
            raise GpuFaultError(f"the driver answers: {self._fault}; nvidia-smi and dmesg say more")
        power = self._ask(nvml.nvmlDeviceGetPowerUsage)
        limit = self._ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
        temperature = self._ask(nvml.nvmlDeviceGetTemperatureV, nvml.NVML_TEMPERATURE_GPU)
        if temperature is None:  # drivers before 560
            temperature = self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksEventReasons)
        if reasons is None:  # drivers before 535
            reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        energy = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
        processes, complete = self._processes()
        return FastReading(
            utilisation=None if utilisation is None else utilisation.gpu / 100,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            power_watts=None if power is None else power / 1000,
            power_limit_watts=None if limit is None else limit / 1000,
            temperature_celsius=None if temperature is None else float(temperature),
            sm_clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            throttle_reasons=throttle_names(reasons or 0),
            processes=processes,
            all_processes=complete,
            energy_joules=None if energy is None else energy / 1000,
        )

    def read_slow(self) -> SlowReading:
        """What blocks (PCIe counters are measured over 20 ms each) or hardly changes. Raises GpuLostError."""
        nvml = self._nvml
        received = self._ask(nvml.nvmlDeviceGetPcieThroughput, nvml.NVML_PCIE_UTIL_RX_BYTES)
        sent = self._ask(nvml.nvmlDeviceGetPcieThroughput, nvml.NVML_PCIE_UTIL_TX_BYTES)
        return SlowReading(
            pcie_rx_bytes_per_second=None if received is None else received * 1024.0,  # NVML gives KB/s
            pcie_tx_bytes_per_second=None if sent is None else sent * 1024.0,
            pcie_generation=self._ask(nvml.nvmlDeviceGetCurrPcieLinkGeneration),
            pcie_width=self._ask(nvml.nvmlDeviceGetCurrPcieLinkWidth),
            ecc_uncorrected=self._ask(nvml.nvmlDeviceGetTotalEccErrors, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC),
        )

    def _processes(self) -> tuple[list[tuple[int, int | None]], bool]:
        """Compute and graphics processes, and whether these are all; one that does both is listed in both, with the same memory."""
        nvml = self._nvml
        found: dict[int, int | None] = {}
        complete = True
        for current, older in (
            (nvml.nvmlDeviceGetComputeRunningProcesses_v3, nvml.nvmlDeviceGetComputeRunningProcesses_v2),
            (nvml.nvmlDeviceGetGraphicsRunningProcesses_v3, nvml.nvmlDeviceGetGraphicsRunningProcesses_v2),
        ):
            listed = self._ask(current)
            if listed is None:
                listed = self._ask(older)
            complete = complete and listed is not None
            for process in listed or []:
                found[process.pid] = max(found.get(process.pid) or 0, process.usedGpuMemory or 0) or None
        return sorted(found.items()), complete

    def _ask(self, call: Callable[..., T], *arguments: Any) -> T | None:
        """One NVML call: its value, or None where this card, driver or user may not have it."""
        nvml = self._nvml
        try:
            return call(self.handle, *arguments)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_UNINITIALIZED):
                raise GpuLostError(f"{str(error).rstrip('.')}; a reset or a reboot brings it back") from None
            if error.value not in self._missing:
                self._fault = str(error).rstrip(".")
            return None


def throttle_names(mask: int) -> list[str]:
    """The names of the reasons in NVML's bit mask; idle is none."""
    return [name for bit, name in _THROTTLES.items() if mask & bit]
