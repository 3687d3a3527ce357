"""The spec of one server of an endpoint's version: what `run serve` would be given. Pure."""

from __future__ import annotations

from typing import Any

from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.endpoint import EndpointVersion
from llmops_tui.specs.parse import parse_spec


def replica_spec(entry: Entry, version: EndpointVersion) -> RunSpec:
    """The run that serves this version, with the adapters that ride on it. Raises UsageError where a key of `serve` is wrong."""
    riders = [each for each in entry.spec.versions if each.adapter_of == version.name]
    values: dict[str, Any] = {
        **version.serve,
        "kind": "serve",
        "name": entry.name,
        "model": version.model,
        "adapters": [{"name": each.name, "model": each.model} for each in riders],
        "endpoint": entry.name,
        "version": version.name,
    }
    return parse_spec(values)
