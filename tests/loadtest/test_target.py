"""Where a load test may go without being told that it may leave the box."""

from __future__ import annotations

import pytest

from llmops_tui.engine.endpoints.loadtest_target import _is_this_box


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_box_is_known_by_its_numbers_and_its_name(host: str) -> None:
    assert _is_this_box(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.org", "127.example.org", "localhost.example.org", "localhosts", "::10", "10.0.0.1", "0.0.0.0", ""]
)
def test_a_name_that_only_begins_like_it_is_another_box(host: str) -> None:
    assert not _is_this_box(host)
