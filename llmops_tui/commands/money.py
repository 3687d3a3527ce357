"""Energy, GPU time and money in words a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tui.commands.output import MISSING, number

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunSummary

_JOULES_PER_WH = 3600.0
_SECONDS_PER_HOUR = 3600.0


def energy(joules: float | None) -> str:
    """`53.2 Wh`, `1.24 kWh`."""
    if joules is None:
        return MISSING
    watt_hours = joules / _JOULES_PER_WH
    return f"{watt_hours / 1000:.3g} kWh" if watt_hours >= 1000 else f"{watt_hours:.3g} Wh"


def gpu_hours(seconds: float) -> str:
    """`3.4 GPU-h`, `52 GPU-s`; a dash for a run that never held a GPU."""
    if not seconds:
        return MISSING
    return f"{seconds / _SECONDS_PER_HOUR:.3g} GPU-h" if seconds >= _SECONDS_PER_HOUR / 10 else f"{seconds:.0f} GPU-s"


def cost(amount: float | None, currency: str) -> str:
    """`0.42 EUR`; small amounts keep two digits that say something."""
    if amount is None:
        return MISSING
    return f"{amount:.2f} {currency}" if amount >= 0.1 or not amount else f"{number(float(f'{amount:.2g}'))} {currency}"


def spent(run: RunSummary, currency: str) -> str:
    """What a run has used: `3.4 GPU-h, 1.24 kWh (365 Wh per GPU-hour), 0.62 EUR`; empty without a GPU."""
    seconds, joules = run["gpu_seconds"], run["energy_joules"]
    if not seconds:
        return ""
    words = [gpu_hours(seconds)]
    if joules is not None:
        words.append(f"{energy(joules)} ({energy(joules / seconds * _SECONDS_PER_HOUR)} per GPU-hour)")
    if run["cost"] is not None:
        words.append(cost(run["cost"], currency))
    return ", ".join(words)
