"""What a model was made from is told back to what was imported, from records and runs, also where parts have gone."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.commands.models_lineage import lineage_lines
from llmops_tui.data import models
from llmops_tui.data.durable import write_json
from llmops_tui.data.lineage import lineage
from llmops_tui.data.rundir import RunDir
from llmops_tui.errors import NotFoundError
from llmops_tui.paths import Home
from tests.catalog_files import write_adapter, write_model


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """smollm imported, fiqa trained on it by a run, merged by another."""
    home = Home(tmp_path / "home", explicit=True)
    base = models.register_model(home, "smollm", write_model(tmp_path / "smollm"), licence="apache-2.0")
    rows = {"name": "fiqa", "version": 2, "path": "/data/fiqa.jsonl", "rows": 648, "licence": "mit", "sha256": "d" * 64}
    train = RunDir(home.runs / "train-fiqa-0001")
    adapter = write_adapter(train.artifacts / "adapter", base["path"])
    spec = {"kind": "train", "method": "sft", "adaptation": "lora"}
    write_json(
        train.spec,
        {
            "id": train.id,
            "spec": spec,
            "prepared": {
                "model": {**base, "ref": "smollm"},
                "dataset": rows,
                "eval_dataset": None,
                "rehearsal": [{**rows, "name": "chat"}],
            },
        },
    )
    tuned = models.register_artifact(home, train, {"artifact": "model", "name": "fiqa", "path": "artifacts/adapter", "base": base["path"]})
    assert tuned is not None
    merge = RunDir(home.runs / "merge-fiqa-0002")
    write_model(merge.artifacts / "model", seed=3)
    write_json(merge.spec, {"id": merge.id, "spec": {"kind": "merge"}, "prepared": {}})
    parents = [{"role": "adapter", **tuned, "path": str(adapter)}, {"role": "base", **base}]
    checks = [{"name": "chat template", "verdict": "passed", "words": "as its source"}]
    event: dict[str, Any] = {
        "artifact": "model", "name": "whole", "path": "artifacts/model", "base": base["path"],
        "lineage": {"how": "merge", "parents": parents}, "checks": checks,
    }  # fmt: skip
    whole = models.register_artifact(home, merge, event)
    assert whole is not None
    assert whole["checks"] == checks
    return home


def test_every_generation_is_told_with_its_rows_run_licence_and_template(home: Home, tmp_path: Path) -> None:
    tree = lineage(home, "whole", tmp_path)
    assert (tree["reference"], tree["how"], tree["run"]) == ("whole@v1", "merge", "merge-fiqa-0002")
    adapter, base = tree["parents"]
    assert (adapter["reference"], adapter["role"], adapter["how"], adapter["run"]) == (
        "fiqa@v1",
        "adapter",
        "train sft lora",
        "train-fiqa-0001",
    )
    assert [(rows["role"], rows["name"], rows["rows"]) for rows in adapter["data"]] == [
        ("learnt", "fiqa", 648),
        ("rehearsed", "chat", 648),
    ]
    assert (base["reference"], base["how"], base["licence"]) == ("smollm@v1", "import", "apache-2.0")
    assert adapter["parents"][0]["reference"] == "smollm@v1"
    assert adapter["template_sha256"] == sha256(b"{{ messages }}").hexdigest()
    assert tree["licence_from_parents"] == ["apache-2.0"]
    assert [node["problems"] for node in (tree, adapter, base)] == [[], [], []]


def test_the_tree_reads_in_plain_lines(home: Home, tmp_path: Path) -> None:
    lines = list(lineage_lines(lineage(home, "whole@v1", tmp_path)))
    assert lines[0] == "whole@v1  full, merge (merge-fiqa-0002)"
    assert "    adapter: fiqa@v1  adapter, train sft lora (train-fiqa-0001)" in lines
    assert f"      data      fiqa@v2 (learnt, 648 rows, {'d' * 12}, mit)" in lines
    assert "        base: smollm@v1  full, import" in lines
    assert "  licence   not stated; apache-2.0 above it" in lines
    assert all(line.isascii() for line in lines)


def test_what_has_gone_or_changed_is_a_problem_and_the_rest_still_told(home: Home, tmp_path: Path) -> None:
    shutil.rmtree(home.runs / "train-fiqa-0001")
    adapter, base = lineage(home, "whole", tmp_path)["parents"]
    assert "train-fiqa-0001 has been removed" in adapter["problems"]
    assert any("has gone" in problem for problem in adapter["problems"])
    write_model(tmp_path / "smollm", seed=9)
    models.register_model(home, "smollm", tmp_path / "smollm")
    assert lineage(home, "whole", tmp_path)["parents"][1]["problems"] == [
        "it has changed since: another digest is registered for this path"
    ]
    assert base["problems"] == []


def test_an_adapter_found_on_disk_names_its_base_and_a_circle_ends(home: Home, tmp_path: Path) -> None:
    write_adapter(tmp_path / "loose", str(tmp_path / "loose"))
    tree = lineage(home, "./loose", tmp_path)
    assert [parent["path"] for parent in tree["parents"]] == [str(tmp_path / "loose")]
    assert tree["parents"][0]["parents"] == []
    with pytest.raises(NotFoundError):
        lineage(home, "nobody", tmp_path)
