"""What a run will take before it starts: parameters, memory, time, energy, cost and disk, each with its error. No torch."""
