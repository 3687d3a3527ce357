"""What `runs reproduce` answers. Standard library only: the console and the command line import this."""

from __future__ import annotations

from typing_extensions import TypedDict

from llmops_tui.specs.answers import RunSummary


class Difference(TypedDict):
    """One thing that is not as it was; an empty text is: was not there, or is not there now."""

    what: str
    then: str
    now: str


class Reproduction(TypedDict):
    """`run` is the new one, None where nothing was started; `of` the one it repeats."""

    of: str
    differences: list[Difference]
    run: RunSummary | None
