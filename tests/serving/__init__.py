"""Serving from the engine down: runtimes, replicas, endpoints."""
