"""Models are recognised by their headers, named once for each content, and refused when they cannot be loaded."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from llmops_tui.data import models
from llmops_tui.data.model_files import recognise
from llmops_tui.data.rundir import RunDir
from llmops_tui.errors import LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from tests.catalog_files import write_adapter, write_gguf, write_model, write_safetensors


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "LLMOPS_MODEL_DIRS", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    return Home(tmp_path / "home", explicit=True)


def test_a_full_model_tells_its_size_type_and_context(tmp_path: Path) -> None:
    found = recognise(write_model(tmp_path / "m"))
    assert (found.format, found.complete, found.problems) == ("full", True, [])
    assert (found.architecture, found.parameters, found.dtype, found.context_length) == ("LlamaForCausalLM", 192, "float32", 2048)
    assert found.chat_template
    assert found.tokenizer


def test_a_model_directory_without_weights_says_which_file_is_missing(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    (path / "model.safetensors").unlink()
    assert recognise(path).missing == ["holds no weights: model.safetensors is missing"]


def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    assert "can run code when loaded" in recognise(path).missing[0]


def test_every_shard_of_the_index_must_be_there_and_whole(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    (path / "model.safetensors").rename(path / names[0])
    whole = write_safetensors(path / names[1], {"b.weight": (64, 64)}).read_bytes()
    (path / names[1]).write_bytes(whole[:-100])
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(zip("abc", names, strict=True))}))
    missing = recognise(path).missing
    assert missing[0].startswith(f"{names[1]} is cut off")
    assert missing[1] == f"{names[2]} is missing"


def test_a_git_lfs_pointer_is_no_weights_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    (path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert "Git LFS pointer" in recognise(path).missing[0]


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x10" + b"\0" * 7 + b"not json at all!", b"\x02" + b"\0" * 7 + b"[]"])
def test_garbage_where_weights_should_be_is_named_and_never_raised(tmp_path: Path, content: bytes) -> None:
    path = write_model(tmp_path / "m")
    (path / "model.safetensors").write_bytes(content)
    assert recognise(path).missing[0].startswith("model.safetensors ")


def test_a_config_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    (path / "config.json").write_text("{")
    assert recognise(path).missing == ["config.json is not a JSON object"]


def test_an_adapter_tells_its_base_and_rank(tmp_path: Path) -> None:
    found = recognise(write_adapter(tmp_path / "a", "/models/base"))
    assert (found.format, found.base, found.architecture, found.complete) == ("adapter", "/models/base", "LORA r=4 alpha=8", True)


def test_a_gguf_file_tells_its_metadata_without_its_weights(tmp_path: Path) -> None:
    found = recognise(write_gguf(tmp_path / "m.gguf"))
    assert (found.format, found.complete, found.architecture, found.dtype) == ("gguf", True, "llama", "Q8_0")
    assert (found.parameters, found.context_length, found.licence, found.chat_template) == (64, 4096, "apache-2.0", True)


def test_a_gguf_file_cut_off_anywhere_is_incomplete_and_never_raised(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "m.gguf").read_bytes()
    for length in range(4, len(whole)):
        (tmp_path / "m.gguf").write_bytes(whole[:length])
        assert not recognise(tmp_path / "m.gguf").complete, length


def test_a_missing_shard_of_a_gguf_model_is_named(tmp_path: Path) -> None:
    found = recognise(write_gguf(tmp_path / "m-00001-of-00002.gguf"))
    assert found.missing == ["m-00002-of-00002.gguf is missing"]


def test_the_licence_comes_from_the_model_card_or_the_licence_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    (path / "LICENSE").write_text("Apache License\nVersion 2.0")
    assert recognise(path).licence == "apache-2.0"
    (path / "README.md").write_text("---\nlanguage: en\nlicense: MIT\n---\n")
    assert recognise(path).licence == "mit"


def test_a_registered_model_is_found_by_name_version_and_alias(home: Home, tmp_path: Path) -> None:
    first = models.register_model(home, "small", write_model(tmp_path / "a"), licence="apache-2.0")
    second = models.register_model(home, "small", write_model(tmp_path / "b", seed=1))
    (home.models / "small" / "aliases.json").write_text('{"champion": 1}')
    assert (first["version"], second["version"]) == (1, 2)
    assert models.get_model(home, "small")["version"] == 2
    assert models.get_model(home, "small@v1")["licence"] == "apache-2.0"
    champion = models.get_model(home, "small@champion")
    assert (champion["version"], champion["aliases"]) == (1, ["champion"])
    assert [info["version"] for info in models.list_models(home)] == [2, 1]


def test_the_same_content_under_a_name_is_one_version_and_a_readme_changes_nothing(home: Home, tmp_path: Path) -> None:
    first = models.register_model(home, "small", write_model(tmp_path / "a"))
    copy = write_model(tmp_path / "copy")
    (copy / "README.md").write_text("hello")
    assert models.register_model(home, "small", copy) == first


def test_a_version_follows_its_files_when_they_moved(home: Home, tmp_path: Path) -> None:
    models.register_model(home, "small", write_model(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert models.get_model(home, "small")["problems"] == ["no such file or directory"]
    moved = models.register_model(home, "small", tmp_path / "b")
    assert (moved["version"], moved["path"], moved["complete"]) == (1, str(tmp_path / "b"), True)


def test_what_cannot_be_loaded_gets_no_name(home: Home, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    (path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="holds no weights"):
        models.register_model(home, "small", path)
    with pytest.raises(NotFoundError):
        models.register_model(home, "small", tmp_path / "none")
    assert models.list_models(home) == []


def test_a_model_that_is_nowhere_is_not_found(home: Home, tmp_path: Path) -> None:
    for ref in ("nobody", "nobody@v1", "org/nobody", "./nobody", "/nobody"):
        with pytest.raises(NotFoundError):
            models.get_model(home, ref, tmp_path)


def test_resolving_an_incomplete_model_says_what_is_missing(home: Home, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    (path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model '\./a': .*holds no weights"):
        models.resolve(home, "./a", tmp_path)


def test_a_damaged_record_is_named_with_the_way_out(home: Home, tmp_path: Path) -> None:
    models.register_model(home, "small", write_model(tmp_path / "a"))
    (home.models / "small" / "v1.json").write_text("{")
    with pytest.raises(LlmopsError, match=r"v1\.json: the record is damaged; restore it"):
        models.get_model(home, "small")


def test_registering_at_once_never_clobbers_a_version(home: Home, tmp_path: Path) -> None:
    paths = [write_model(tmp_path / str(number), seed=number % 4) for number in range(12)]
    threads = [threading.Thread(target=models.register_model, args=(home, "small", path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = models.list_models(home)
    assert sorted(info["version"] or 0 for info in listed) == [1, 2, 3, 4]
    assert len({info["sha256"] for info in listed}) == 4


def test_a_runs_adapter_is_registered_with_its_lineage_once(home: Home) -> None:
    run = RunDir(home.runs / "train-fiqa-0001")
    write_adapter(run.artifacts / "adapter", "/models/base")
    event = {
        "type": "artifact",
        "artifact": "model",
        "name": "Fiqa Tuned",
        "path": "artifacts/adapter",
        "format": "adapter",
        "base": "small@v1",
    }
    info = models.register_artifact(home, run, event)
    assert info is not None
    assert (info["name"], info["version"], info["run"], info["base"], info["source"]) == ("fiqa-tuned", 1, run.id, "small@v1", "run")
    assert models.register_artifact(home, run, event) == info
    record = json.loads((home.models / "fiqa-tuned" / "v1.json").read_text())
    assert record["lineage"] == {"run": run.id, "base": "small@v1"}


def test_an_artifact_outside_its_run_directory_is_refused(home: Home, tmp_path: Path) -> None:
    run = RunDir(home.runs / "train-fiqa-0001")
    write_model(tmp_path / "elsewhere")
    for path in ("../../../elsewhere", str(tmp_path / "elsewhere"), ""):
        with pytest.raises(UsageError, match="outside the run directory"):
            models.register_artifact(home, run, {"artifact": "model", "path": path, "name": "x"})


def test_another_artifact_is_no_model(home: Home) -> None:
    assert models.register_artifact(home, RunDir(home.runs / "train-a-0001"), {"artifact": "report", "path": "a"}) is None
