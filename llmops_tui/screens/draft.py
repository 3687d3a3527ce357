"""A run that is being asked for: its values, what was typed and means nothing yet, and what the engine had against it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_tui.screens.spec_text import nested, read_spec
from llmops_tui.specs.field_words import Value, value_of, words_of
from llmops_tui.specs.form_order import needed_of_method

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail, SpecField, SpecForm


@dataclass
class Draft:
    """`values` holds what differs from the defaults, `texts` what was typed and is no value, `faults` what is wrong by key.

    `base` is the run it began from ("" for none), `started` the values it began with, `cwd` where relative paths start.
    `trouble` is what the engine said of no field in particular.
    """

    form: SpecForm
    cwd: str
    base: str = ""
    started: dict[str, Value] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    trouble: str = ""

    def __post_init__(self) -> None:
        self.fields: dict[str, SpecField] = {each["key"]: each for each in self.form["fields"]}

    @classmethod
    def of_run(cls, form: SpecForm, run: RunDetail) -> Draft:
        """The same again."""
        values, texts, faults = read_spec(form, run["spec"])
        draft = cls(form, run.get("cwd", "/"), run["id"], dict(values))  # an engine of before tells no cwd
        draft.take(values, texts, faults)
        return draft

    @property
    def kind(self) -> str:
        """The job kind."""
        return self.form["kind"]

    @property
    def touched(self) -> bool:
        """Whether something would be lost with it."""
        return bool(self.texts) or self.values != self.started

    def value(self, key: str) -> Value:
        """What holds now."""
        default: Value = self.fields[key]["default"]
        return self.values.get(key, default)

    def words(self, key: str) -> str:
        """What stands in the field."""
        return self.texts[key] if key in self.texts else words_of(self.fields[key], self.value(key))

    def words_of_any(self, key: str) -> str:
        """The same of a field that this kind may not have: "" then."""
        return self.words(key) if key in self.fields else ""

    def put(self, key: str, words: str) -> str:
        """Set a field from what was typed; what is wrong with it, "" if nothing."""
        known = self.fields[key]
        self.faults.pop(key, None)
        self.texts.pop(key, None)
        self.trouble = ""
        if not words.strip() and not known["optional"]:
            self.values.pop(key, None)
            return ""
        try:
            value = value_of(known, words)
        except ValueError as error:
            self.values.pop(key, None)
            self.texts[key], self.faults[key] = words, str(error)
            return str(error)
        self._set(key, value)
        return ""

    def reset(self, key: str) -> None:
        """Back to what it began with, and from there to the default."""
        began = key in self.started and (key in self.texts or self.values.get(key) != self.started[key])
        self.faults.pop(key, None)
        self.texts.pop(key, None)
        self.values.pop(key, None)
        self.trouble = ""
        if began:
            self.values[key] = self.started[key]

    def changed(self, key: str) -> bool:
        """Whether it differs from what it began with; without a base, from the default."""
        if key in self.texts:
            return True
        default: Value = self.fields[key]["default"]
        return self.values.get(key, default) != self.started.get(key, default)

    def missing(self) -> list[str]:
        """Required fields without a value, in the form's order; a new model needs none to begin with."""
        asked = needed_of_method(self.kind, self.words_of_any)
        needed = [key for key, known in self.fields.items() if known["required"] or key in asked]
        empty = [key for key in needed if key not in self.texts and not self.values.get(key)]
        return [key for key in empty if not (key.endswith("model") and self.values.get(f"{key.removesuffix('model')}scratch.preset"))]

    def first_wrong(self) -> str | None:
        """The first field to go to, in the form's order: wrong or missing."""
        missing = self.missing()
        return next((key for key in self.fields if key in self.faults or key in missing), None)

    def spec(self) -> dict[str, Value]:
        """What is sent: every value that is one. Ordered as the form is."""
        return nested(self.kind, self.ordered())

    def ordered(self) -> dict[str, Value]:
        """The values in the form's order."""
        return {key: self.values[key] for key in self.fields if key in self.values}

    def blame(self, message: str, faults: Sequence[Mapping[str, str]]) -> None:
        """The engine's errors to their fields; what belongs to none is the trouble."""
        self.trouble = "" if faults else message
        for fault in faults:
            key = self._key_of(fault["field"])
            if key is None:
                self.trouble = self.trouble or message
            else:
                part = fault["field"].removeprefix(f"{key}.") if fault["field"].startswith(f"{key}.") else ""
                self.faults.setdefault(key, f"{part}: {fault['message']}" if part else fault["message"])

    def forgive(self) -> None:
        """Only what was typed wrong stays wrong: the engine is asked anew."""
        self.trouble = ""
        self.faults = {key: fault for key, fault in self.faults.items() if key in self.texts}

    def take(self, values: dict[str, Value], texts: dict[str, str], faults: dict[str, str]) -> None:
        """Everything anew, as an editor left it. Faults of keys the form does not have become the trouble."""
        self.values, self.texts = values, texts
        self.faults = {key: fault for key, fault in faults.items() if key in self.fields}
        self.trouble = ", ".join(f"{key}: {fault}" for key, fault in faults.items() if key not in self.fields)

    def of_kind(self, form: SpecForm) -> Draft:
        """A draft of another kind with what both have."""
        fresh = Draft(form, self.cwd)
        for key, value in self.values.items():
            if key in fresh.fields and fresh.fields[key]["type"] == self.fields[key]["type"]:
                fresh._set(key, value)
        return fresh

    def to_json(self) -> dict[str, Any]:
        """What is kept of it while it is not launched."""
        return {
            "kind": self.kind, "cwd": self.cwd, "base": self.base, "started": self.started, "values": self.values, "texts": self.texts,
        }  # fmt: skip

    @classmethod
    def from_json(cls, form: SpecForm, kept: Mapping[str, Any]) -> Draft:
        """As it was kept; what the form no longer has is left out. The mapping comes from a file: nothing is taken on trust."""
        began, _, _ = read_spec(form, nested(form["kind"], _known(form, kept.get("started"))))
        values, texts, faults = read_spec(form, nested(form["kind"], _known(form, kept.get("values"))))
        cwd, base = kept.get("cwd"), kept.get("base")
        draft = cls(form, cwd if isinstance(cwd, str) else "/", base if isinstance(base, str) else "", began, values, texts, faults)
        typed = kept.get("texts")
        for key, words in typed.items() if isinstance(typed, dict) else ():
            if key in draft.fields and isinstance(words, str):
                draft.put(key, words)
        return draft

    def _set(self, key: str, value: Value) -> None:
        known = self.fields[key]
        if value == known["default"] or (known["required"] and value in ("", [])):
            self.values.pop(key, None)
        else:
            self.values[key] = value

    def _key_of(self, name: str) -> str | None:
        """The field an error means: itself, the one it is a part of (`argv.0`), or the first of a section (`dataset`)."""
        within = [key for key in self.fields if name == key or name.startswith(f"{key}.")]
        if within:
            return max(within, key=len)
        return next((key for key in self.fields if key.startswith(f"{name}.")), None)


def _known(form: SpecForm, kept: object) -> dict[str, Value]:
    keys = {field["key"] for field in form["fields"]}
    return {key: value for key, value in kept.items() if key in keys} if isinstance(kept, dict) else {}
