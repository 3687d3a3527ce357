"""A field's value as words, and back."""

from __future__ import annotations

import pytest

from llmops_tui.specs.answers import SpecField
from llmops_tui.specs.field_words import Value, takes, value_of, words_of
from llmops_tui.specs.form import spec_form


def field(key: str, kind: str = "train") -> SpecField:
    return next(each for each in spec_form(kind)["fields"] if each["key"] == key)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("epochs", 1.5, "1.5"), ("optim.learning_rate", 2e-5, "2e-05"), ("max_steps", None, ""), ("max_steps", 24, "24"),
        ("resources.gpus", "auto", "auto"), ("resources.gpus", 2, "2"), ("packing", True, "true"), ("packing", "auto", "auto"),
        ("tags", ["a", "b c"], "a 'b c'"), ("tags", [], ""), ("sample_prompts", ["What is X?\nSay"], "'What is X?⏎Say'"),
        ("lora.target_modules", "all-linear", "all-linear"), ("lora.target_modules", ["q_proj"], "[q_proj]"),
        ("lora.target_modules", ["q_proj", "v_proj"], "q_proj v_proj"), ("lora.target_modules", "(q|v) proj", "'(q|v) proj'"),
        ("env", {"A": "1", "B": "x y"}, "A=1 'B=x y'"), ("notes", "one\ntwo", "one⏎two"), ("assistant_only", False, "false"),
    ],
)  # fmt: skip
def test_a_value_is_the_same_after_being_shown_and_read(key: str, value: Value, words: str) -> None:
    assert words_of(field(key), value) == words
    assert value_of(field(key), words) == value


@pytest.mark.parametrize(
    ("key", "text", "fault"),
    [
        ("epochs", "many", "should be a number"), ("epochs", "nan", "should be a finite number"), ("epochs", "0", "should be more than 0"),
        ("max_steps", "1.5", "should be a whole number"), ("max_steps", "0", "should be at least 1"),
        ("lora.dropout", "1", "should be less than 1"), ("micro_batch", "65537", "should be at most 65,536"),
        ("resources.gpus", "some", "should be a whole number or auto"), ("packing", "maybe", "takes auto, true or false"),
        ("assistant_only", "", "should be true or false"), ("tags", "'open", "a quote is not closed"),
        ("tags", "end\\", "ends with a backslash"), ("env", "A", "'A' is not NAME=VALUE"), ("seed", "9" * 5000, "should be a whole number"),
    ],
)  # fmt: skip
def test_words_that_mean_no_such_value_say_why(key: str, text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("(", r"\(")):
        value_of(field(key), text)


def test_unset_and_nothing_mean_the_same_where_a_field_may_be_unset() -> None:
    assert value_of(field("limits.hang_seconds"), " unset ") is None
    assert value_of(field("limits.hang_seconds"), "") is None


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("micro_batch", "a whole number from 1 to 65,536"), ("optim.learning_rate", "a number above 0, at most 1"),
        ("lora.dropout", "a number from 0, below 1"), ("optim.schedule", "cosine, linear or constant"),
        ("resources.gpus", "a whole number, or auto"), ("packing", "auto, true or false"), ("tags", "words, quoted as in a shell"),
    ],
)  # fmt: skip
def test_what_a_field_takes_is_said_in_words(key: str, words: str) -> None:
    assert takes(field(key)) == words
