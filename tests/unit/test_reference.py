"""The reference pages are made from the models, complete and current."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_tui.specs.reference import settings_page, specs_page

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "name"), [(settings_page, "settings"), (specs_page, "specs")])
def test_the_page_in_docs_is_what_the_models_say(page: Callable[[], str], name: str) -> None:
    assert (DOCS / f"{name}.md").read_text() == page(), f"run: python -m llmops_tui.specs.reference {name} > docs/{name}.md"


@pytest.mark.parametrize("page", [settings_page, specs_page])
def test_every_key_says_what_it_does(page: Callable[[], str]) -> None:
    unexplained = [line for line in page().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert unexplained == []
