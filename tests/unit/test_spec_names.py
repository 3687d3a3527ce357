"""Names in a spec: refused before anything starts where they would not fit a path."""

from __future__ import annotations

import pytest

from llmops_tui.errors import UsageError
from llmops_tui.specs.parse import parse_spec

TRAIN = {"kind": "train", "model": "m", "dataset": {"path": "rows.jsonl"}}


@pytest.mark.parametrize("name", ["../../x", "A B", "Capital", "-x", "x" * 41, "a\nb", "ü"])
@pytest.mark.parametrize("field", ["name", "output"])
def test_a_name_that_fits_no_path_is_refused_instead_of_quietly_changed(field: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"{field}: use 1 to 40"):
        parse_spec({**TRAIN, field: name})


@pytest.mark.parametrize("name", ["", "support", "a.b_c-1"])
def test_a_name_that_fits_is_kept(name: str) -> None:
    assert parse_spec({**TRAIN, "output": name}).model_dump()["output"] == name


@pytest.mark.parametrize("extra", [{"notes": "\ud800"}, {"env": {"A": "\ud83d"}}, {"tags": ["\udc00"]}])
def test_half_of_a_character_is_refused(extra: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="half of a character"):
        parse_spec({**TRAIN, **extra})


def test_an_argument_that_is_no_utf_8_is_passed_on() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    assert parse_spec({"kind": "command", "argv": ["cat", name]}).model_dump()["argv"] == ["cat", name]
