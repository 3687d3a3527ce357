"""Where the engine is root's: what it runs with its own rights is its own, and its secrets reach nobody's program."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llmops_tui.engine import parts as engine_parts
from llmops_tui.engine import routes_runtimes
from llmops_tui.engine.endpoints import facade, loadtest_target
from llmops_tui.engine.endpoints.changes import begin
from llmops_tui.engine.endpoints.keeping import Keeping
from llmops_tui.engine.endpoints.wishes import EndpointWishes
from llmops_tui.engine.parts import Parts
from llmops_tui.engine.people import Person
from llmops_tui.engine.serving.runtimes.check import check
from llmops_tui.engine.serving.runtimes.find import Found, find
from llmops_tui.engine.submitter import Account
from llmops_tui.errors import PermissionDeniedError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.endpoint import EndpointSpec
from llmops_tui.specs.loadtest import LoadtestSpec
from llmops_tui.specs.parse import parse_spec
from tests.serving.fake_runtime import FakeRuntime


def test_a_runtime_that_is_asked_gets_no_secret_of_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PROVIDER_KEY", "sk-very-secret")
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\nexit 1\n")
    program.chmod(0o755)
    check(Found("llamacpp", program, "made", "1"), box_has_gpu=False)
    seen = (tmp_path / "seen").read_text()
    assert "PATH=" in seen
    assert "very" not in seen


def test_only_what_the_engine_itself_finds_is_run_with_its_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    FakeRuntime(home.runtimes / "llamacpp", version="2.0")
    made = find("llamacpp", home, {})
    assert made is not None
    asked: list[dict[str, Any]] = []

    def use_gpu(places: dict[str, Any], *, box_has_gpu: bool) -> dict[str, bool]:
        asked.append(places)
        return dict.fromkeys(places, True)

    def fit(spec: object, prepared: dict[str, Any], gpus: object, memory: int, can: dict[str, bool]) -> dict[str, bool]:
        return can

    monkeypatch.setattr(engine_parts, "fit_replica", fit)
    engine = SimpleNamespace(
        gpus=SimpleNamespace(snapshot=lambda: [{"uuid": "GPU-1"}]), abilities=SimpleNamespace(use_gpu=use_gpu), home=home,
        settings=SimpleNamespace(runtimes={}),
    )  # fmt: skip
    told = {"llamacpp": {"python": "/home/eve/python", "version": "9"}, "vllm": {"python": "/home/eve/python", "version": "9"}}
    spec = parse_spec({"kind": "serve", "model": "m"})
    can = Parts._fit_replica(cast(Parts, engine), cast(Any, spec), {"serving_facts": {"runtimes": told}})
    assert asked == [{"llamacpp": {"python": str(made.python), "version": "2.0"}}]
    assert can == {"llamacpp": True, "vllm": False}


async def test_a_roots_engine_installs_from_a_directory_for_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(routes_runtimes, "who_asks", lambda: Person("eve", 1001, "admin"))
    with pytest.raises(PermissionDeniedError, match="only root may install from a directory"):
        await routes_runtimes.install_runtime(cast(Parts, None), "llamacpp", routes_runtimes.InstallRequest(wheels="/home/eve/wheels"))


def test_another_users_load_test_cannot_have_the_engines_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "lk-x")
    monkeypatch.setattr(loadtest_target, "account_of", lambda uid: object() if uid == 1001 else None)
    spec = LoadtestSpec(url="http://127.0.0.1:1/v1", model="m", key_env="MY_KEY")
    assert loadtest_target.target_of(0, spec, cast(Keeping, None), [], [])[0]["model"] == "m"
    with pytest.raises(UsageError, match="gives its users' runs no secrets"):
        loadtest_target.target_of(1001, spec, cast(Keeping, None), [], [])


async def test_a_models_path_is_meant_from_the_askers_home_and_a_roots_engine_looks_into_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "x").mkdir(parents=True)
    account = Account("eve", 1001, 1001, (), "/home/eve", "/bin/sh")
    monkeypatch.setattr(facade, "account_of", lambda uid: account if uid == 1001 else None)
    resolve = partial(facade.Endpoints._resolve, cast(facade.Endpoints, SimpleNamespace(_queue=SimpleNamespace(runs=list))))
    assert await resolve(1001, "~/m", tmp_path) == "/home/eve/m"
    assert await resolve(1001, "models/x", tmp_path) == "models/x"
    assert await resolve(0, "models/x", tmp_path) == str(tmp_path / "models" / "x")
    assert await resolve(1001, "support@v3", tmp_path) == "support@v3"


def test_a_version_that_would_get_requests_and_have_no_server_is_refused() -> None:
    spec = EndpointSpec.model_validate({"name": "e", "versions": [{"model": "m", "replicas": 0}]})
    with pytest.raises(UsageError, match="would get requests and have no server"):
        begin(spec, owner="o", uid=1, cwd="/", now=1.0)
    resting = {"name": "e", "versions": [{"model": "m", "weight": 1}, {"model": "n", "replicas": 0}]}
    assert begin(EndpointSpec.model_validate(resting), owner="o", uid=1, cwd="/", now=1.0).routed == {"v1": 1.0}


async def test_a_wish_that_is_durable_is_no_failure_where_the_gateway_hears_of_it_later(caplog: pytest.LogCaptureFixture) -> None:
    async def publish() -> None:
        raise OSError(28, "No space left on device")

    wishes = EndpointWishes(cast(Keeping, SimpleNamespace(publish=publish)), cast(Any, None), cast(Any, None))
    with caplog.at_level(logging.WARNING):
        await wishes._tell_gateway()
    assert "the gateway is told later" in caplog.text
