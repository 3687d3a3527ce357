"""Where jobs run: the same shim everywhere."""
