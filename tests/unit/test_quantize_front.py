"""The forms that no other beats, and a card in words."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from llmops_tui.commands.quantized import card_lines
from llmops_tui.specs.quantize_front import MEASURES, described_change, front


def card(perplexity: float | None, speed: float | None, size: float) -> dict[str, float | None]:
    return {"perplexity": perplexity, "tokens_per_second": speed, "bytes": size}


def test_a_form_is_on_the_front_unless_another_is_as_good_in_all_and_better_in_one() -> None:
    f16, q8, nf4 = card(20.0, 50, 270), card(20.1, 70, 145), card(33.2, 12, 110)
    worse = card(20.2, 60, 150)
    assert front([f16, q8, nf4, worse]) == [True, True, True, False]
    assert front([f16]) == [True]
    assert front([]) == []


def test_equal_forms_and_differences_within_the_noise_beat_nobody() -> None:
    assert front([card(20.0, 50, 100), card(20.0, 50.9, 100)]) == [True, True]
    assert front([card(20.0, 50, 100), card(20.0, 60, 100)]) == [False, True]


def test_a_figure_that_was_not_taken_does_not_decide_and_no_number_never_wins() -> None:
    assert front([card(None, 50, 100), card(20.0, 50, 120)]) == [True, False]
    assert front([card(math.nan, 90, 90), card(20.0, 50, 100)]) == [True, True]


_CARDS = st.lists(
    st.fixed_dictionaries({key: st.one_of(st.none(), st.integers(1, 5)) for key, _ in MEASURES}), min_size=1, max_size=6
)  # fmt: skip


@given(_CARDS)
def test_what_is_best_alone_in_a_figure_all_have_is_on_the_front(cards: list[dict[str, int | None]]) -> None:
    marked = front(cards)
    for key, more in MEASURES:
        values = [one[key] for one in cards]
        if None not in values:
            best = max(values) if more else min(values)  # type: ignore[type-var]
            if values.count(best) == 1:
                assert marked[values.index(best)]


def test_a_card_says_before_and_after_and_what_it_was_heard_by() -> None:
    told = dict(
        card_lines(
            {
                "type": "Q8_0", "bytes": 1 << 20, "bytes_source": 2 << 20, "perplexity_source": 20.0, "perplexity": 20.5, "mean_kl": 1e-3,
                "max_kl": 0.1, "same_choice": 0.97, "tokens": 1200, "rows": 8, "rows_from": "rows of x", "heard_by": "llama.cpp itself",
                "mix": [{"tensor": "attn_q", "type": "Q8_0", "count": 30, "bytes": 1 << 19}],
            }
        )
    )  # fmt: skip
    assert told["perplexity"] == "20.000 before, 20.500 after (+2.50 %)"
    assert (told["compared on"], told["heard by"]) == ("rows of x", "llama.cpp itself")
    assert told["attn_q"] == "Q8_0 × 30, 512.0 KiB"
    assert "speed" not in told
    assert card_lines({}) == []
    assert described_change({}) == "-"
