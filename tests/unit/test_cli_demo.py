"""What the demo asks for and what it says at the end; the real one is in tests/e2e."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.commands import demo
from llmops_tui.commands.demo_assets import Assets
from llmops_tui.errors import NotFoundError
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.train import TrainSpec

ASSETS = Assets(Path("/cache/model"), Path("/cache/fiqa.jsonl"))


class Catalog:
    """Remembers what was registered."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}
        self.imports = 0

    def model(self, name: str) -> dict[str, str]:
        if name not in self.paths:
            raise NotFoundError(f"no {name}")
        return {"path": self.paths[name]}

    dataset = model

    def import_model(self, path: str, name: str, licence: str) -> None:
        self.paths[name] = path
        self.imports += 1

    import_dataset = import_model


def test_the_wish_is_one_the_engine_accepts() -> None:
    spec = parse_spec(demo.demo_spec(1))
    assert isinstance(spec, TrainSpec)
    assert (spec.max_steps, spec.checkpoint_every, spec.tags) == (1, 1, ["demo"])


def test_model_and_data_are_registered_once_and_again_when_they_lie_elsewhere() -> None:
    catalog = Catalog()
    for expected, assets in ((2, ASSETS), (2, ASSETS), (3, ASSETS._replace(model=Path("/other/model")))):
        demo.register(catalog, assets, lambda text: None)  # type: ignore[arg-type]
        assert catalog.imports == expected


def test_only_a_demo_that_lives_is_joined() -> None:
    class Engine:
        def runs(self, state: str, kind: str) -> dict[str, Any]:
            assert "succeeded" not in state
            return {"runs": [{"id": "train-mine-0002", "tags": []}, {"id": "train-fiqa-0001", "tags": ["demo"]}]}

    assert demo.running_demo(Engine()) == "train-fiqa-0001"  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_the_result_says_what_was_won_and_what_to_do_next(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    summary = {"eval_loss_before": 3.0, "eval_loss_after": 2.5, "tokens_per_second": 80.4, "steps": 24, "adapter": "artifacts/adapter"}

    class Engine:
        def run_events(self, run_id: str, types: list[str]) -> list[dict[str, Any]]:
            return [{"offset": 1, "type": "end", "summary": summary if state == "succeeded" else {}}]

    detail = {"id": "train-fiqa-0001", "state": state, "reason": "why", "started_at": 0.0, "ended_at": 300.0, "directory": "/runs/x"}
    demo._print_result(Engine(), detail)  # type: ignore[arg-type]
    out = capsys.readouterr().out
    if state == "succeeded":
        assert f"perplexity  {math.exp(3.0):.2f} -> {math.exp(2.5):.2f}" in out
        assert "/runs/x/artifacts/adapter" in out
        assert "llmops-tui run evaluate" in out
    else:
        assert "failed in 5m00s: why" in out
        assert "runs logs train-fiqa-0001" in out
