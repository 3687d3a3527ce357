"""What the New run page shows of a draft: its fields as rows, what a field means, and what the engine found. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

from llmops_tui.screens.draft import Draft
from llmops_tui.screens.widgets.axes import bytes_text
from llmops_tui.screens.widgets.form_lines import FormRow
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.specs.field_words import UNSET, takes, words_of
from llmops_tui.specs.form_order import first_fields, shown_first

if TYPE_CHECKING:
    from llmops_tui.specs.answers import SpecField, Submission

LAUNCH, KIND = "!launch", "!kind"
_SECTIONS = {"optim": "optimizer", "lora": "adapter", "run": "every run", "resources": "what it needs", "limits": "when it is ended"}


def form_rows(draft: Draft, every: bool, busy: str, names: dict[str, str]) -> list[FormRow]:
    """The launch line, the kind, then the fields: required ones and the common ones, or every one by section.

    `busy` is said on the launch line instead of what is missing; `names` are the keys' names there ("launch", "turn").
    """
    rows = [_launch_row(draft, busy, names["launch"]), _kind_row(draft, names["turn"])]
    section = ""
    for field in _fields(draft, every):
        if every and field["section"] != section:
            section = field["section"]
            rows.append(FormRow("", _SECTIONS.get(section, section)))
        rows.append(_row(draft, field))
    return rows


def about_lines(draft: Draft, key: str, width: int) -> list[list[Run]]:
    """The field under the cursor: what it takes, its default, and what it does."""
    if key in (LAUNCH, KIND):
        text = draft.form["description"] if key == KIND else "The engine checks model, data and disk, then queues the run."
        return [[(f" {line}", "text")] for line in wrap(text, max(8, width - 2))]
    field = draft.fields[key]
    default = "" if field["required"] else words_of(field, field["default"]) or (UNSET if field["optional"] else "empty")
    facts = takes(field) + (f" · default {default}" if default else " · required")
    lines: list[list[Run]] = [[(f" {line}", "text")] for line in wrap(field["description"], max(8, width - 2))]
    return lines + [[(f" {line}", "muted")] for line in wrap(facts, max(8, width - 2))]


def finding_lines(draft: Draft, found: Submission | None, checking: bool, check_key: str, width: int) -> list[list[Run]]:
    """What is wrong, or what the engine found: rows, disk, warnings."""
    told: list[Run] = []
    if draft.trouble:
        told.append((f"✗ {draft.trouble}", "bad"))
    told += [(f"✗ {key}: {fault}", "bad") for key, fault in draft.faults.items()]
    if checking:
        told.append(("checking model, data and disk…", "muted"))
    elif found is not None and not told:
        told += [(f"! {warning}", "warn") for warning in found["warnings"]]
        told.insert(0, ("✓ " + " · ".join(_prepared(found)), "good"))
    elif not told:
        missing = draft.missing()
        words = (
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            if missing
            else f"{check_key} checks without launching"
        )
        told.append((words, "muted"))
    return [[(f" {line}", role)] for text, role in told for line in wrap(text, max(8, width - 2), subsequent_indent="  ")]


def command_lines(command: str, width: int) -> list[list[Run]]:
    """The equal command, wrapped between its options where that is possible."""
    shown = "".join(character if character.isprintable() else " " for character in command)
    room = max(8, width - 2)
    lines = [""]
    for part in re.split(" (?=--)", shown):
        if lines[-1] and len(lines[-1]) + 1 + len(part) <= room:
            lines[-1] += f" {part}"
        else:
            lines += wrap(part, room, initial_indent="  " if lines[-1] else "", subsequent_indent="    ", break_on_hyphens=False)
    return [[(f" {line}", "text")] for line in lines if line]


def _fields(draft: Draft, every: bool) -> list[SpecField]:
    fields = draft.form["fields"]
    if every:
        return fields
    first = first_fields(draft.kind, draft.words_of_any)
    places = {key: number for number, key in enumerate(first)}
    spoken_of = {*draft.values, *draft.texts, *draft.faults, *draft.started}
    shown = [
        field
        for field in fields
        if field["key"] in {*places, *spoken_of} or (field["basic"] and shown_first(draft.kind, field["key"], draft.words_of_any))
    ]
    return sorted(shown, key=lambda field: (places.get(field["key"], len(first)), not field["required"]))


def _launch_row(draft: Draft, busy: str, key: str) -> FormRow:
    wrong = draft.first_wrong()
    if busy:
        words: Run = (busy, "muted")
    elif wrong is not None:
        words = (f"{wrong} {draft.faults.get(wrong, 'is missing')}", "warn")
    else:
        words = (f"Enter here, or {key} anywhere", "good")
    return FormRow(LAUNCH, "launch", words, ("→", "good" if wrong is None else "warn"))


def _kind_row(draft: Draft, key: str) -> FormRow:
    return FormRow(KIND, "kind", (draft.kind, "bright"), note=(f"{key} changes it", "faint"))


def _row(draft: Draft, field: SpecField) -> FormRow:
    key = field["key"]
    words = draft.words(key)
    fault, changed = draft.faults.get(key, ""), draft.changed(key)
    sign: Run = ("✗", "bad") if fault else ("●", "accent") if changed else (" ", "muted")
    if key in draft.missing() and not fault:
        return FormRow(key, key, ("required", "warn"), ("○", "warn"))
    role = "bright" if changed else "text" if key in draft.values else "muted"
    note: Run = (fault, "bad") if fault else ("", "muted")
    if changed and draft.base and not fault:
        note = (f"was {words_of(field, draft.started.get(key, field['default'])) or UNSET}", "muted")
    return FormRow(key, key, (words or (UNSET if field["optional"] else ""), role), sign, note)


def _prepared(found: Submission) -> Iterator[str]:
    prepared = found["prepared"]
    rows = prepared.get("rows")
    if isinstance(rows, dict):
        learnt, held_out = rows.get("learnt") or 0, rows.get("held_out") or 0
        yield (
            f"{learnt:,} rows to learn from, {held_out:,} held out"
            if found["spec"].get("kind") == "train"
            else f"{held_out:,} rows held out"
        )
    if program := prepared.get("program"):
        yield f"{program} in {prepared.get('cwd') or '/'}"
    if needed := prepared.get("disk_bytes"):
        yield f"writes about {bytes_text(needed)} of {bytes_text(prepared.get('disk_free_bytes') or 0)} free"
    elif not rows and not program:
        yield "everything is there"
