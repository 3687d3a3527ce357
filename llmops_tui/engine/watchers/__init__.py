"""The rules that watch a run's metrics. Pure: points in, firings out; a restart that feeds the same points gets the same firings."""
