"""A spec's values, its YAML and its command line mean the same, whatever they hold."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest

from llmops_tui.cli import parse
from llmops_tui.commands.spec_file import build_spec, read_mapping
from llmops_tui.errors import UsageError
from llmops_tui.screens.draft import Draft
from llmops_tui.screens.spec_text import command_line, command_words, nested, read_spec, yaml_page, yaml_value
from llmops_tui.specs.answers import SpecField
from llmops_tui.specs.field_words import Value
from llmops_tui.specs.form import spec_form
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.states import JOB_KINDS

TEXTS = (
    "plain", "fiqa@v3", "/data/a b.jsonl", "1e5", "-1", "0x1F", "1_000", "12:30:45", "2026-01-01", "null", "~", "No", "true", ".5", "=",
    "<<", "a: b", "#x", "- x", "[1]", "{a}", "it's", 'say "x"', "back\\slash", "two\nlines", "tab\there", "é漢🙂", "\x7f\x85\u2028\ufeff",
    " outer ", "$HOME `x` $(y) !", "--set", "*", "&a", "%x", "@x", "?", "|", ">", "a=b", "--",
)  # fmt: skip


def some_value(dice: random.Random, field: SpecField) -> Value:
    if field["choices"] and (field["type"] == "choice" or dice.random() < 0.3):
        return dice.choice(field["choices"])
    if field["optional"] and dice.random() < 0.2:
        return None
    low = field["minimum"] if field["minimum"] is not None else field["above"] or 0
    high = field["maximum"] if field["maximum"] is not None else field["below"] or 1e9
    match field["type"]:
        case "integer":
            return dice.randint(int(low), int(high))
        case "number":
            return low + (high - low) * dice.choice([0.5, dice.random(), 10 ** -dice.uniform(1, 9)])
        case "boolean":
            return dice.random() < 0.5
        case "list":
            few: list[Value] = list(dice.choices(TEXTS, k=dice.randint(1, 4)))
            return dice.choice(TEXTS) if field["text_too"] and dice.random() < 0.5 else few
        case "mapping":
            return {f"NAME_{number}": text for number, text in enumerate(dice.choices(TEXTS, k=2))}
    return dice.choice(TEXTS)


def some_values(kind: str, seed: int) -> dict[str, Value]:
    dice = random.Random(seed)
    fields = spec_form(kind)["fields"]
    found = {field["key"]: some_value(dice, field) for field in fields if field["required"] or dice.random() < 0.5}
    return {field["key"]: found[field["key"]] for field in fields if field["required"] or found.get(field["key"]) != field["default"]
            if field["key"] in found}  # fmt: skip


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_the_command_line_asks_for_the_same_spec(kind: str) -> None:
    for seed in range(60):
        values = some_values(kind, seed)
        args = parse(command_words(kind, values)[1:])
        assert build_spec(args.kind, args.file, args.settings, args.name, args.argv) == nested(kind, values), seed
        words = command_words(kind, values)
        assert shlex.split(command_line(kind, values, "/a", "/a", "me@box")) == ["llmops-tui", "--host", "me@box", *words[1:]]
        ssh, box, line = shlex.split(command_line(kind, values, "/a b", "/a", "me@box"))
        assert (ssh, box, shlex.split(line)) == ("ssh", "me@box", ["cd", "/a b", "&&", *words])
        assert shlex.split(command_line(kind, values, "/a b", "/")) == ["cd", "/a b", "&&", *command_words(kind, values)]


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_the_page_for_the_editor_holds_the_same_spec(kind: str, tmp_path: Path) -> None:
    form, file = spec_form(kind), tmp_path / "spec.yaml"
    for seed in range(30):
        values = some_values(kind, seed)
        file.write_text(yaml_page(form, values, {}, {}))
        assert read_spec(form, read_mapping(str(file))) == (values, {}, {}), seed


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_an_empty_page_holds_every_key_and_means_every_default(kind: str, tmp_path: Path) -> None:
    form, file = spec_form(kind), tmp_path / "spec.yaml"
    page = yaml_page(form, {}, {}, {})
    file.write_text(page)
    assert read_spec(form, read_mapping(str(file))) == ({}, {}, {})
    assert all(f"{field['key'].rsplit('.', 1)[-1]}:" in page for field in form["fields"])
    commented = [line.strip().removeprefix("#") for line in page.splitlines() if line.strip().startswith("#") and line.strip()[1:2] != " "]
    sections = "\n".join(line.replace("#", "", 1) if line.strip().startswith("#") and line.strip()[1:2] != " " else line
                         for line in page.splitlines())  # fmt: skip
    file.write_text(sections)
    assert len(commented) > 5
    assert read_spec(form, read_mapping(str(file))) == ({}, {}, {}), "a default with its # taken away is still the default"


def test_a_stored_runs_whole_spec_comes_back_as_what_its_author_set() -> None:
    spec = {"kind": "train", "model": "m", "dataset": {"path": "d"}, "lora": {"r": 8}, "limits": {"hang_seconds": None}}
    stored = parse_spec(spec).model_dump(mode="json")
    values, texts, faults = read_spec(spec_form("train"), stored)
    assert nested("train", values) == spec
    assert (texts, faults) == ({}, {})


def test_what_an_editor_left_wrong_stands_at_its_field_with_the_rest_kept(tmp_path: Path) -> None:
    form, file = spec_form("train"), tmp_path / "spec.yaml"
    file.write_text("kind: train\nmodel: 3\nepochs: many\noptim: {lr: 1}\ntags: {a: 1}\nnotes: [x]\nlora:\nargv: x\nmax_steps: 1.5\n")
    values, texts, faults = read_spec(form, read_mapping(str(file)))
    assert values == {"model": "3"}
    assert texts["epochs"] == "many"
    assert faults == {
        "epochs": "should be a number", "optim.lr": "unknown key", "tags": "should be one value, not a mapping",
        "notes": "should be one value, not a list", "argv": "unknown key", "max_steps": "should be a whole number",
    }  # fmt: skip
    draft = Draft(form, "/")
    draft.take(values, texts, faults)
    assert draft.trouble == "optim.lr: unknown key, argv: unknown key"
    assert draft.first_wrong() == "epochs"
    again = yaml_page(form, draft.values, draft.texts, draft.faults)
    assert "# !! should be a number\nepochs: many" in again


@pytest.mark.parametrize("value", [1e-5, 2e300, 0.1, 1.0, -3, True, None, [], {}, ["a", 1], {"k": [None]}, *TEXTS])
def test_a_value_on_a_line_of_yaml_is_read_as_itself(value: Value, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"k: {yaml_value(value)}\n")
    assert read_mapping(str(file)) == {"k": value}


def test_a_draft_knows_what_changed_and_gives_back_what_it_began_with() -> None:
    draft = Draft(spec_form("train"), "/", "train-a-0001", {"epochs": 3.0}, {"epochs": 3.0})
    assert not draft.touched
    assert draft.put("epochs", "5") == ""
    assert draft.changed("epochs")
    draft.reset("epochs")
    assert (draft.value("epochs"), draft.touched) == (3.0, False)
    draft.reset("epochs")
    assert (draft.value("epochs"), draft.touched) == (1.0, True)
    assert draft.put("epochs", "many") == "should be a number"
    assert draft.words("epochs") == "many"
    assert "epochs" not in draft.values
    draft.reset("epochs")
    assert draft.words("epochs") == "3"


def test_an_error_of_the_engine_stands_at_the_field_it_means() -> None:
    draft = Draft(spec_form("command"), "/", values={"argv": ["nope"]})
    draft.blame("argv.0: nope: no such program", [{"field": "argv.0", "message": "nope: no such program"}])
    assert draft.faults == {"argv": "0: nope: no such program"}
    draft.forgive()
    draft.blame("resources: too much", [{"field": "resources", "message": "too much"}, {"field": "nothing", "message": "odd"}])
    assert draft.faults == {"resources.gpus": "too much"}
    assert draft.trouble == "resources: too much"


def test_a_draft_comes_back_from_its_file_and_rubbish_in_the_file_is_left_out() -> None:
    form = spec_form("train")
    draft = Draft(form, "/work", "train-a-0001", {"epochs": 3.0}, {"epochs": 3.0, "tags": ["x"]})
    draft.put("seed", "first")
    back = Draft.from_json(form, draft.to_json())
    assert back == draft
    odd = Draft.from_json(form, {"values": {"epochs": [1], "gone": 1}, "texts": {"seed": 4, "gone": "x"}, "cwd": 3, "started": "x"})
    assert (odd.values, odd.cwd, odd.base) == ({}, "/", "")


def test_another_kind_keeps_what_both_have() -> None:
    draft = Draft(spec_form("train"), "/", values={"model": "m", "dataset.path": "d", "epochs": 2.0, "limits.hang_seconds": None})
    other = draft.of_kind(spec_form("evaluate"))
    assert other.values == {"model": "m", "dataset.path": "d", "limits.hang_seconds": None}
    assert draft.of_kind(spec_form("command")).values == {}


def test_a_number_in_quotes_given_to_set_is_text() -> None:
    with pytest.raises(UsageError):
        parse_spec(build_spec("train", None, ["model=m", "dataset.path=d", "name=1e5"], None, None))
    assert parse_spec(build_spec("train", None, ["model=m", "dataset.path=d", 'name="1e5"'], None, None)).name == "1e5"
