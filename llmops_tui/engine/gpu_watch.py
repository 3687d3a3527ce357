"""One GPU under watch: its thread, its newest sample, its health, and what changed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from llmops_tui.engine.gpu_probe import Device, FastReading, GpuFaultError, GpuLostError, SlowReading
from llmops_tui.engine.gpu_processes import ProcessDirectory
from llmops_tui.engine.gpu_xid import XID_MEANING
from llmops_tui.specs.answers import GpuProcess, GpuSample
from llmops_tui.specs.settings import Settings

SLOW_SECONDS = 10.0
# A power cap or the user's own clock setting is daily life; these cost speed or tell of a fault.
SERIOUS_THROTTLES = frozenset({"sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake", "hw_slowdown", "reliability"})
_REPEAT_THROTTLE_SECONDS = 300.0
_KEPT_XIDS = 16
log = logging.getLogger(__name__)


class WatchedGpu:
    """`run` is the body of the GPU's thread; everything else may be called from any thread and never waits for the driver."""

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
                rows = self._processes.describe(fast.processes)
            except GpuLostError as error:
                self._settle("lost", str(error))
            except GpuFaultError as error:
                self._settle("error", str(error))
            except Exception as error:  # a fault of ours is shown on the GPU and must not end its thread
                if self._health != "error" or not self._answered:
                    log.exception("reading GPU %d failed", self.device.index)
                self._settle("error", f"{type(error).__name__}: {error}")
            else:
                self._settle("ok", "", fast, slow, rows)
            stop.wait(max(0.05, self._period - (time.monotonic() - began)))

    def answered_or_stalled(self) -> bool:
        with self._lock:
            return self._answered or self._health == "stalled" or self._overdue()

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
                "energy_joules": fast.energy_joules,
                "xid": list(self._xids),
                "processes": [row.copy() for row in self._rows],
                "held_by": [],
                "reserved_by": None,
                "holders": [],
                "held_since": None,
                "idle_seconds": None,
                "hidden_bytes": self._unaccounted_bytes(),
            }

    def _unaccounted_bytes(self) -> int | None:
        """Memory in use that no process in sight holds; None where the driver does not tell all processes and their memory."""
        used = self._fast.memory_used_bytes
        if used is None or self._health != "ok" or not self._fast.all_processes:
            return None
        # A process that is listed and not there (it died badly, or lives where we cannot see) is none that one could ask to leave.
        seen = [row["memory_bytes"] for row in self._rows if row["run"] or row["owner"]]
        return None if None in seen else max(0, used - sum(size or 0 for size in seen))

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
            news = self._answered or before == "stalled"  # the first answer of all is none
            self._answered, self._asked_at = True, None
            if fast is None:
                self._fast, self._rows = FastReading(memory_total_bytes=self._fast.memory_total_bytes), []
            else:
                self._fast, self._slow, self._rows = fast, slow or self._slow, rows or []
                self._tell_throttling(fast.throttle_reasons)
            if health == "lost" and before != "lost":
                self._event("gpu.lost", reason=reason)
            if health == "ok" and before != "ok" and news:
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
