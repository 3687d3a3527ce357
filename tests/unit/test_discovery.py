"""Models are found where other tools keep them, each once, broken ones with their reason, and nothing is written there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_tui.data.discovery import discover, hub_cache
from llmops_tui.data.recognition import Recogniser
from tests.catalog_files import write_adapter, write_gguf, write_model


def found(home: Path, **environment: str) -> dict[str, dict[str, object]]:
    recogniser = Recogniser(home / "cache")
    models = discover(recogniser, {"HOME": str(home), **environment})
    recogniser.save()
    return {info["name"]: dict(info) for info in models if not info["path"].startswith("/models")}


def hub_snapshot(home: Path, revision: str, seed: int = 0) -> Path:
    """A snapshot as huggingface_hub lays it out: links into blobs."""
    repository = home / ".cache" / "huggingface" / "hub" / "models--org--Some-Model"
    snapshot = write_model(repository / "snapshots" / revision, seed=seed)
    blob = repository / "blobs" / f"{seed:064x}"
    blob.parent.mkdir(exist_ok=True)
    (snapshot / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to(blob)
    return snapshot


def test_a_hub_cache_lists_its_revisions_and_names_main_plainly(tmp_path: Path) -> None:
    main, old = "a" * 40, "b" * 40
    hub_snapshot(tmp_path, main)
    hub_snapshot(tmp_path, old, seed=1)
    refs = tmp_path / ".cache/huggingface/hub/models--org--Some-Model/refs"
    refs.mkdir()
    (refs / "main").write_text(main)
    models = found(tmp_path)
    assert sorted(models) == ["org/Some-Model", "org/Some-Model:bbbbbbbb"]
    assert (models["org/Some-Model"]["source"], models["org/Some-Model"]["complete"]) == ("hub", True)


def test_a_dangling_link_and_an_unfinished_download_are_told(tmp_path: Path) -> None:
    snapshot = hub_snapshot(tmp_path, "a" * 40)
    blob = (snapshot / "model.safetensors").resolve()
    blob.rename(blob.with_name(blob.name + ".incomplete"))
    info = found(tmp_path)["org/Some-Model"]
    assert info["complete"] is False
    assert info["problems"] == ["model.safetensors is a link whose target is gone", "a download is unfinished"]


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/home/ann"}, "/home/ann/.cache/huggingface/hub"),
    ],
)
def test_the_hub_cache_is_where_the_hubs_own_library_looks(environment: dict[str, str], path: str) -> None:
    assert hub_cache(environment) == Path(path)


def test_plain_directories_adapters_and_gguf_files_are_found_below_the_named_roots(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "tiny")
    write_adapter(tmp_path / "disk" / "team" / "adapter", "tiny")
    write_gguf(tmp_path / "disk" / "quant" / "tiny-Q8_0.gguf")
    write_gguf(tmp_path / "disk" / "quant" / "mmproj-tiny.gguf", seed=3)
    models = found(tmp_path, LLMOPS_MODEL_DIRS=str(tmp_path / "disk"))
    assert {name: info["format"] for name, info in models.items()} == {"tiny": "full", "team/adapter": "adapter", "quant/tiny-Q8_0": "gguf"}


def test_a_config_of_another_program_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "models" / "tool").mkdir(parents=True)
    (tmp_path / "models" / "tool" / "config.json").write_text('{"theme": "dark"}')
    assert found(tmp_path) == {}


def test_ollama_blobs_are_named_by_their_manifest(tmp_path: Path) -> None:
    root = tmp_path / ".ollama" / "models"
    write_gguf(root / "blobs" / "sha256-abc")
    manifest = root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "8b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:abc"}]}))
    (manifest.parent / "broken").write_text("{")
    assert {name: info["source"] for name, info in found(tmp_path).items()} == {"tiny:8b": "ollama"}


def test_lm_studio_models_are_found_where_its_settings_say(tmp_path: Path) -> None:
    write_gguf(tmp_path / "big-disk" / "publisher" / "tiny" / "tiny.gguf")
    settings = tmp_path / ".lmstudio" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"downloadsFolder": str(tmp_path / "big-disk")}))
    assert list(found(tmp_path)) == ["publisher/tiny/tiny"]


def test_the_same_weights_under_two_names_are_one_row(tmp_path: Path) -> None:
    original = write_gguf(tmp_path / "models" / "a.gguf")
    os.link(original, tmp_path / "models" / "b.gguf")
    (tmp_path / "models" / "c.gguf").symlink_to(original)
    assert len(found(tmp_path)) == 1


def test_a_link_out_of_a_root_is_followed_and_told(tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "linked").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path)["linked"]["problems"] == [f"a link to {tmp_path / 'elsewhere'}"]


def test_a_link_that_leads_back_into_its_root_ends_the_search(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "tiny")
    (tmp_path / "models" / "loop").symlink_to(tmp_path / "models")
    assert len(found(tmp_path)) == 1


def test_a_second_look_reads_no_header_again_and_sees_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "models" / "tiny")
    first = found(tmp_path)
    looked: list[Path] = []
    monkeypatch.setattr("llmops_tui.data.recognition.recognise", lambda path: looked.append(path))
    assert found(tmp_path) == first
    assert looked == []
    monkeypatch.undo()
    (path / "model.safetensors").unlink()
    assert found(tmp_path)["tiny"]["complete"] is False


def test_a_cache_file_of_garbage_is_ignored(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "tiny")
    (tmp_path / "cache").mkdir()
    for garbage in ("{", "[]", '{"/x": ["a", {}]}', '{"/x": 3}', '{"/x": [1]}'):
        (tmp_path / "cache" / "recognised.json").write_text(garbage)
        assert list(found(tmp_path)) == ["tiny"]


def test_the_catalog_loads_no_training_library() -> None:
    script = (
        "import sys; import llmops_tui.data.models, llmops_tui.data.datasets, llmops_tui.engine.preflight; "
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'pandas', 'datasets', 'duckdb') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"
