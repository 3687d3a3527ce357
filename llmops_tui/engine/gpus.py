"""The GPUs of the box, sampled once a second, whatever their driver does.

Each GPU has a thread of its own, because a driver call can hang for ever and cannot be interrupted: a hanging call costs
that GPU its readings (health "stalled", the last ones stay on show) and nothing else. `snapshot` and `drain_events` only
look at what the threads left behind and never wait for a driver.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmops_tui.engine.gpu_probe import Device, DriverFailedError, DriverMissingError, FastReading, GpuLostError, Probe, SlowReading
from llmops_tui.engine.gpu_processes import ProcessDirectory
from llmops_tui.engine.gpu_xid import XID_MEANING
from llmops_tui.specs.answers import GpuProcess, GpuSample
from llmops_tui.specs.settings import Settings

SLOW_SECONDS = 10.0
# A power cap or the user's own clock setting is daily life; these cost speed or tell of a fault.
SERIOUS_THROTTLES = frozenset({"sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake", "hw_slowdown", "reliability"})
_REPEAT_THROTTLE_SECONDS = 300.0
_RETRY_DRIVER_SECONDS = 60.0
_XID_WAIT_SECONDS = 1.0
_KEPT_XIDS = 16
log = logging.getLogger(__name__)


class GpuMonitor:
    """Watches all GPUs. `start()` returns at once; wait for `ready` before deciding that the box has none.

    `runs_of_pid` names the run a process belongs to, or None; it is called from the GPU threads and must not block.
    `home` is the state directory whose jobs are ours. `probes` replaces the drivers (tests).
    """

    def __init__(
        self,
        settings: Settings,
        runs_of_pid: Callable[[int], str | None],
        *,
        home: Path | None = None,
        probes: Sequence[Callable[[], Probe]] | None = None,
    ) -> None:
        self._settings = settings
        self._runs_of_pid = runs_of_pid
        self._home = home
        self._probes = probes if probes is not None else _drivers(settings.gpus.probe)
        self._stop = threading.Event()
        self._discovered = threading.Event()
        self._lock = threading.Lock()
        self._gpus: list[_WatchedGpu] = []
        self._events: deque[dict[str, Any]] = deque(maxlen=1000)
        self._warnings: dict[str, str] = {}
        self._opening_since = 0.0
        self._versions: dict[str, str] = {}

    @property
    def ready(self) -> bool:
        """Whether the drivers have been asked and every GPU has been read once (or is too slow to wait for)."""
        if self._discovered.is_set():
            return all(gpu.answered_or_stalled() for gpu in self._gpus)
        return self._opening_stalled()

    @property
    def warnings(self) -> list[str]:
        """What is wrong with a driver that is installed, for `doctor` and the status line."""
        with self._lock:
            found = list(self._warnings.values())
        if not self._discovered.is_set() and self._opening_stalled():
            found.append(f"the GPU driver has not answered for {self._settings.gpus.call_timeout_seconds:g} s at start; see dmesg")
        return found

    @property
    def driver(self) -> dict[str, str]:
        """Versions of the driver, for the capsule; empty until it was opened, or without GPUs."""
        return dict(self._versions)

    def start(self) -> None:
        """Begin to sample in daemon threads."""
        self._opening_since = time.monotonic()
        threading.Thread(target=self._discover, name="gpus", daemon=True).start()

    def stop(self) -> None:
        """Tell the threads to end; does not wait for one that hangs in its driver."""
        self._stop.set()

    def wait_ready(self, seconds: float) -> bool:
        """Wait until `ready`, at most so long. Blocks: not for the event loop."""
        deadline = time.monotonic() + seconds
        while not self.ready and time.monotonic() < deadline:
            self._stop.wait(0.02)
        return self.ready

    def snapshot(self) -> list[GpuSample]:
        """The newest sample of every GPU, by index; never blocks. `held_by` is empty: the scheduler knows it."""
        self._notice_stalls()
        return [gpu.sample() for gpu in self._gpus]

    def drain_events(self) -> list[dict[str, Any]]:
        """What happened since the last call: gpu.xid, gpu.lost, gpu.stalled, gpu.back, gpu.throttled, with gpu and uuid."""
        self._notice_stalls()
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def _opening_stalled(self) -> bool:
        return self._opening_since > 0 and time.monotonic() - self._opening_since > self._settings.gpus.call_timeout_seconds

    def _discover(self) -> None:
        """Open the first driver that has GPUs; ask again later while an installed one fails."""
        while not self._stop.is_set():
            for make in self._probes:
                name = make.__name__
                try:
                    probe = make()
                    devices = probe.open()
                except DriverMissingError as error:
                    if self._settings.gpus.probe != "auto":
                        self._warn(name, f"{error}, though gpus.probe in the settings asks for it")
                except DriverFailedError as error:
                    self._warn(name, str(error))
                except Exception as error:  # a probe of ours that breaks must not take the monitor with it
                    log.exception("GPU probe failed")
                    self._warn(name, f"asking for GPUs failed: {error}")
                else:
                    with self._lock:
                        self._warnings.pop(name, None)
                    if devices:
                        self._watch(probe, devices)
                        return
            self._discovered.set()
            if not self._warnings:
                return
            self._stop.wait(_RETRY_DRIVER_SECONDS)

    def _warn(self, probe: str, text: str) -> None:
        with self._lock:
            if self._warnings.get(probe) != text:
                log.warning(text)
            self._warnings[probe] = text

    def _watch(self, probe: Probe, devices: Sequence[Device]) -> None:
        self._versions = probe.versions()
        self._gpus = [
            _WatchedGpu(device, self._settings, ProcessDirectory(self._runs_of_pid, self._home), self._events.append)
            for device in sorted(devices, key=lambda device: device.index)
        ]
        self._discovered.set()
        for gpu in self._gpus:
            name = f"gpu-{gpu.device.index}"
            threading.Thread(target=gpu.run, args=(self._stop,), name=name, daemon=True).start()
        self._collect_xids(probe)

    def _collect_xids(self, probe: Probe) -> None:
        """Wait for Xid events until the end; this is what the discovering thread does for the rest of its life."""
        by_index = {gpu.device.index: gpu for gpu in self._gpus}
        while not self._stop.is_set():
            try:
                event = probe.wait_for_xid(_XID_WAIT_SECONDS)
            except DriverMissingError:
                return
            except Exception:
                log.exception("waiting for GPU events failed")
                self._stop.wait(SLOW_SECONDS)
                continue
            if event and (gpu := by_index.get(event[0])):
                gpu.note_xid(event[1])
        if not any(gpu.is_stalled() for gpu in self._gpus):
            probe.close()

    def _notice_stalls(self) -> None:
        for gpu in self._gpus:
            gpu.notice_stall()


class _WatchedGpu:
    """One GPU with its thread, its newest sample and its health."""

    def __init__(self, device: Device, settings: Settings, processes: ProcessDirectory, tell: Callable[[dict[str, Any]], None]) -> None:
        self.device = device
        self._period = settings.engine.sample_seconds
        self._patience = settings.gpus.call_timeout_seconds
        self._processes = processes
        self._tell = tell
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._answered = False
        self._fast = FastReading()
        self._slow = SlowReading()
        self._rows: list[GpuProcess] = []
        self._health = "error"
        self._reason = "not read yet"
        self._xids: deque[int] = deque(maxlen=_KEPT_XIDS)
        self._throttles_told: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Read until told to stop. A reading that hangs hangs here, and only here."""
        slow_due = 0.0
        while not stop.is_set():
            began = time.monotonic()
            with self._lock:
                self._asked_at = began
            try:
                fast = self.device.read_fast()
                slow = self._slow
                if began >= slow_due:
                    slow = self.device.read_slow()
                    slow_due = began + SLOW_SECONDS
            except GpuLostError as error:
                self._settle("lost", str(error))
            except Exception as error:
                if self._health != "error":
                    log.exception("reading GPU %d failed", self.device.index)
                self._settle("error", f"{type(error).__name__}: {error}")
            else:
                self._settle("ok", "", fast, slow, self._processes.describe(fast.processes))
            stop.wait(max(0.05, self._period - (time.monotonic() - began)))

    def answered_or_stalled(self) -> bool:
        with self._lock:
            return self._answered or self._health == "stalled" or self._overdue()

    def is_stalled(self) -> bool:
        with self._lock:
            return self._overdue()

    def notice_stall(self) -> None:
        """Called by whoever looks: the GPU's own thread cannot say that it hangs."""
        with self._lock:
            if self._health == "stalled" or not self._overdue():
                return
            self._health = "stalled"
            self._reason = f"the driver has not answered for {self._patience:g} s; the readings shown are the last ones"
            self._event("gpu.stalled", reason=self._reason)

    def note_xid(self, xid: int) -> None:
        with self._lock:
            self._xids.append(xid)
            self._event("gpu.xid", xid=xid, meaning=XID_MEANING.get(xid, "see NVIDIA's table of Xid errors"))

    def sample(self) -> GpuSample:
        with self._lock:
            fast, slow = self._fast, self._slow
            return {
                "index": self.device.index,
                "uuid": self.device.uuid,
                "name": self.device.name,
                "health": self._health,
                "reason": self._reason,
                "utilisation": fast.utilisation,
                "memory_used_bytes": fast.memory_used_bytes,
                "memory_total_bytes": fast.memory_total_bytes,
                "power_watts": fast.power_watts,
                "power_limit_watts": fast.power_limit_watts,
                "temperature_celsius": fast.temperature_celsius,
                "sm_clock_mhz": fast.sm_clock_mhz,
                "memory_clock_mhz": fast.memory_clock_mhz,
                "throttle_reasons": list(fast.throttle_reasons),
                "pcie_rx_bytes_per_second": slow.pcie_rx_bytes_per_second,
                "pcie_tx_bytes_per_second": slow.pcie_tx_bytes_per_second,
                "pcie_generation": slow.pcie_generation,
                "pcie_width": slow.pcie_width,
                "ecc_uncorrected": slow.ecc_uncorrected,
                "energy_joules": slow.energy_joules,
                "xid": list(self._xids),
                "processes": [row.copy() for row in self._rows],
                "held_by": [],
            }

    def _overdue(self) -> bool:
        return self._asked_at is not None and time.monotonic() - self._asked_at > self._patience

    def _settle(
        self,
        health: str,
        reason: str,
        fast: FastReading | None = None,
        slow: SlowReading | None = None,
        rows: list[GpuProcess] | None = None,
    ) -> None:
        """Take over an answer and tell what changed. A lost GPU keeps its last memory size and shows no activity."""
        with self._lock:
            before, self._health, self._reason = self._health, health, reason
            first, self._answered, self._asked_at = not self._answered, True, None
            if fast is None:
                self._fast, self._rows = FastReading(memory_total_bytes=self._fast.memory_total_bytes), []
            else:
                self._fast, self._slow, self._rows = fast, slow or self._slow, rows or []
                self._tell_throttling(fast.throttle_reasons)
            if health == "lost" and before != "lost":
                self._event("gpu.lost", reason=reason)
            if health == "ok" and before != "ok" and not first:
                self._event("gpu.back", reason=f"answers again, was {before}")

    def _tell_throttling(self, reasons: list[str]) -> None:
        """Once for a reason in five minutes: a GPU at its limit throttles every other second."""
        now = time.monotonic()
        new = [
            reason
            for reason in reasons
            if reason in SERIOUS_THROTTLES and now - self._throttles_told.get(reason, -_REPEAT_THROTTLE_SECONDS) >= _REPEAT_THROTTLE_SECONDS
        ]
        if new:
            self._throttles_told.update(dict.fromkeys(new, now))
            self._event("gpu.throttled", reasons=new)

    def _event(self, event_type: str, **fields: Any) -> None:
        self._tell({"type": event_type, "t": time.time(), "gpu": self.device.index, "uuid": self.device.uuid, **fields})


def _drivers(choice: str) -> list[Callable[[], Probe]]:
    known: dict[str, list[Callable[[], Probe]]] = {"nvml": [_nvml], "amd": [_amd], "auto": [_nvml, _amd], "none": []}
    return known[choice]


def _nvml() -> Probe:
    from llmops_tui.engine.gpu_nvml import NvmlProbe  # imported by the probe's thread, only when it is asked for

    return NvmlProbe()


def _amd() -> Probe:
    from llmops_tui.engine.gpu_amd import AmdProbe

    return AmdProbe()
