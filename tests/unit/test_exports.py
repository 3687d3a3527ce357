"""Exports are read back by readers that share nothing with the writers but the format."""

from __future__ import annotations

import csv
import json
import math
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from llmops_tui.commands.unpacking import unpack
from llmops_tui.data.event_lines import parse
from llmops_tui.data.event_store import EventStore, open_position
from llmops_tui.data.masking import without_secrets
from llmops_tui.data.store import Store
from llmops_tui.engine.export.content import Content
from llmops_tui.engine.export.pack import pack
from llmops_tui.engine.foreign.tfevents import read_events
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.specs.run_config import flatten
from llmops_tui.specs.settings import EngineSettings
from tests.tui.fake import summary

STEPS = [*range(5), 127, 128, 16383, 16384, 2**33]
SPEC = {"kind": "command", "argv": ["a", "b"], "env": {"HF_TOKEN": "hf_secret", "N": "1"}, "optim": {"learning_rate": 0.1}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(tmp_path_factory.mktemp("db") / "x.duckdb", EngineSettings())
    lines = [
        {"t": 1000 + n, "attempt": 1, "type": "metric", "step": step, "values": {"train/loss": 1 / (n + 1), "train": 2.5}}
        for n, step in enumerate(STEPS)
    ]
    lines.append({"t": 2000, "attempt": 2, "type": "metric", "step": 4, "values": {"train/loss": "NaN", "../../odd é": 7.0}})
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    position = store.write(lambda con: open_position(con, "command-x-0001")).result()
    batch = parse(data, 0, now=time.time())
    store.write(lambda con: EventStore().write(con, [(position, batch)])).result()
    yield store
    store.close()


def exported(store: Store, form: str, tmp_path: Path) -> Path:
    run = summary(
        "command-x-0001",
        "succeeded",
        submitted_at=900.0,
        started_at=950.0,
        ended_at=3000.0,
        latest={"train": 2.5, "train/loss": math.nan, "../../odd é": 7.0},
    )
    archive = pack(store, Content(run, flatten(without_secrets(SPEC))), form, tmp_path)  # type: ignore[arg-type]
    unpack(archive.read_bytes(), tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))
    text = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"hf_secret" not in text
    return tmp_path / "out"


def test_a_tensorboard_file_holds_every_step_of_the_newest_attempt(store: Store, tmp_path: Path) -> None:
    (file,) = exported(store, "tensorboard", tmp_path).iterdir()
    stretch = read_events(file, 0)
    assert (stretch.problem, stretch.end) == ("", file.stat().st_size)
    loss = {reading.step: reading.values["train/loss"] for reading in stretch.readings if "train/loss" in reading.values}
    assert list(loss) == STEPS
    assert math.isnan(loss[4])
    assert loss[2**33] == pytest.approx(1 / 10)
    assert [reading.t for reading in stretch.readings if reading.step == 128] == [1006.0, 1006.0]


def test_an_mlflow_store_holds_metrics_settings_and_state_and_no_name_leaves_it(store: Store, tmp_path: Path) -> None:
    (experiment,) = exported(store, "mlflow", tmp_path).iterdir()
    assert yaml.safe_load((experiment / "meta.yaml").read_text())["name"] == "llmops-tui"
    (run,) = (path for path in experiment.iterdir() if path.is_dir())
    meta = yaml.safe_load((run / "meta.yaml").read_text())
    assert (meta["run_id"], meta["status"], meta["start_time"], meta["end_time"]) == (run.name, 3, 950_000, 3_000_000)
    written = {str(path.relative_to(run / "metrics")): path.read_text() for path in (run / "metrics").rglob("*") if path.is_file()}
    loss = [line.split() for line in written.pop("train/loss").splitlines()]
    assert [int(step) for _, _, step in loss] == STEPS
    assert loss[4] == ["2000000", "nan", "4"]
    assert sorted(name.partition(".")[0] for name in written) == ["_/_/odd é", "train"]
    assert (run / "params" / "optim.learning_rate").read_text() == "0.1"
    assert (run / "params" / "env.HF_TOKEN").read_text() == "***"
    assert (run / "tags" / "mlflow.runName").read_text() == "command-x-0001"


def test_csv_is_long_with_every_attempt_and_wide_with_the_newest(store: Store, tmp_path: Path) -> None:
    out = exported(store, "csv", tmp_path)
    with open(out / "long.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "train/loss" and row["step"] == "4"]
    assert [(row["value"], row["attempt"]) for row in rows] == [("0.2", "1"), ("nan", "2")]
    with open(out / "wide.csv", newline="") as file:
        wide = {row["step"]: row for row in csv.DictReader(file)}
    assert [int(step) for step in wide] == STEPS
    assert (wide["4"]["train/loss"], wide["4"]["train"], wide["4"]["../../odd é"], wide["3"]["../../odd é"]) == ("nan", "2.5", "7.0", "")
    facts = json.loads((out / "run.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert facts["config"]["optim.learning_rate"] == 0.1
    assert facts["run"]["latest"]["train/loss"] == "nan"


def test_nothing_is_overwritten_and_a_broken_archive_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    empty = tmp_path / "empty.tar"
    with tarfile.open(empty, "w"):
        pass
    with pytest.raises(ConflictError, match="there already"):
        unpack(empty.read_bytes(), tmp_path / "there")
    with pytest.raises(LlmopsError):
        unpack(b"no tar", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.tar", "there"]
