"""AMD GPUs as the kernel's amdgpu driver shows them under /sys: no library, nothing to install.

Units follow Documentation/gpu/amdgpu and Documentation/hwmon of the kernel: power in µW, temperature in m°C, energy in µJ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from llmops_tui.engine.gpu_probe import DriverMissingError, FastReading, GpuLostError, SlowReading

_AMD = "0x1002"
# An integrated display adapter with a carve-out of main memory is nothing to train on.
_SMALLEST_MEMORY_BYTES = 1 << 30
_GENERATION = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}  # GT/s of a lane


class AmdProbe:
    """All cards below `root`/class/drm."""

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._root = root

    def open(self) -> Sequence[AmdDevice]:
        """Every AMD card with memory of its own, in the order of the kernel's card numbers."""
        cards = [path for path in (self._root / "class/drm").glob("card*") if re.fullmatch(r"card\d+", path.name)]
        found = []
        for card in sorted(cards, key=lambda path: int(path.name[4:])):
            device = card / "device"
            if _text(device / "vendor") == _AMD and (_number(device / "mem_info_vram_total") or 0) >= _SMALLEST_MEMORY_BYTES:
                found.append(device)
        if not found:
            raise DriverMissingError("no AMD GPU is in /sys/class/drm")
        return [AmdDevice(device, index, self._root / "class/kfd/kfd") for index, device in enumerate(found)]

    def versions(self) -> dict[str, str]:
        version = _text(self._root / "module/amdgpu/version") or _text(self._root / "module/amdgpu/srcversion")
        return {"amdgpu": version} if version else {}

    def close(self) -> None:
        """Nothing is held."""

    def wait_for_xid(self, seconds: float) -> tuple[int, int] | None:
        raise DriverMissingError("AMD's driver tells no Xid events")


class AmdDevice:
    """One card. `uuid` is the form that ROCR_VISIBLE_DEVICES takes, where the card has a unique id."""

    def __init__(self, path: Path, index: int, kfd: Path) -> None:
        self._path = path
        self.index = index
        unique = _text(path / "unique_id")
        self.uuid = f"GPU-{unique.removeprefix('0x')}" if unique else f"PCI-{path.resolve().name}"
        self.name = _text(path / "product_name") or f"AMD GPU {_text(path / 'device') or ''}".strip()
        self._processes = kfd / "proc"
        self._kfd_id = _kfd_id(kfd, path)

    def read_fast(self) -> FastReading:
        """What is shown every second. Raises GpuLostError when the card has left the bus."""
        if _text(self._path / "vendor") is None:
            raise GpuLostError("the card is gone from /sys: it fell off the bus or its driver was unloaded")
        sensors = self._sensors()
        power = _number(sensors / "power1_average")
        if power is None:
            power = _number(sensors / "power1_input")
        limit, temperature, busy, energy = (
            _number(sensors / "power1_cap"),
            _number(sensors / "temp1_input"),
            _number(self._path / "gpu_busy_percent"),
            _number(sensors / "energy1_input"),
        )
        return FastReading(
            utilisation=None if busy is None else busy / 100,
            memory_used_bytes=_number(self._path / "mem_info_vram_used"),
            memory_total_bytes=_number(self._path / "mem_info_vram_total"),
            power_watts=None if power is None else power / 1e6,
            power_limit_watts=None if limit is None else limit / 1e6,
            temperature_celsius=None if temperature is None else temperature / 1000,
            sm_clock_mhz=_active_clock(self._path / "pp_dpm_sclk"),
            memory_clock_mhz=_active_clock(self._path / "pp_dpm_mclk"),
            processes=self._memory_by_process(),  # compute alone: a desktop's memory is nobody's here
            energy_joules=None if energy is None else energy / 1e6,
        )

    def read_slow(self) -> SlowReading:
        """Link and memory errors."""
        speed = re.match(r"([\d.]+) GT/s", _text(self._path / "current_link_speed") or "")
        errors = re.search(r"ue:\s*(\d+)", _text(self._path / "ras/umc_err_count") or "")
        return SlowReading(
            pcie_generation=_GENERATION.get(float(speed.group(1))) if speed else None,
            pcie_width=_number(self._path / "current_link_width"),
            ecc_uncorrected=int(errors.group(1)) if errors else None,
        )

    def _sensors(self) -> Path:
        """The card's hwmon directory; its number changes when the driver is reloaded."""
        return next(iter(sorted(self._path.glob("hwmon/hwmon*"))), self._path / "hwmon/none")

    def _memory_by_process(self) -> list[tuple[int, int | None]]:
        if self._kfd_id is None:
            return []
        found: list[tuple[int, int | None]] = []
        for entry in self._processes.glob(f"*/vram_{self._kfd_id}"):
            held = _number(entry)
            if held and entry.parent.name.isdigit():
                found.append((int(entry.parent.name), held))
        return sorted(found)


def _kfd_id(kfd: Path, device: Path) -> str | None:
    """The compute driver's id of this card: the topology node with the same DRM render minor."""
    minors = {path.name.removeprefix("renderD") for path in device.glob("drm/renderD*")}
    for node in sorted(kfd.glob("topology/nodes/*")):
        match = re.search(r"^drm_render_minor (\d+)$", _text(node / "properties") or "", re.MULTILINE)
        if match and match.group(1) in minors:
            return _text(node / "gpu_id")
    return None


def _active_clock(path: Path) -> int | None:
    """The line marked by a star: `1: 1801Mhz *`."""
    match = re.search(r"(\d+)Mhz \*", _text(path) or "", re.IGNORECASE)
    return int(match.group(1)) if match else None


def _text(path: Path) -> str | None:
    """A sysfs file's content; None where this card or kernel has no such file, or refuses it."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None
