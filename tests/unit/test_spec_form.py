"""The forms are made from the models: every key, with its type, default and bounds."""

from __future__ import annotations

import pytest

from llmops_tui.errors import NotFoundError
from llmops_tui.specs.answers import SpecField
from llmops_tui.specs.form import spec_form
from llmops_tui.specs.leaves import leaves
from llmops_tui.specs.parse import SPECS
from llmops_tui.specs.states import JOB_KINDS


def field(kind: str, key: str) -> SpecField:
    return next(each for each in spec_form(kind)["fields"] if each["key"] == key)


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_a_form_has_every_key_of_its_model_once_and_each_section_in_one_piece(kind: str) -> None:
    fields = spec_form(kind)["fields"]
    assert sorted(each["key"] for each in fields) == sorted(leaf.path for leaf in leaves(SPECS[kind]))
    sections = [each["section"] for each in fields]
    assert [name for number, name in enumerate(sections) if name in sections[:number] and sections[number - 1] != name] == []
    assert sections[0] == kind
    assert all(each["description"] for each in fields)
    assert all(each["basic"] for each in fields if each["required"])


def test_types_follow_the_annotations_and_the_marks() -> None:
    wanted = {
        "model": "model", "dataset.path": "dataset", "epochs": "number", "max_steps": "integer", "packing": "choice",
        "assistant_only": "boolean", "optim.schedule": "choice", "tags": "list", "env": "mapping", "notes": "text",
        "lora.target_modules": "list", "resources.gpus": "integer", "after_ok": "list",
    }  # fmt: skip
    assert {key: field("train", key)["type"] for key in wanted} == wanted
    assert field("command", "cwd")["type"] == "path"
    assert field("train", "packing")["choices"] == ["auto", True, False]
    assert field("train", "resources.gpus")["choices"] == ["auto"]
    assert field("train", "lora.target_modules")["text_too"]
    assert not field("train", "tags")["text_too"]


def test_exclusive_bounds_of_whole_numbers_become_inclusive_ones() -> None:
    steps, rate, share = field("train", "max_steps"), field("train", "optim.learning_rate"), field("train", "lora.dropout")
    assert (steps["minimum"], steps["above"], steps["optional"]) == (1, None, True)
    assert (rate["minimum"], rate["above"], rate["maximum"]) == (None, 0, 1)
    assert (share["minimum"], share["maximum"], share["below"]) == (0, None, 1)


def test_the_default_is_what_the_whole_spec_means_not_what_the_section_alone_would() -> None:
    assert field("train", "limits.hang_seconds")["default"] == 1800.0
    assert field("command", "limits.hang_seconds")["default"] is None


def test_an_unknown_kind_names_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="train, evaluate, merge"):
        spec_form("serve-nothing")
