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

from llmops_tui.engine.gpu_probe import Device, DriverFailedError, DriverMissingError, Probe
from llmops_tui.engine.gpu_processes import ProcessDirectory
from llmops_tui.engine.gpu_watch import WatchedGpu
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.settings import Settings

# Without NVIDIA's persistence mode, starting the driver wakes each GPU, at seconds a GPU: more patience than for a reading.
_OPENING_PATIENCE = 10
_RETRY_DRIVER_SECONDS = 60.0
_XID_WAIT_SECONDS = 1.0
_RETRY_EVENTS_SECONDS = 10.0
log = logging.getLogger(__name__)


class GpuMonitor:
    """Watches all GPUs. `start()` returns at once; place no run before `ready`: until then the box seems to have none.

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
        self._gpus: list[WatchedGpu] = []
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
            found.append(f"the GPU driver has not answered for {self._opening_seconds:g} s at start; see dmesg")
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

    @property
    def _opening_seconds(self) -> float:
        return self._settings.gpus.call_timeout_seconds * _OPENING_PATIENCE

    def _opening_stalled(self) -> bool:
        return self._opening_since > 0 and time.monotonic() - self._opening_since > self._opening_seconds

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
            WatchedGpu(device, self._settings, ProcessDirectory(self._runs_of_pid, self._home), self._events.append)
            for device in sorted(devices, key=lambda device: device.index)
        ]
        self._discovered.set()
        threads = [threading.Thread(target=gpu.run, args=(self._stop,), name=f"gpu-{gpu.device.index}", daemon=True) for gpu in self._gpus]
        for thread in threads:
            thread.start()
        self._collect_xids(probe)
        self._stop.wait()
        for thread in threads:
            thread.join(self._settings.gpus.call_timeout_seconds)
        # Shutting a driver down under a call that hangs would hang as well: then the end of the process does it.
        if not any(thread.is_alive() for thread in threads):
            probe.close()

    def _collect_xids(self, probe: Probe) -> None:
        """Wait for Xid events until the end; this is what the discovering thread does for the rest of its life."""
        by_index = {gpu.device.index: gpu for gpu in self._gpus}
        failed = ""
        while not self._stop.is_set():
            try:
                event = probe.wait_for_xid(_XID_WAIT_SECONDS)
            except DriverMissingError:
                return
            except Exception as error:  # a lost GPU can spoil the waiting for all; the readings go on
                if str(error) != failed:
                    failed = str(error)
                    log.exception("waiting for GPU events failed; trying again every %g s", _RETRY_EVENTS_SECONDS)
                self._stop.wait(_RETRY_EVENTS_SECONDS)
                continue
            if event and (gpu := by_index.get(event[0])):
                gpu.note_xid(event[1])

    def _notice_stalls(self) -> None:
        for gpu in self._gpus:
            gpu.notice_stall()


def _drivers(choice: str) -> list[Callable[[], Probe]]:
    known: dict[str, list[Callable[[], Probe]]] = {"nvml": [_nvml], "amd": [_amd], "auto": [_nvml, _amd], "none": []}
    return known[choice]


def _nvml() -> Probe:
    from llmops_tui.engine.gpu_nvml import NvmlProbe  # imported by the probe's thread, only when it is asked for

    return NvmlProbe()


def _amd() -> Probe:
    from llmops_tui.engine.gpu_amd import AmdProbe

    return AmdProbe()
