"""The rows of a long list, a line being edited, the words of a filter, and what two runs differ in: without a terminal."""

from __future__ import annotations

import pytest

from llmops_tui.commands.comparison_text import markdown
from llmops_tui.screens.differences import compare_columns, difference_rows, metric_rows, short_ids
from llmops_tui.screens.filter_words import KnownWords, begins_key, column_words, suggest
from llmops_tui.screens.run_cells import as_of, energy_text, moment_text, scalar_text
from llmops_tui.screens.widgets.editing import LONGEST_LINE, Editor, shown_part
from llmops_tui.screens.widgets.row_store import LEAST_PAGE, RowStore
from llmops_tui.screens.widgets.sample_pane import Sample, sample_lines
from llmops_tui.screens.widgets.table import Row
from llmops_tui.specs.metric_sense import best_of, least_wins
from tests.tui.fake import summary
from tests.tui.fake_archive import comparison, old_run


def _rows(first: int, count: int) -> list[Row]:
    return [Row(f"run-{number}", ((str(number), "text"),)) for number in range(first, first + count)]


def test_a_store_knows_what_is_missing_of_what_is_visible() -> None:
    store = RowStore[Row]()
    store.begin(0, _rows(0, 60), 10_000)
    assert store.missing(0, 20) is None
    assert store.missing(50, 20) == (60 - LEAST_PAGE // 2, LEAST_PAGE)
    assert store.missing(9_990, 20) == (10_000 - LEAST_PAGE, LEAST_PAGE)
    store.add(9_940, _rows(9_940, 60), 10_000)
    assert store.missing(9_980, 20) is None
    assert (store.place("run-9999"), store.place("run-100"), store.at(59)) == (9_999, None, _rows(59, 1)[0])


def test_a_new_answer_forgets_the_old_rows_and_a_shorter_list_those_past_its_end() -> None:
    store = RowStore[Row]()
    store.begin(0, _rows(0, 60), 100)
    store.add(60, _rows(60, 40), 90)
    assert [place for place, _ in store.known()] == [*[*range(100)][:60], *range(60, 100)]
    store.add(0, _rows(0, 10), 50)
    assert store.place("run-70") is None
    assert store.place("run-49") == 49
    store.begin(5, _rows(500, 3), 20)
    assert [row.key for _, row in store.known()] == ["run-500", "run-501", "run-502"]
    assert store.at(0) is None


def test_editing_a_line_in_the_middle_with_words_history_and_a_draft() -> None:
    editor = Editor("state:running tag:x")
    editor.at = len("state:running ")
    editor.insert("-owner:ada ")
    assert editor.text == "state:running -owner:ada tag:x"
    editor.rub_out(editor.word_start(), editor.at)
    assert (editor.text, editor.at) == ("state:running tag:x", 14)
    editor.keep()
    editor.set("half typ")
    editor.recall(1)
    assert editor.text == "state:running tag:x"
    editor.recall(1)
    assert editor.text == "state:running tag:x", "there is nothing older"
    editor.recall(-1)
    assert editor.text == "half typ", "what was being typed comes back"


def test_what_is_pasted_becomes_one_line_of_bounded_length() -> None:
    editor = Editor()
    editor.insert("a\nb\x1b[31m\tc" + "x" * 5000)
    assert editor.text.startswith("a b [31m c")
    assert len(editor.text) == LONGEST_LINE


@pytest.mark.parametrize(("at", "first"), [(0, 0), (5, 0), (40, 30), (100, 81)])
def test_a_long_line_shows_the_part_around_the_cursor(at: int, first: int) -> None:
    assert shown_part("x" * 100, at, 20) == first


def test_tab_knows_keys_values_settings_and_metrics() -> None:
    known = KnownWords(config={"optim.learning_rate"}, metrics={"train/loss"})
    known.add("tag", ["sweep", "two words"])
    assert next(word.text for word in suggest("st", 2, known)) == "state:"
    assert [word.text for word in suggest("state:running,fa", 16, known)] == ["failed "]
    assert next(word.text for word in suggest("-(tag:s", 7, known)) == "sweep "
    assert '"two words" ' in [word.text for word in suggest("tag:", 4, known)]
    assert "cfg.optim.learning_rate" in [word.text for word in suggest("learn", 5, known)]
    assert [word.text for word in column_words("lo", 2, known)] == ["metric.train/loss"]
    first = suggest("state:failed -ow", 16, known)[0]
    assert (first.start, first.text) == (14, "owner:")


def test_the_beginning_of_a_key_is_told_from_a_word() -> None:
    assert [begins_key(text) for text in ("st", "x -(sta", "cfg", "fiqa", "state:", "")] == [True, True, True, False, False, False]


def test_the_best_of_a_metric_is_told_by_its_name_and_not_where_nothing_is() -> None:
    assert (least_wins("eval/loss"), least_wins("eval/accuracy"), least_wins("train/learning_rate")) == (True, False, None)
    assert best_of("eval/loss", [2.0, 1.5, None, float("nan")]) == 1
    assert best_of("eval/accuracy", [0.2, 0.9]) == 1
    assert best_of("train/learning_rate", [1.0, 2.0]) is None
    assert best_of("eval/loss", [1.0, 1.0]) is None
    assert best_of("eval/loss", [None, 1.0]) is None


def test_runs_are_told_apart_by_their_numbers_and_every_run_keeps_its_column() -> None:
    ids = [f"train-fiqa-{number:04d}" for number in range(8)]
    assert short_ids(ids)[:2] == ["0000", "0001"]
    assert short_ids(["a-x-0001", "b-y-0001"]) == ["a-x-0001", "b-y-0001"]
    rows = difference_rows(comparison([old_run(number, 0.0) for number in range(1000, 1008)]), False)
    columns = compare_columns(ids, 80, "key", rows)
    assert len(columns) == 9
    assert sum(column.width + 1 for column in columns) <= 80
    assert all(column.width for column in columns)


def test_a_comparison_tells_only_what_differs_unless_all_is_asked_for() -> None:
    runs = [old_run(1000, 0.0), old_run(1003, 0.0)]
    some, every = difference_rows(comparison(runs), False), difference_rows(comparison(runs), True)
    assert "config optim.learning_rate" in [row.key for row in some]
    assert "config seed" not in [row.key for row in some]
    assert "config seed" in [row.key for row in every]
    assert next(row for row in some if row.title).cells[0][0].startswith("config: ")
    rates = next(row for row in some if row.key == "config optim.learning_rate")
    assert [text for text, _ in rates.cells] == ["optim.learning_rate", "5e-5", "0.0005"]
    best = next(row for row in metric_rows(comparison(runs)) if row.key == "eval/loss")
    assert sum(text.startswith("*") for text, _ in best.cells) == 1


def test_the_markdown_holds_the_runs_their_metrics_and_what_differs() -> None:
    runs = [old_run(1000, 0.0), old_run(1003, 0.0)]
    runs[1]["note"] = "twice the rate | longer"
    text = markdown(comparison(runs), False)
    assert f"## {runs[0]['id']} and {runs[1]['id']}" in text
    assert "twice the rate \\| longer" in text
    assert "| `optim.learning_rate` |" in text
    assert "| `seed` |" not in text
    assert "**" in text, "the best value stands in bold"


def test_a_run_is_shown_as_it_was_then() -> None:
    run = old_run(1000, 1e9)
    earlier = as_of(run, None, run["submitted_at"] - 1)
    assert earlier["state"] == "queued"
    assert "not yet" in earlier["reason"]
    assert run["state"] == "succeeded"
    then = summary("train-x-0001", "running")
    assert as_of(run, then, run["submitted_at"] + 10) is then
    assert as_of(run, None, run["submitted_at"] + 1e6)["state"] == "succeeded"


def test_numbers_and_times_read_as_people_write_them() -> None:
    assert [scalar_text(value) for value in (None, True, 0.0002, 5e-05, "x", 16)] == ["-", "yes", "0.0002", "5e-5", "x", "16"]
    assert (energy_text(None), energy_text(7200.0), energy_text(7.2e6)) == ("-", "2 Wh", "2 kWh")
    assert moment_text(None, 0.0) == ""
    assert len(moment_text(0.0, 1e9)) == 10


def test_an_answer_like_the_one_before_is_said_to_be_so() -> None:
    samples = [Sample(0, "p", "one"), Sample(10, "p", "two"), Sample(20, "p", "two")]
    text = ["".join(part for part, _ in line) for line in sample_lines(samples, 40)]
    assert text == [" step 20  as before", " step 10", "   two", " step 0", "   one"]
