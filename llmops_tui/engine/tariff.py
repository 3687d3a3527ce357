"""What GPU time and electricity cost here: the settings' tariff as a pure function."""

from __future__ import annotations

from dataclasses import dataclass

JOULES_PER_KWH = 3.6e6
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Tariff:
    """Prices in one currency; zero is no price. With a price of both kinds a run pays both."""

    per_kwh: float = 0.0
    per_gpu_hour: float = 0.0

    def cost(self, gpu_seconds: float, energy_joules: float | None) -> float | None:
        """What a run has cost. None without a tariff, without a GPU, or where the energy that has a price is not known."""
        if not gpu_seconds or not (self.per_kwh or self.per_gpu_hour):
            return None
        if self.per_kwh and energy_joules is None:
            return None
        return (energy_joules or 0.0) / JOULES_PER_KWH * self.per_kwh + gpu_seconds / _SECONDS_PER_HOUR * self.per_gpu_hour
