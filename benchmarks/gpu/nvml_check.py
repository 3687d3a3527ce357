"""On a machine with an NVIDIA GPU: every reading of ours beside what nvidia-smi says of the same GPU.

    python benchmarks/gpu/nvml_check.py [--quick]

Readings move between two questions, so ours is taken before and after nvidia-smi's; a field agrees when nvidia-smi's value
lies between the two, give or take the tolerance shown. Exit 0 only if every field of every GPU agrees; 5 without a GPU.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmops_tui.engine.gpu_nvml import NvmlDevice, NvmlProbe, throttle_names
from llmops_tui.engine.gpu_probe import DriverFailedError, DriverMissingError, FastReading, GpuLostError, SlowReading

_MIB = 1 << 20
# nvidia-smi renamed "throttle" to "event" with driver 535; the active mask holds the bits of nvml.h.
_MASK_FIELDS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")


@dataclass(frozen=True)
class Field:
    """One reading: our value, nvidia-smi's name for it, its unit in ours, and how far apart they may be."""

    name: str
    ours: Callable[[FastReading, SlowReading], float | None]
    query: str
    scale: float
    absolute: float
    relative: float = 0.0


FIELDS = [
    Field("utilisation", lambda fast, slow: fast.utilisation, "utilization.gpu", 0.01, 0.15),
    Field("memory_used_bytes", lambda fast, slow: fast.memory_used_bytes, "memory.used", _MIB, 32 * _MIB, 0.05),
    Field("memory_total_bytes", lambda fast, slow: fast.memory_total_bytes, "memory.total", _MIB, _MIB),
    Field("power_watts", lambda fast, slow: fast.power_watts, "power.draw", 1, 15, 0.15),
    Field("power_limit_watts", lambda fast, slow: fast.power_limit_watts, "enforced.power.limit", 1, 0.5),
    Field("temperature_celsius", lambda fast, slow: fast.temperature_celsius, "temperature.gpu", 1, 3),
    Field("sm_clock_mhz", lambda fast, slow: fast.sm_clock_mhz, "clocks.sm", 1, 100, 0.1),
    Field("memory_clock_mhz", lambda fast, slow: fast.memory_clock_mhz, "clocks.mem", 1, 100, 0.1),
    Field("pcie_generation", lambda fast, slow: slow.pcie_generation, "pcie.link.gen.current", 1, 0),
    Field("pcie_width", lambda fast, slow: slow.pcie_width, "pcie.link.width.current", 1, 0),
    Field("ecc_uncorrected", lambda fast, slow: slow.ecc_uncorrected, "ecc.errors.uncorrected.volatile.total", 1, 0),
]


def main() -> int:
    """Compare, print the table and the closing line of JSON, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    rounds = 1 if parser.parse_args().quick else 3
    probe = NvmlProbe()
    try:
        devices = probe.open()
    except (DriverMissingError, DriverFailedError) as error:
        return _nothing_to_check(str(error))
    if not devices:
        return _nothing_to_check("the NVIDIA driver lists no GPU")
    if shutil.which("nvidia-smi") is None:
        return _nothing_to_check("nvidia-smi is not on the PATH")
    print("versions", probe.versions())
    checked = agreed = 0
    for number in range(rounds):
        for device in devices:
            try:
                results = _compare(device)
            except GpuLostError as error:
                print(f"GPU {device.index}: {error}")
                results = [False]
            checked += len(results)
            agreed += sum(results)
        if number + 1 < rounds:
            time.sleep(2)
    holds = agreed == checked
    print(json.dumps({"benchmark": "nvml_check", "ours": agreed, "peer": checked, "ratio": agreed / checked, "bar": 1.0, "holds": holds}))
    return 0 if holds else 1


def _compare(device: NvmlDevice) -> list[bool]:
    first_fast, first_slow = device.read_fast(), device.read_slow()
    said = _nvidia_smi(device.index, [field.query for field in FIELDS])
    mask = _throttle_mask(device.index)
    apps = _processes(device.uuid)
    last_fast, last_slow = device.read_fast(), device.read_slow()
    print(f"\nGPU {device.index} {device.uuid} {device.name}")
    print(f"{'reading':<22} {'ours before':>16} {'nvidia-smi':>16} {'ours after':>16}  agrees")
    identity = _nvidia_smi(device.index, ["uuid", "name"])
    results = [_row("uuid", device.uuid, identity[0], device.uuid, device.uuid == identity[0])]
    results.append(_row("name", device.name, identity[1], device.name, device.name == identity[1]))
    for field, text in zip(FIELDS, said, strict=True):
        before, after = field.ours(first_fast, first_slow), field.ours(last_fast, last_slow)
        results.append(_row(field.name, before, text, after, _agrees(field, before, _value(text, field.scale), after)))
    throttles = set(first_fast.throttle_reasons) | set(last_fast.throttle_reasons)
    common = set(first_fast.throttle_reasons) & set(last_fast.throttle_reasons)
    results.append(_row("throttle_reasons", sorted(throttles), sorted(mask), "", common <= mask <= throttles))
    listed = {pid for pid, _ in first_fast.processes} | {pid for pid, _ in last_fast.processes}
    results.append(_row("processes", sorted(listed), sorted(apps), "", apps <= listed))
    for name in ("pcie_rx_bytes_per_second", "pcie_tx_bytes_per_second"):
        print(f"{name:<22} {getattr(first_slow, name)!s:>16} {'(not queried)':>16} {getattr(last_slow, name)!s:>16}")
    print(f"{'energy_joules':<22} {first_fast.energy_joules!s:>16} {'(not queried)':>16} {last_fast.energy_joules!s:>16}")
    if first_fast.energy_joules is not None and last_fast.energy_joules is not None:
        grown = last_fast.energy_joules - first_fast.energy_joules
        results.append(_row("energy grows", "", f"{grown:.1f} J", "", grown >= 0))
    return results


def _agrees(field: Field, before: float | None, said: float | None, after: float | None) -> bool:
    if said is None or before is None or after is None:
        return said is None and (before is None or after is None)
    slack = field.absolute + field.relative * abs(said)
    return min(before, after) - slack <= said <= max(before, after) + slack


def _row(name: str, before: object, said: object, after: object, agrees: bool) -> bool:
    print(f"{name:<22} {before!s:>16} {said!s:>16} {after!s:>16}  {'yes' if agrees else 'NO'}")
    return agrees


def _nvidia_smi(index: int, queries: list[str]) -> list[str]:
    """nvidia-smi's answers; raises CalledProcessError for a field it does not know."""
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(queries)}", "--format=csv,noheader,nounits"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [cell.strip() for cell in next(csv.reader(io.StringIO(output)))]


def _value(text: str, scale: float) -> float | None:
    """A number of nvidia-smi in our unit; `[N/A]`, `[Not Supported]` and the like are None."""
    try:
        return float(text) * scale
    except ValueError:
        return None


def _throttle_mask(index: int) -> set[str]:
    for query in _MASK_FIELDS:
        try:
            return set(throttle_names(int(_nvidia_smi(index, [query])[0], 16)))
        except (subprocess.CalledProcessError, ValueError):
            continue
    return set()


def _processes(uuid: str) -> set[int]:
    command = ["nvidia-smi", f"--id={uuid}", "--query-compute-apps=pid", "--format=csv,noheader,nounits"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return {int(line) for line in output.split() if line.strip().isdigit()}


def _nothing_to_check(why: str) -> int:
    print(f"no NVIDIA GPU to check: {why}")
    print(json.dumps({"benchmark": "nvml_check", "ours": None, "peer": None, "ratio": None, "bar": 1.0, "holds": False}))
    return 5


if __name__ == "__main__":
    sys.exit(main())
