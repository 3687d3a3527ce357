from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.fake_backend import FakeBackend
from tests.gateway.running import RunningGateway, config


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    backend = FakeBackend()
    yield backend
    backend.close()


@pytest.fixture
def other() -> Iterator[FakeBackend]:
    backend = FakeBackend()
    yield backend
    backend.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], RunningGateway]]:
    """Starts gateways, which end with the test."""
    started: list[RunningGateway] = []

    def starts(configuration: dict[str, Any]) -> RunningGateway:
        gateway = RunningGateway(tmp_path / f"gateway{len(started)}", configuration)
        started.append(gateway)
        return gateway

    yield starts
    for gateway in started:
        gateway.close()


@pytest.fixture
def gateway(backend: FakeBackend, start: Callable[[dict[str, Any]], RunningGateway]) -> RunningGateway:
    """A gateway with the endpoint m on one replica, r1."""
    return start(config({"r1": backend}))
