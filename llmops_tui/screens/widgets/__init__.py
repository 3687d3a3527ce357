"""Charts, tables and logs: dumb widgets with reactive inputs."""
