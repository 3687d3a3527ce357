"""Runs that are made of runs: parameter sweeps and cross-validations, conducted by the engine without a process of their own."""
