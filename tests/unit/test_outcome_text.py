"""What a job said at its end, in lines."""

from __future__ import annotations

from llmops_tui.specs.outcome_text import outcome_lines


def test_scores_stand_once_with_their_intervals_and_checks_with_their_words() -> None:
    outcome = {
        "kept": "gained 0.4 on the held-out loss",
        "eval_loss_before": 5.6033379,
        "steps": 12_000,
        "tokens_per_second": 2329.4,
        "before": {"loss": 5.6033379, "loss_interval": [5.6, 5.61], "rows": 2, "perplexity": 271.33, "perplexity_interval": [None, None]},
        "probe": None,
        "verified": True,
        "layers_removed": [3, 4],
        "checks": [{"name": "stop token", "verdict": "passed", "words": "as its source's"}],
        "peak": float("nan"),
    }
    assert list(outcome_lines(outcome)) == [
        ("kept", "gained 0.4 on the held-out loss"),
        ("steps", "12,000"),
        ("tokens per second", "2329"),
        ("loss before", "5.603 (95 % interval 5.6 to 5.61)"),
        ("rows before", "2"),
        ("perplexity before", "271.3"),
        ("verified", "yes"),
        ("layers removed", "3, 4"),
        ("stop token", "passed: as its source's"),
        ("peak", "nan"),
    ]


def test_nothing_said_is_no_line_and_nonsense_raises_nothing() -> None:
    assert list(outcome_lines({})) == []
    assert list(outcome_lines({"a": [], "b": {}, "c": "", "checks": "all well", "d": [{"x": 1}]})) == [("checks", "all well")]
