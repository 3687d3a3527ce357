"""From a file and `--set` to a mapping; the engine checks its meaning."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from llmops_tui.commands.spec_file import apply_setting, build_spec
from llmops_tui.errors import UsageError


def test_settings_go_over_the_file_and_the_name_over_both(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("kind: train\nname: from-file\noptim: {learning_rate: 1.0e-4, schedule: linear}\n")
    spec = build_spec("train", str(file), ["optim.learning_rate=3e-4", "dataset.path=rows.jsonl"], "mine", None)
    assert spec == {
        "kind": "train",
        "name": "mine",
        "optim": {"learning_rate": 3e-4, "schedule": "linear"},
        "dataset": {"path": "rows.jsonl"},
    }


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("k=1", 1), ("k=1.5", 1.5), ("k=1e-4", 1e-4), ("k=-2E3", -2000.0), ("k=true", True), ("k=null", None), ("k=", None),
        ("k=a=b", "a=b"), ("k=[1, two]", [1, "two"]), ("k={a: 1}", {"a": 1}), ("k=one two", "one two"), ("k='1'", "1"),
        ("k=fiqa@v3", "fiqa@v3"), ('k="1e5"', "1e5"), ("k=[1e-4, '1e5']", [1e-4, "1e5"]), ("k=/a/e.jsonl", "/a/e.jsonl"),
        ("k=2026-01-01", "2026-01-01"), ("k=2:4", "2:4"), ("k=[1:30, 12:30:45.5]", ["1:30", "12:30:45.5"]), ("k={a: 1:2}", {"a": "1:2"}),
    ],
)  # fmt: skip
def test_a_value_means_what_yaml_says(setting: str, value: object) -> None:
    spec: dict[str, object] = {}
    apply_setting(spec, setting)
    assert spec == {"k": value}


@pytest.mark.parametrize("setting", ["nothing", "=1", "a..b=1", ".a=1", "a=[1", "a=: :", "a=" + "[" * 20_000])
def test_a_setting_that_cannot_be_read_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        apply_setting({}, setting)


def test_a_setting_below_a_plain_value_is_refused() -> None:
    with pytest.raises(UsageError, match="lora already has the value 4"):
        apply_setting({"lora": 4}, "lora.r=8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: [1\nc: 2\n", "line 3: not valid YAML"),
        (b"- a\n", "a spec is a mapping of keys to values, not a list"),
        (b"", "the spec is empty"),
        (b"\xff\xfe\x00", "not text"),
        (b"1: 2\n", "the key 1 is no text"),
        (b"a: !!python/object:os.system x\n", "not valid YAML"),
        (b"a: " + b"[" * 20_000, "nested too deeply"),
        (b"epochs: 1\nmodel: m\nepochs: 3\n", "line 3: not valid YAML: the key 'epochs' is given twice"),
        (b"tags: &a [*a]\n", "cannot be sent: Circular reference"),
        (b"notes: !!binary aGVsbG8=\n", "cannot be sent"),
        (b"kind: evaluate\n", "a spec of kind 'evaluate', not 'train'"),
    ],
)
def test_a_file_that_is_no_spec_is_refused_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        build_spec("train", str(file), [], None, None)
    assert message in caught.value.message
    assert caught.value.next_step


def test_a_missing_file_and_a_directory_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            build_spec("train", str(path), [], None, None)


def test_a_spec_may_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"model": "m"}')))
    assert build_spec("train", "-", [], None, None) == {"kind": "train", "model": "m"}


def test_only_a_command_run_takes_a_program() -> None:
    assert build_spec("command", None, [], None, ["ls", "-l"]) == {"kind": "command", "argv": ["ls", "-l"]}
    with pytest.raises(UsageError, match="takes no program"):
        build_spec("train", None, [], None, ["ls"])
