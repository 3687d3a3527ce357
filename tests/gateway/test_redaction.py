"""A pattern that takes for ever holds nobody up: what it was to strike is withheld. In a process of its own: signals go to main threads."""

from __future__ import annotations

import subprocess
import sys

from llmops_tui.engine.serving.gateway.config import parse_config
from llmops_tui.engine.serving.gateway.redaction import Redaction

PROGRAM = """
import json, sys, time
from llmops_tui.engine.serving.gateway import redaction
from llmops_tui.engine.serving.gateway.config import parse_config
redaction.SECONDS = 0.2
redactors = [{"name": "digits", "pattern": "[0-9]+", "replacement": "#"}, {"name": "endless", "pattern": "(a+)+$", "replacement": "-"}]
found = redaction.Redaction(parse_config(json.dumps({"redactors": redactors}).encode()).redactors)
print(found.of(["call 112", {"x": "aaa"}, 5]))
print(found.text_or_mark("a" * 60 + "!"))
print(found.text_or_mark("harmless"))
try:
    found.of(["harmless"])
except redaction.TooSlowError as error:
    print(error)
redaction.monotonic = lambda: time.monotonic() + redaction.REST_SECONDS + 1
print(found.of("harmless 7"))
"""


def test_what_cannot_be_redacted_in_time_is_withheld_and_tried_again_later() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    withheld = "('[withheld: it could not be redacted in time]', 1)"
    said = "redactor 'endless' took longer than 0.2 s a moment ago"
    assert done.stdout.splitlines() == ["(['call #', {'x': '-'}, 5], 2)", withheld, withheld, said, "('harmless #', 1)"]


def test_without_redactors_text_is_as_it_was() -> None:
    assert Redaction(parse_config(b"{}").redactors).of({"a": ["b"]}) == ({"a": ["b"]}, 0)
