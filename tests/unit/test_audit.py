"""The audit log: what stands in it, what a hand in it does, and what a full disk and a power cut leave."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_tui.engine.audit import AuditLog
from llmops_tui.engine.people import Person
from llmops_tui.engine.permissions import Deed
from llmops_tui.errors import InsufficientResourcesError

ADA = Person("ada", 1001, "operator")
SUBMIT = Deed("submit", "operator", detail={"kind": "train"})
STOP = Deed("stop", "operator", run="train-a-0001", target="train-a-0001")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def filled(path: Path, changes: int = 3) -> AuditLog:
    audit = AuditLog(path)
    for number in range(changes):
        audit.close(audit.begin(ADA, SUBMIT), "ok", target=f"train-a-{number:04d}")
    return audit


def test_a_change_is_noted_before_it_is_made_and_closed_with_what_came_of_it(path: Path) -> None:
    audit = AuditLog(path)
    ticket = audit.begin(ADA, SUBMIT)
    assert [entry["outcome"] for entry in audit.read()] == ["under way"]
    audit.close(ticket, "ok", target="train-a-0001")
    audit.refuse(ADA, STOP, "it belongs to bob")
    noted = audit.read()
    assert [(entry["n"], entry["action"], entry["target"], entry["outcome"]) for entry in noted] == [
        (1, "submit", "train-a-0001", "ok"),
        (3, "stop", "train-a-0001", "refused"),
    ]
    assert (noted[0]["user"], noted[0]["uid"], noted[0]["role"], noted[0]["detail"]) == ("ada", 1001, "operator", {"kind": "train"})
    assert noted[1]["reason"] == "it belongs to bob"


def test_entries_are_found_by_run_user_time_and_number(path: Path) -> None:
    audit = filled(path)
    assert [entry["n"] for entry in audit.read(run="train-a-0001")] == [3]
    assert len(audit.read(user="ada")) == len(audit.read(user="1001")) == 3
    assert audit.read(user="bob") == []
    assert [entry["n"] for entry in audit.read(after=1)] == [3, 5]
    assert [entry["n"] for entry in audit.read(limit=2)] == [1, 3]
    assert [entry["n"] for entry in audit.read(limit=2, newest=True)] == [3, 5]
    assert audit.read(since=audit.read()[-1]["t"] + 1) == []


def test_a_change_that_its_engine_did_not_outlive_is_unknown(path: Path) -> None:
    AuditLog(path).begin(ADA, SUBMIT)
    again = AuditLog(path)
    assert [entry["outcome"] for entry in again.read()] == ["unknown"]
    again.close(again.begin(ADA, SUBMIT), "ok")
    assert again.verify()["good"]


def change_a_word(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b"train-a-0000", b"train-a-0009"), *lines[2:]]


def change_the_last_word(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1].replace(b"train-a-0002", b"train-a-0009")]


def repair_the_chain(lines: list[bytes]) -> list[bytes]:
    """Somebody who knows how the lines are chained, and not of the noted end."""
    import hashlib

    made, digest = [], "0" * 64
    for number, line in enumerate(lines[2:], 1):
        value = {**json.loads(line), "n": number, "prev": digest}
        made.append(json.dumps(value, separators=(",", ":")).encode())
        digest = hashlib.sha256(made[-1]).hexdigest()
    return made


@pytest.mark.parametrize(
    ("tamper", "line"),
    [
        (change_a_word, 3),
        (change_the_last_word, 6),
        (lambda lines: lines[1:], 1),
        (lambda lines: lines[:2] + lines[3:], 3),
        (lambda lines: lines[:-1], 6),
        (lambda lines: lines[:-2], 5),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: lines[:3] + lines[2:], 4),
        (lambda lines: [*lines[:2], b"not json", *lines[3:]], 3),
        (repair_the_chain, 5),
        (lambda lines: [], 1),
    ],
)
def test_a_line_that_was_changed_removed_moved_or_added_is_found(
    path: Path, tamper: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    assert filled(path).verify() == {"lines": 6, "good": True, "line": None, "problem": ""}
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(one + b"\n" for one in tamper(lines)))
    found = AuditLog(path).verify()
    assert (found["good"], found["line"]) == (False, line)
    assert found["problem"]


def test_what_was_tampered_with_stays_found_after_more_was_written(path: Path) -> None:
    filled(path)
    path.write_bytes(b"".join(line + b"\n" for line in change_a_word(path.read_bytes().splitlines())))
    again = filled(path)
    assert not again.verify()["good"]
    assert len(again.read()) == 6, "the log goes on all the same"


def test_a_torn_last_line_is_taken_off_and_the_chain_goes_on(path: Path) -> None:
    filled(path)
    with path.open("ab") as file:
        file.write(b'{"n":7,"t":17954')
    assert AuditLog(path).verify()["good"], "it was never answered for"
    again = filled(path, 1)
    assert again.verify() == {"lines": 8, "good": True, "line": None, "problem": ""}


def test_a_crash_between_a_line_and_its_note_is_no_tampering(path: Path) -> None:
    filled(path, 2)
    head = path.with_name("audit.head").read_bytes()
    audit = AuditLog(path)
    audit.refuse(ADA, STOP, "no")
    path.with_name("audit.head").write_bytes(head)
    assert AuditLog(path).verify()["good"]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A disk that takes half a line while the list is not empty."""
    full = [True]
    really_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        return really_write(descriptor, data[: len(data) // 2] if full else data)

    monkeypatch.setattr("llmops_tui.engine.audit.os.write", write)
    return full


def test_on_a_full_disk_nothing_is_changed_but_what_makes_room_and_that_is_noted_later(path: Path, full_disk: list[bool]) -> None:
    audit = AuditLog(path)
    with pytest.raises(InsufficientResourcesError, match="nothing was changed: the audit log cannot be written"):
        audit.begin(ADA, SUBMIT)
    assert path.read_bytes() == b"", "no half line is left"
    audit.close(audit.begin(ADA, STOP), "ok")
    audit.refuse(ADA, SUBMIT, "no")
    assert audit.read() == []
    full_disk.clear()
    audit.close(audit.begin(ADA, SUBMIT), "ok")
    assert [(entry["action"], entry["outcome"]) for entry in audit.read()] == [("stop", "ok"), ("submit", "refused"), ("submit", "ok")]
    assert audit.verify()["good"]


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    audit = AuditLog(path)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InsufficientResourcesError):
        audit.begin(ADA, SUBMIT)
    assert (tmp_path / "elsewhere").read_bytes() == b""
