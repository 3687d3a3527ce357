"""Values of a spec that nobody can mean: refused by name and in plain words before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tui.cli import report
from llmops_tui.errors import UsageError
from llmops_tui.specs.parse import parse_spec

TRAIN = {"kind": "train", "model": "m", "dataset": {"path": "rows.jsonl"}}
COMMAND = {"kind": "command", "argv": ["true"]}


def nested(path: str, value: object) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("path", "most", "too_much"),
    [
        ("limits.grace_seconds", 86400, 1e300),
        ("limits.timeout_seconds", 10 * 365.25 * 86400, 1e300),
        ("limits.hang_seconds", 10 * 365.25 * 86400, 1e300),
        ("epochs", 10_000, 1e308),
        ("micro_batch", 65536, 100_000_000),
        ("accumulation", 65536, 65537),
        ("max_length", 4194304, 4194305),
        ("max_steps", 10**9, 10**10),
        ("evaluate_every", 10**9, 10**10),
        ("checkpoint_every", 10**9, 10**10),
        ("sample_every", 10**9, 10**10),
        ("keep_checkpoints", 10_000, 10**9),
        ("lora.alpha", 65536, 10**30),
        ("optim.weight_decay", 100, 1e30),
        ("resources.cpu_slots", 4096, 10**30),
        ("resources.disk_bytes", 2**60, 2**61),
        ("resources.gpu_memory_bytes", 2**60, 2**61),
    ],
)
def test_a_number_beyond_all_reason_is_refused_and_the_largest_sane_one_taken(path: str, most: float, too_much: float) -> None:
    dataset_and = {key: value for key, value in TRAIN.items() if key != path.split(".")[0]}
    parse_spec({**dataset_and, **nested(path, most)})
    with pytest.raises(UsageError) as caught:
        parse_spec({**dataset_and, **nested(path, too_much)})
    assert [field["field"].split(".int")[0] for field in caught.value.fields] == [path]
    assert "less than or equal to" in caught.value.message


def test_a_number_of_gpus_beyond_all_reason_is_refused_and_the_largest_sane_one_taken() -> None:
    command = {"kind": "command", "argv": ["true"]}  # a training asks for as many as it has processes
    parse_spec({**command, "resources": {"gpus": 1024}})
    with pytest.raises(UsageError, match=r"resources\.gpus: should be less than or equal to 1024"):
        parse_spec({**command, "resources": {"gpus": 10**30}})


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    "path", ["resources.gpus", "resources.cpu_slots", "retries", "priority", "epochs", "max_steps", "limits.grace_seconds"]
)
def test_true_is_no_number(path: str, value: bool) -> None:
    with pytest.raises(UsageError, match=f"{path}: should be a number, not true or false"):
        parse_spec({**TRAIN, **nested(path, value)})


def test_true_stays_true_where_it_is_wanted() -> None:
    values = parse_spec({**TRAIN, "packing": True, "gradient_checkpointing": False, "assistant_only": False}).model_dump()
    assert (values["packing"], values["gradient_checkpointing"], values["assistant_only"]) == (True, False, False)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"argv": []}, "argv: must not be empty"),
        ({"tags": "x"}, "tags: should be a list"),
        ({"notes": 7}, "notes: should be text"),
        ({"retries": "many"}, "retries: should be a whole number"),
        ({"retries": 1.5}, "retries: should be a whole number"),
        ({"retries": 101}, "retries: should be less than or equal to 100"),
        ({"resources": {"gpus": "many"}}, "resources.gpus: should be a whole number or 'auto'"),
        ({"env": {"int": [7]}}, "env.int: should be text"),
        ({"env": {"a[b": True}}, "env.a[b: should be text"),
        ({"list[x]": 7}, "list[x]: unknown key"),
        ({"limits": 7}, "limits: should be a mapping of keys to values"),
        ({"allow_network": "perhaps"}, "allow_network: should be true or false"),
        ({"after_ok": [""]}, "after_ok.0: must not be empty"),
        ({"after_ok": ["x" * 200]}, "after_ok.0: should be at most 120 characters long"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec({**COMMAND, **wrong})
    assert caught.value.message == says


def test_too_many_entries_are_counted() -> None:
    with pytest.raises(UsageError, match="sample_prompts: takes at most 16 entries, not 17"):
        parse_spec({**TRAIN, "sample_prompts": ["a"] * 17})


def test_several_bad_rows_are_shown_with_the_file_they_are_in(capsys: pytest.CaptureFixture[str]) -> None:
    fields = [{"field": f"row {number}", "message": "no"} for number in range(2, 5)]
    assert report(UsageError("/data/rows.jsonl: row 2: no (and 2 more bad rows)", "correct them", fields)) == 2
    assert capsys.readouterr().err == "llmops-tui: /data/rows.jsonl: row 2: no, row 3: no, row 4: no; correct them\n"


def test_several_wrong_keys_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    report(UsageError("a: bad (and 1 more)", "see it", [{"field": "a", "message": "bad"}, {"field": "b", "message": "worse"}]))
    assert capsys.readouterr().err == "llmops-tui: a: bad, b: worse; see it\n"
