"""Which ways of adapting a model are refused before the start, and what a run of each will write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.model_files import ModelFiles
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.preflight_adaptation import Box, adaptation_warnings, check_adaptation, this_box
from llmops_tui.errors import UsageError
from llmops_tui.specs.train import TrainSpec

READY = Box(bitsandbytes=True, torch_version="2.13.0+cu130", nvidia=True)


def wish(**fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": "m", "dataset": {"path": "rows.jsonl"}, **fields})


@pytest.mark.parametrize(
    ("box", "fields", "said"),
    [
        (Box(True, "2.13.0+cu130", nvidia=False), {}, "this box has none"),
        (Box(False, "2.13.0+cu130", nvidia=True), {}, "bitsandbytes, which is not installed"),
        (Box(True, "2.13.0+cpu", nvidia=True), {}, r"torch with CUDA, and 2\.13\.0\+cpu is without"),
        (READY, {"resources": {"gpus": 0}}, "resources.gpus is 0"),
    ],
)
def test_qlora_is_refused_in_one_line_where_the_box_cannot(box: Box, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        check_adaptation(wish(adaptation="qlora", **fields), ModelFiles(Path("m")), box)
    assert caught.value.fields == [{"field": "adaptation", "message": caught.value.message.removeprefix("adaptation: ")}]
    assert "adaptation=lora" in str(caught.value)
    assert "\n" not in str(caught.value)
    check_adaptation(wish(**fields), ModelFiles(Path("m")), box)  # lora asks for none of it


def test_qlora_is_let_through_where_everything_is_there() -> None:
    check_adaptation(wish(adaptation="qlora"), ModelFiles(Path("m")), READY)


def test_the_driver_is_seen_by_its_node(tmp_path: Path) -> None:
    assert not this_box([tmp_path / "nvidiactl"]).nvidia
    (tmp_path / "nvidiactl").touch()
    assert this_box([tmp_path / "nvidiactl"]).nvidia


@pytest.mark.parametrize(("adaptation", "refused"), [("full", True), ("qlora", True), ("lora", False), ("dora", False)])
def test_weights_stored_quantized_are_the_base_of_an_adapter_alone(adaptation: str, refused: bool) -> None:
    files = ModelFiles(Path("m"), config={"quantization_config": {"quant_method": "gptq"}})
    if not refused:
        check_adaptation(wish(adaptation=adaptation), files, READY)
        return
    with pytest.raises(UsageError, match="stored quantized"):
        check_adaptation(wish(adaptation=adaptation), files, READY)


def test_an_adapters_learning_rate_is_warned_of_where_every_weight_is_trained() -> None:
    assert adaptation_warnings(wish()) == []
    assert adaptation_warnings(wish(adaptation="full", optim={"learning_rate": 2e-5})) == []
    assert "1e-5 to 5e-5" in adaptation_warnings(wish(adaptation="full"))[0]


def test_a_full_checkpoint_holds_the_weights_and_two_moments_of_every_one_of_them() -> None:
    shapes, parameters = [(100, 100), (400, 100)], 10_000_000
    full, kept = wish(adaptation="full"), wish(adaptation="full", keep_checkpoints=3)
    one = disk_forecast.train_bytes(kept, shapes, parameters) - disk_forecast.train_bytes(full, shapes, parameters)
    assert 12 * parameters <= one <= 12 * parameters + (8 << 20)
    # DoRA has a magnitude more for each output.
    plain, dora = (wish(adaptation=name, lora={"r": 8}) for name in ("lora", "dora"))
    more = disk_forecast.train_bytes(dora, shapes, parameters) - disk_forecast.train_bytes(plain, shapes, parameters)
    assert more == 500 * (12 * 3 + 4)
