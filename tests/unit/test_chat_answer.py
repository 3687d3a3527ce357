"""An answer gathered from its chunks."""

from __future__ import annotations

import pytest

from llmops_tui.specs.chat_answer import BROKE_OFF, ChatAnswer, seconds_text, shown_text


def chunk(text: str = "", finish: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}], **more}


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, object]:
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": {"cached_tokens": cached}}
    return {"choices": [], "usage": counted}


def test_text_ends_and_figures_come_from_the_stream_and_its_usage() -> None:
    answer = ChatAnswer(asked_at=100.0, version="v1")
    answer.take({"choices": [{"delta": {"role": "assistant", "content": None}}]}, 100.1)
    assert [answer.take(chunk("Hel"), 100.25), answer.take(chunk("lo"), 100.5), answer.take(chunk("!"), 101.25)] == ["Hel", "lo", "!"]
    answer.take(chunk(finish="stop"), 101.3)
    answer.take(usage(30, 5, 24), 101.4)
    answer.end(101.5)
    assert (answer.text, answer.finish, answer.whole, answer.error) == ("Hello!", "stop", True, "")
    assert answer.ttft_ms == pytest.approx(250)
    assert answer.total_ms == pytest.approx(1500)
    assert answer.tokens_per_second == pytest.approx(4.0)  # five tokens, four of them in the second after the first
    assert answer.figures() == "v1: 5 tokens in 1.5 s, first after 250 ms, 4 tokens/s, 24/30 prompt tokens cached"


def test_without_usage_the_pieces_are_counted_and_said_to_be_about_right() -> None:
    answer = ChatAnswer(asked_at=0.0)
    for at, text in ((0.5, "a"), (1.0, "b"), (1.5, "c")):
        answer.take(chunk(text), at)
    answer.take(chunk(finish="length"), 1.5)
    answer.end(1.5)
    assert answer.figures() == "about 3 tokens in 1.5 s, first after 500 ms, 2 tokens/s, cut at the most tokens allowed"


def test_a_stream_that_ends_without_an_end_broke_off() -> None:
    answer = ChatAnswer(asked_at=0.0)
    answer.take(chunk("half"), 1.0)
    answer.end(2.0)
    assert (answer.error, answer.whole, answer.text) == (BROKE_OFF, False, "half")
    assert ChatAnswer(asked_at=0.0, version="v1").figures() == ""


def test_an_error_in_the_stream_is_what_is_told() -> None:
    answer = ChatAnswer(asked_at=0.0)
    answer.take(chunk("half"), 1.0)
    answer.take({"error": {"message": "the server died", "type": "upstream_error"}}, 1.5)
    answer.end(2.0)
    assert (answer.error, answer.whole) == ("the server died", False)


def test_an_answer_the_reader_gave_up_is_no_fault() -> None:
    answer = ChatAnswer(asked_at=0.0)
    answer.take(chunk("half"), 1.0)
    answer.end(2.0, given_up=True)
    assert (answer.error, answer.finish, answer.whole) == ("", "given up", False)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": ["x"]},
        {"choices": [{"delta": 7}]},
        {"usage": "many"},
        {"choices": [{"delta": {"content": 5}}]},
    ],
)
def test_a_chunk_of_another_shape_is_passed_over(odd: dict[str, object]) -> None:
    answer = ChatAnswer(asked_at=0.0)
    assert answer.take(odd, 1.0) == ""
    assert answer.first_at is None


def test_thoughts_are_kept_apart_and_count_as_the_first_token() -> None:
    answer = ChatAnswer(asked_at=0.0)
    assert answer.take({"choices": [{"delta": {"reasoning_content": "hm"}}]}, 0.5) == ""
    answer.take(chunk("yes"), 1.0)
    assert (answer.thinking, answer.text, answer.ttft_ms) == ("hm", "yes", 500.0)


def test_a_models_words_cannot_steer_the_terminal() -> None:
    assert shown_text("a\x1b[2Jb\r\n\tc\x07\x9b1m") == "a[2Jb\n\tc1m"
    assert seconds_text(85.4) == "85 ms"
    assert seconds_text(1234.0) == "1.23 s"
