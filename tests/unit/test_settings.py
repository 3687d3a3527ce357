"""config.toml: what is refused before an engine starts with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.errors import UsageError
from llmops_tui.specs.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[engine]\ndatabase_memory = "0KB"', "engine.database_memory: must be at least 64MB"),
        ('[engine]\ndatabase_memory = "0.001 GiB"', "engine.database_memory: must be at least 64MB"),
        ("[engine]\ndatabase_threads = 100000", "engine.database_threads: should be less than or equal to 256"),
        ("[engine]\ncpu_slots = 99999999999999999999", "engine.cpu_slots"),
        ("[engine]\nsample_seconds = nan", "engine.sample_seconds"),
        ("[engine]\nfoo = 1", "engine.foo: unknown key"),
        ('[gpus]\nprobe = "cuda"', "gpus.probe"),
        ("engine = 3", "engine: "),
        ("x =", "not valid TOML"),
    ],
)
def test_a_setting_that_would_harm_the_engine_is_refused_by_its_name(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_settings(file)
    assert message in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.next_step


def test_a_directory_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "none.toml") == Settings()
