"""A digest is of the content, is computed once, and is computed again when the file changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from llmops_tui.data import hashing
from llmops_tui.data.hashing import HashCache, sha256_file


def settled(path: Path, content: bytes, age_seconds: int = 60) -> Path:
    """A file whose time stamp is old enough for its digest to be remembered."""
    path.write_bytes(content)
    then = path.stat().st_mtime - age_seconds
    os.utime(path, (then, then))
    return path


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    reads: list[Path] = []

    def counting(path: Path, progress: object = None) -> str:
        reads.append(path)
        return sha256_file(path)

    monkeypatch.setattr(hashing, "sha256_file", counting)
    return reads


def test_the_digest_is_sha256_of_the_content_and_progress_counts_every_byte(tmp_path: Path) -> None:
    content = b"x" * (9 << 20)
    steps: list[int] = []
    assert sha256_file(settled(tmp_path / "a", content), steps.append) == hashlib.sha256(content).hexdigest()
    assert sum(steps) == len(content)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = count_reads(monkeypatch)
    path = settled(tmp_path / "a", b"one")
    first = HashCache(tmp_path / "cache").file(path)
    assert HashCache(tmp_path / "cache").file(path) == first
    assert len(reads) == 1
    assert HashCache(tmp_path / "cache").file(settled(path, b"two", age_seconds=30)) != first
    assert len(reads) == 2


def test_a_file_written_just_now_is_not_remembered_for_it_may_change_within_its_time_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = count_reads(monkeypatch)
    path = settled(tmp_path / "a", b"one", age_seconds=-60)
    for _ in range(2):
        HashCache(tmp_path / "cache").file(path)
    assert len(reads) == 2


@pytest.mark.parametrize("garbage", ["{", "[]", '{"/x": 3}'])
def test_a_damaged_memory_costs_time_and_nothing_else(tmp_path: Path, garbage: str) -> None:
    path = settled(tmp_path / "a", b"one")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "hashes.json").write_text(garbage.replace("/x", str(path)))
    assert HashCache(tmp_path / "cache").file(path) == hashlib.sha256(b"one").hexdigest()


def test_a_memory_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    assert HashCache(tmp_path / "cache").file(settled(tmp_path / "a", b"one")) == hashlib.sha256(b"one").hexdigest()


def test_the_digest_of_several_files_depends_on_names_and_contents_not_on_their_order(tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache")
    one, two = settled(tmp_path / "one", b"1"), settled(tmp_path / "two", b"2")
    digest = cache.files([one, two], tmp_path)
    assert cache.files([two, one], tmp_path) == digest
    one.rename(tmp_path / "uno")
    assert cache.files([tmp_path / "uno", two], tmp_path) != digest
    assert cache.files([two], tmp_path) == hashlib.sha256(b"2").hexdigest()


def test_a_hub_caches_blob_is_named_by_its_digest(tmp_path: Path) -> None:
    name = "ab" * 32
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"a large file")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / name)
    assert HashCache(tmp_path / "cache").file(tmp_path / "model.safetensors") == name
