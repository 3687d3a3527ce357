"""The scripts that prove our speed and memory on a real GPU: what of them needs none."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmops_tui.engine.estimate.facts import model_facts
from llmops_tui.engine.estimate.workload import RowFacts
from llmops_tui.specs.train import TrainSpec

_SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "gpu"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules, imported as when a script of that directory is run."""
    names = ["shared", "throughput", "memory", "train", "serving"]
    before = list(sys.path)
    sys.path.insert(0, str(_SCRIPTS))
    yield {name: importlib.import_module(name) for name in names}
    sys.path[:] = before
    for name in [*names, "peer_environment", "serving_rig"]:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["throughput", "memory", "train", "serving"])
def test_without_a_gpu_it_says_so_in_one_line_and_makes_nothing(
    scripts: dict[str, ModuleType], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scripts["shared"], "find_device", lambda kind: None)
    monkeypatch.setattr(scripts["shared"], "run_python", lambda *_: pytest.fail("nothing is to be made"))
    assert scripts[name].main(["--quick"]) == 5
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["holds"] is False
    assert "no GPU" in said["error"]


def test_a_rate_leaves_out_the_first_steps_and_too_few_steps_are_refused(scripts: dict[str, ModuleType]) -> None:
    slow_start = [(float(10 * step), 100 * step, 4.0) for step in range(1, 4)]
    steady = [(30.0 + step, 300 + 500 * step, 2.0) for step in range(1, 9)]
    events = [{"type": "phase", "t": 0.0}]
    events += [{"type": "metric", "t": t, "values": {"train/tokens": n, "train/loss": loss}} for t, n, loss in [*slow_start, *steady]]
    events += [{"type": "metric", "t": 99.0, "values": {"eval/loss": 1.0}}, {"type": "end", "summary": {"peak_rss_bytes": 7}}]
    found = scripts["shared"].measured_job("ours", events)
    assert (found.rate, found.tokens, found.loss, found.peak_bytes) == (500.0, 4300, 2.0, 7)
    with pytest.raises(SystemExit, match="too few"):
        scripts["shared"].measured("ours", slow_start, 0)


@pytest.mark.parametrize(("way", "a_weight"), [("lora", 4), ("full", 6)])
def test_the_models_own_products_are_four_flop_a_frozen_weight_and_six_a_trained_one(
    scripts: dict[str, ModuleType], tmp_path: Path, way: str, a_weight: int
) -> None:
    shape = scripts["shared"].SHAPES["tiny"]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], **shape}))
    spec = TrainSpec.model_validate(
        {"model": str(tmp_path), "dataset": {"path": "rows.jsonl"}, "adaptation": way, "gradient_checkpointing": True}
    )
    mean = 100.0
    found = scripts["throughput"].model_flops_a_token(spec, model_facts(tmp_path), RowFacts(64, 0, mean, 1024))
    in_out = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]  # q, k, v, o, gate, up, down
    weights = 2 * sum(inputs * outputs for inputs, outputs in in_out) + 512 * 64
    adapters = 0 if way == "full" else 2 * 16 * sum(inputs + outputs for inputs, outputs in in_out)
    attention = 2 * mean * 64 * 2  # of the forward pass: 2 w Q a layer
    assert found == pytest.approx(a_weight * weights + a_weight / 2 * attention + 6 * adapters)


def test_the_verdict_is_of_the_tightest_row_and_a_peer_that_did_not_fit_is_said(
    scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    throughput, shared = scripts["throughput"], scripts["shared"]

    def row(label: str, ours: float | None, plain: float | None) -> Any:
        made = throughput.Row(label, 1e9)
        for name, rate in (("ours, packed", ours), (throughput.PLAIN, plain)):
            if rate is None:
                made.did_not_fit.append(name)
            elif name == throughput.PLAIN:
                made.peers.append(shared.Measured(name, rate, 1000, 2.0, 1 << 30))
            else:
                made.ours = shared.Measured(name, rate, 1000, 2.0, 1 << 30)
        return made

    device = shared.Device("cuda", "NVIDIA H100 80GB HBM3", 80 << 30, 7e14)
    assert throughput.report(device, [row("1B lora", 4000, 2000), row("8B lora", 1600, 1000), row("8B full", 500, None)]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    said = json.loads(last)
    assert (said["ratio"], said["ours"], said["holds"]) == (1.6, 1600, True)
    assert said["rows"]["1B lora"]["ours, packed"]["mfu"] == round(4000 * 1e9 / 9.9e14, 4)
    assert any("did not fit" in line for line in table)
    assert throughput.report(device, [row("1B lora", 4000, 2000), row("8B lora", 1400, 1000)]) == 1
    assert throughput.report(device, [row("1B lora", 4000, 2000), row("8B lora", None, 1000)]) == 1
    assert throughput.report(device, []) == 1


def test_the_peers_scripts_are_programs_and_their_end_is_read(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = scripts["shared"]
    for program in (shared._PLAIN_SCRIPT, shared._MAKE_MODEL, shared._PROBE, scripts["throughput"].UNSLOTH_SCRIPT):
        compile(program, "program", "exec")
    spec = TrainSpec.model_validate({"model": "there", "dataset": {"path": "rows.jsonl"}})
    steps = [[float(step), 10 * step, 3.0] for step in range(1, 12)]
    program = (
        f"import json, sys; wish = json.loads(sys.argv[1]); print('100%', 'RESULT', json.dumps({{'steps': {steps}, 'peak_bytes': 5}}))"
    )
    python = [sys.executable, "-S", "-c"]
    found = shared.run_script("a peer", [*python, program], tmp_path / "peer", spec, "cpu")
    assert (found.rate, found.tokens, found.peak_bytes) == (10.0, 110, 5)
    with pytest.raises(shared.DidNotFitError):
        shared.run_script("a peer", [*python, "raise SystemExit('torch.OutOfMemoryError')"], tmp_path / "large", spec, "cpu")
    with pytest.raises(SystemExit, match=r"exit code 1:\nno such model"):
        shared.run_script("a peer", [*python, "raise SystemExit('no such model')"], tmp_path / "none", spec, "cpu")
