"""A comparison in words."""

from __future__ import annotations

import csv
import io

import pytest

from llmops_tui.commands.comparison_text import csv_text, markdown, table_lines
from llmops_tui.commands.output import cell_width
from llmops_tui.commands.runs_annotate import changes
from llmops_tui.engine.run_pages import _KEYS
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import Comparison
from llmops_tui.specs.run_sorts import SORTS, descends
from tests.tui.fake import summary

COMPARISON = Comparison(
    runs=[
        summary("train-a-0001", "succeeded", note="a | b <script>", baseline=True),
        summary("train-b-0002", "running", tags=["x"], ended_at=None),
    ],
    config=[
        {"key": "optim.learning_rate", "values": [1e-4, 2e-4], "differs": True},
        {"key": "seed", "values": [0, 0], "differs": False},
        {"key": "packing", "values": [True, None], "differs": True},
    ],
    data=[{"key": "dataset.sha256", "values": ["a" * 64, "a" * 64], "differs": False}],
    environment=[],
    metrics=[{"metric": "train/loss", "last": [1.23456, None], "minimum": [1.0, None], "maximum": [9.0, None]}],
)


def test_a_document_for_a_pull_request_has_what_differs() -> None:
    assert (
        markdown(COMPARISON, False)
        == """## train-a-0001 and train-b-0002

### Runs

|  | train-a-0001 | train-b-0002 |
| --- | ---: | ---: |
| state | succeeded | running |
| seconds | 780 | - |
| tags | - | x |
| note | a \\| b &lt;script> | - |
| baseline | yes | - |

### Metrics

|  | train-a-0001 | train-b-0002 |
| --- | ---: | ---: |
| `train/loss` | 1.235 | - |

### Config

|  | train-a-0001 | train-b-0002 |
| --- | ---: | ---: |
| `optim.learning_rate` | 0.0001 | 0.0002 |
| `packing` | yes | - |

1 more are the same.

### Data

No difference.
"""
    )


def test_the_table_says_how_much_it_leaves_out_and_cuts_long_values_in_the_middle() -> None:
    titles = [title for title, _ in table_lines(COMPARISON, False)]
    assert titles == ["runs", "metrics", "config (1 more are the same)", "data (no difference)"]
    data = dict(table_lines(COMPARISON, True))["data"]
    assert data == [["dataset.sha256", *[f"{'a' * 29}…{'a' * 30}"] * 2]]
    metrics = dict(table_lines(COMPARISON, True))["metrics"]
    assert metrics == [["train/loss", "1.235", "-"], ["train/loss min", "1", "-"], ["train/loss max", "9", "-"]]


def test_the_file_has_everything_in_full() -> None:
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(csv_text(COMPARISON)))}
    assert rows["train/loss"]["train-a-0001"] == "1.23456"
    assert rows["packing"] == {"section": "config", "key": "packing", "differs": "yes", "train-a-0001": "yes", "train-b-0002": ""}
    assert rows["seed"]["differs"] == "no"
    assert rows["dataset.sha256"]["train-b-0002"] == "a" * 64


def test_changes_of_tags_are_read_by_their_signs() -> None:
    assert changes(["+a", "b", "-c", "+a"]) == (["a", "b"], {"c"})
    with pytest.raises(UsageError, match="no tag after the sign"):
        changes(["-"])


def test_every_sort_key_that_is_offered_is_one_of_the_engine() -> None:
    assert set(SORTS) == set(_KEYS)
    assert descends("")
    assert descends("ended")
    assert not descends("name")
    assert not descends("metric.train/loss")


def test_a_text_is_as_wide_as_a_terminal_shows_it() -> None:
    assert [cell_width(text) for text in ("", "ab", "名前", "e\u0301")] == [0, 2, 4, 1]
