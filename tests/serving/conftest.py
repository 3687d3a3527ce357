"""What the tests of serving share: one engine a module whose llama.cpp is played, and its models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.fake_runtime import FakeRuntime
from tests.serving.serving_engine import Serving, serving_engine
from tests.serving.tiny_gguf import write_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `first`, `second` and `third`."""
    directory = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("first", "second", "third")):
        write_model(directory / f"{name}.gguf", seed=seed)
    return directory


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> FakeRuntime:
    return FakeRuntime(tmp_path_factory.mktemp("runtime") / "played")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, runtime: FakeRuntime) -> Iterator[Serving]:
    with serving_engine(tmp_path_factory.mktemp("home") / "state", runtime.place) as running:
        yield running
