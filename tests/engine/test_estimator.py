"""The engine's estimates: asked for, kept with the run, held against what was measured, and used before anything is started."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.estimate.facts import describe_model, glance
from llmops_tui.engine.estimator import Estimator, box_for
from llmops_tui.engine.ledger import Placement, Wait, place, resolved
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.tariff import Tariff
from llmops_tui.errors import InsufficientResourcesError, NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.common import Resources
from llmops_tui.specs.train import TrainSpec
from tests.catalog_files import write_rows
from tests.engine.test_commands import Shell
from tests.engine.test_ledger import a_gpu
from tests.running_engine import running_engine
from tests.unit.test_estimate import LLAMA_8B, SMOLLM2

GIB = 1 << 30
HOST: Any = {"memory_total_bytes": 24 * GIB}


def write_config(directory: Path, config: dict[str, Any]) -> Path:
    """A model without weights: nothing but its configuration is needed."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def card(gibibytes: int, health: str = "ok") -> GpuSample:
    return a_gpu(memory_total_bytes=gibibytes * GIB, health=health)


def wish(model: Path, **fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": str(model), "dataset": {"path": "rows.jsonl"}, **fields})


def prepared(model: Path) -> dict[str, Any]:
    rows = {"learnt": 600, "held_out": 48, "mean_tokens": 200.0, "longest_tokens": 900, "source": "600 rows read"}
    return {"facts": {"model": describe_model(model), "rows": rows}, "warnings": ["only this"]}


def finished(runs: Path, number: int, estimate: dict[str, Any], growth: int) -> LiveRun:
    """A run that succeeded, as its directory tells."""
    directory = RunDir(runs / f"train-a-{number:04d}")
    directory.path.mkdir(parents=True)
    summary = {"rss_growth_bytes": growth, "peak_rss_bytes": growth + 10, "seconds": 100.0, "tokens": 1000}
    directory.events.write_text(json.dumps({"type": "end", "status": "succeeded", "summary": summary}) + "\n")
    return LiveRun(directory, {"prepared": {"estimate": estimate}}, None, state="succeeded")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_config(tmp_path / "model", SMOLLM2)


def test_a_prediction_is_kept_with_the_run_and_corrected_by_runs_that_finished(tmp_path: Path, model: Path) -> None:
    runs: list[LiveRun] = []
    estimator = Estimator(lambda: runs, Tariff())
    spec = wish(model, resources={"gpus": 0})
    first = asyncio.run(estimator.complete(spec, prepared(model), [], HOST))
    assert first["warnings"] == ["only this"]
    assert first["estimate"]["parameters"] == 134_515_008
    work = first["estimate"]["formula"]["work_bytes"]
    runs += [finished(tmp_path / "runs", number, first["estimate"], round(work * 1.25)) for number in range(6)]
    later = asyncio.run(estimator.complete(spec, prepared(model), [], HOST))["estimate"]
    assert later["memory_bytes"] > first["estimate"]["memory_bytes"]
    assert "corrected by 6 runs like it" in later["basis"]
    # A new engine reads the same from the run directories: nothing else was kept.
    again = asyncio.run(Estimator(lambda: runs, Tariff()).complete(spec, prepared(model), [], HOST))["estimate"]
    assert again == later


def test_a_run_of_another_formula_or_without_a_measurement_corrects_nothing(tmp_path: Path, model: Path) -> None:
    spec = wish(model, resources={"gpus": 0})
    plain = asyncio.run(Estimator(list, Tariff()).complete(spec, prepared(model), [], HOST))["estimate"]
    old = {**plain, "formula": {**plain["formula"], "version": 0}}
    runs = [finished(tmp_path / "runs", 1, old, 10**10), finished(tmp_path / "runs", 2, plain, 0)]
    (runs[1].dir.events).write_text("not json\n")
    assert asyncio.run(Estimator(lambda: runs, Tariff()).complete(spec, prepared(model), [], HOST))["estimate"] == plain


def test_what_cannot_fit_the_largest_gpu_is_refused_and_what_only_has_to_be_smaller_is_a_warning(tmp_path: Path) -> None:
    model = write_config(tmp_path / "large", LLAMA_8B)
    estimator = Estimator(list, Tariff())
    with pytest.raises(InsufficientResourcesError, match=r"even with one row a pass; choose .*qlora") as refused:
        asyncio.run(estimator.complete(wish(model), prepared(model), [card(12), card(8)], HOST))
    assert refused.value.exit_code == 5
    wide = wish(model, micro_batch=64, packing=False, gradient_checkpointing=False)
    found = asyncio.run(estimator.complete(wide, prepared(model), [card(24)], HOST))
    assert found["estimate"]["fits"] == "no"
    assert "would fit" in found["warnings"][-1]
    assert asyncio.run(estimator.complete(wish(model), prepared(model), [card(80)], HOST))["warnings"] == ["only this"]


def test_a_model_that_cannot_be_estimated_is_trained_all_the_same(tmp_path: Path) -> None:
    model = write_config(tmp_path / "odd", {"model_type": "new"})
    assert asyncio.run(Estimator(list, Tariff()).complete(wish(model), prepared(model), [], HOST))["estimate"] is None


def test_the_device_is_the_largest_gpu_that_is_not_lost_or_the_processor(model: Path) -> None:
    gpus = [card(24), card(80, "lost")]
    assert box_for(wish(model), gpus, HOST).memory_bytes == 24 * GIB
    assert box_for(wish(model, resources={"gpus": 0}), gpus, HOST).device == "cpu"
    assert box_for(wish(model, threads=3), [], HOST).threads == 3
    assert box_for(wish(model, resources={"gpus": 2}, processes={"count": 2}), [], HOST).memory_bytes is None


def test_memory_auto_holds_the_predicted_upper_bound_and_without_one_the_whole_gpu() -> None:
    auto = Resources(gpus=1, gpu_memory_bytes="auto")
    assert resolved(auto, 5 * GIB).gpu_memory_bytes == 5 * GIB
    assert resolved(auto, None).gpu_memory_bytes is None
    assert resolved(Resources(gpu_memory_bytes=7), 5 * GIB).gpu_memory_bytes == 7
    run = LiveRun(RunDir(Path("train-a-0001")), {"prepared": {"estimate": {"memory_high": 6 * GIB}}}, None)
    spec = TrainSpec.model_validate({"model": "m", "dataset": {"path": "r"}, "resources": {"gpus": 1, "gpu_memory_bytes": "auto"}})
    assert run.resources(spec).gpu_memory_bytes == 6 * GIB
    assert isinstance(place(run.resources(spec), [card(8)], [], 1), Placement)
    assert not isinstance(place(run.resources(spec), [card(4)], [], 1), Placement | Wait)


def test_rows_are_guessed_from_the_first_bytes_of_the_file(tmp_path: Path, model: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"question": "What is it?" * 9, "answer": "A thing." * 9}] * 1000)
    facts = glance(Home(tmp_path / "home", explicit=True), wish(model), tmp_path)
    assert (facts["rows"]["learnt"], facts["rows"]["held_out"]) == (900, 100)
    assert 30 < facts["rows"]["mean_tokens"] < 60
    nothing = glance(Home(tmp_path / "home", explicit=True), wish(model, dataset={"path": "missing.jsonl"}), tmp_path)
    assert nothing["rows"]["learnt"] is None


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_engine(tmp_path_factory.mktemp("estimating")) as running:
        yield running


def test_an_estimate_is_asked_for_over_the_socket_before_there_are_rows(client: Client, model: Path) -> None:
    found = client.estimate({"kind": "train", "model": str(model), "micro_batch": 2})
    assert (found["parameters"], found["tokens"], found["device"]) == (134_515_008, None, "cpu")
    with pytest.raises(NotFoundError, match="nowhere"):
        client.estimate({"kind": "train", "model": "nowhere"})
    with pytest.raises(UsageError, match="command run is not estimated"):
        client.estimate({"kind": "command", "argv": ["true"]})
    with pytest.raises(UsageError, match="micro_batch"):
        client.estimate({"kind": "train", "model": str(model), "micro_batch": 0})
    (model / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="model: "):
        client.estimate({"kind": "train", "model": str(model)})


def test_runs_estimate_prints_each_figure_with_its_band_or_json(client: Client, model: Path) -> None:
    shell = Shell(client.home.root)
    words = shell("runs", "estimate", "--set", f"model={model}", "--set", "max_steps=10")
    assert "134,515,008, of which 4,884,480 are trained (lora)" in words
    assert "no run like it was measured here yet" in words
    assert shell.json("runs", "estimate", "--set", f"model={model}", "--set", "adaptation=dora")["trainable"] > 4_884_480
    assert "model" in shell.error("runs", "estimate", code=2)
