"""AMD cards as the kernel shows them: a directory tree laid out like /sys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llmops_tui.engine.gpu_amd import AmdProbe
from llmops_tui.engine.gpu_probe import DriverMissingError
from llmops_tui.engine.gpus import GpuMonitor
from llmops_tui.specs.settings import Settings
from tests.waiting import wait_for

GIB = 1 << 30


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def add_card(sys_root: Path, number: int, *, vendor: str = "0x1002", memory: int = 16 * GIB) -> Path:
    """A card as amdgpu 6.x shows it: `device` is a link into the PCI tree there, a plain directory here."""
    device = sys_root / f"class/drm/card{number}/device"
    files = {
        "vendor": vendor,
        "device": "0x744c",
        "unique_id": f"62a1b2c3d4e5f60{number}",
        "product_name": "Radeon Test",
        "gpu_busy_percent": 64,
        "mem_info_vram_total": memory,
        "mem_info_vram_used": 3 * GIB,
        "pp_dpm_sclk": "0: 500Mhz\n1: 2304Mhz *\n2: 2482Mhz",
        "pp_dpm_mclk": "0: 96Mhz *\n1: 1249Mhz",
        "current_link_speed": "16.0 GT/s PCIe",
        "current_link_width": 16,
        "ras/umc_err_count": "ue: 2\nce: 9",
        "hwmon/hwmon5/power1_average": 187_000_000,
        "hwmon/hwmon5/power1_cap": 303_000_000,
        "hwmon/hwmon5/temp1_input": 58_000,
        "hwmon/hwmon5/energy1_input": 9_000_000,
        f"drm/renderD{128 + number}/uevent": "",
    }
    for name, content in files.items():
        write(device / name, content)
    node = sys_root / f"class/kfd/kfd/topology/nodes/{number + 1}"
    write(node / "gpu_id", 40_000 + number)
    write(node / "properties", f"cpu_cores_count 0\ndrm_render_minor {128 + number}\nlocation_id 768")
    return device


def test_a_card_is_read_in_the_units_a_person_expects(tmp_path: Path) -> None:
    add_card(tmp_path, 0)
    write(tmp_path / "class/kfd/kfd/proc/4711/vram_40000", 2 * GIB)
    write(tmp_path / "class/kfd/kfd/proc/4712/vram_40001", GIB)
    (card,) = AmdProbe(tmp_path).open()
    assert (card.index, card.uuid, card.name) == (0, "GPU-62a1b2c3d4e5f600", "Radeon Test")
    fast, slow = card.read_fast(), card.read_slow()
    assert (fast.utilisation, fast.memory_used_bytes, fast.memory_total_bytes) == (0.64, 3 * GIB, 16 * GIB)
    assert (fast.power_watts, fast.power_limit_watts, fast.temperature_celsius) == (187.0, 303.0, 58.0)
    assert (fast.sm_clock_mhz, fast.memory_clock_mhz) == (2304, 96)
    assert fast.processes == [(4711, 2 * GIB)]
    assert (slow.pcie_generation, slow.pcie_width, slow.ecc_uncorrected, fast.energy_joules) == (4, 16, 2, 9.0)
    assert (slow.pcie_rx_bytes_per_second, slow.pcie_tx_bytes_per_second) == (None, None)


def test_what_a_card_does_not_show_is_unknown(tmp_path: Path) -> None:
    device = add_card(tmp_path, 0)
    for name in ("unique_id", "gpu_busy_percent", "pp_dpm_sclk", "current_link_speed"):
        (device / name).unlink()
    for name in ("hwmon", "ras"):
        shutil.rmtree(device / name)
    write(device / "mem_info_vram_used", "nonsense")
    (card,) = AmdProbe(tmp_path).open()
    fast, slow = card.read_fast(), card.read_slow()
    assert card.uuid == "PCI-device"
    assert (fast.utilisation, fast.power_watts, fast.temperature_celsius, fast.sm_clock_mhz, fast.memory_used_bytes) == (None,) * 5
    assert (slow.pcie_generation, slow.ecc_uncorrected, fast.energy_joules) == (None, None, None)


def test_other_vendors_small_adapters_and_connectors_are_no_gpus(tmp_path: Path) -> None:
    add_card(tmp_path, 0, vendor="0x8086")
    add_card(tmp_path, 1, memory=GIB // 2)
    write(tmp_path / "class/drm/card1-DP-1/device/vendor", "0x1002")
    with pytest.raises(DriverMissingError):
        AmdProbe(tmp_path).open()
    add_card(tmp_path, 10)
    add_card(tmp_path, 2)
    assert [(card.index, card.uuid[-2:]) for card in AmdProbe(tmp_path).open()] == [(0, "02"), (1, "10")]


def test_the_monitor_shows_a_card_and_that_it_left_the_bus(tmp_path: Path) -> None:
    device = add_card(tmp_path, 0)
    settings = Settings.model_validate({"engine": {"sample_seconds": 0.2}, "gpus": {"probe": "amd"}})
    monitor = GpuMonitor(settings, lambda pid: None, probes=[lambda: AmdProbe(tmp_path)])
    monitor.start()
    try:
        assert monitor.wait_ready(10)
        assert monitor.snapshot()[0]["health"] == "ok"
        shutil.rmtree(device)
        (event,) = wait_for(monitor.drain_events)
        assert (event["type"], event["gpu"]) == ("gpu.lost", 0)
        (gpu,) = monitor.snapshot()
        assert (gpu["health"], gpu["memory_total_bytes"]) == ("lost", 16 * GIB)
    finally:
        monitor.stop()
