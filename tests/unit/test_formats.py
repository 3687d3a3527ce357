"""Rows of six formats become checked conversations; what cannot be learnt from says why."""

from __future__ import annotations

import pytest

from llmops_tui.data.formats import detect, to_messages
from llmops_tui.data.rows import RowError
from llmops_tui.errors import UsageError

USER = {"role": "user", "content": "Hi?"}
ASSISTANT = {"role": "assistant", "content": "Yes."}


def turns(*roles: str) -> dict[str, object]:
    return {"messages": [{"role": role, "content": f"text {number}"} for number, role in enumerate(roles)]}


@pytest.mark.parametrize(
    ("row", "row_format", "conversation"),
    [
        ({"messages": [USER, ASSISTANT]}, "messages", [USER, ASSISTANT]),
        ({"messages": [{"role": "system", "content": ""}, USER, ASSISTANT]}, "messages", [USER, ASSISTANT]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}, ASSISTANT]}, "messages", [USER, ASSISTANT]),
        ({"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]}, "sharegpt", [USER, ASSISTANT]),
        ({"instruction": "Hi?", "input": "", "output": "Yes."}, "alpaca", [USER, ASSISTANT]),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, "alpaca",
         [{"role": "user", "content": "Add\n\n1 2"}, {"role": "assistant", "content": "3"}]),
        ({"prompt": "Hi?", "completion": "Yes."}, "prompt_completion", [USER, ASSISTANT]),
        ({"prompt": [USER], "completion": [ASSISTANT]}, "prompt_completion", [USER, ASSISTANT]),
        ({"question": "Hi?", "answer": "Yes."}, "question_answer", [USER, ASSISTANT]),
        ({"question": "Hi?", "answer": ["Yes.", "No."]}, "question_answer", [USER, ASSISTANT]),
        ({"question": "is it", "title": "It", "passage": "It is.", "answer": "True"}, "question_answer",
         [{"role": "user", "content": "It is.\n\nis it"}, {"role": "assistant", "content": "True"}]),
        ({"context": "It is.", "question": "is it", "answers": {"text": ["yes"], "answer_start": [0]}}, "question_answer",
         [{"role": "user", "content": "It is.\n\nis it"}, {"role": "assistant", "content": "yes"}]),
        ({"system": "Be brief.", "question": "Hi?", "answer": True}, "question_answer",
         [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "True"}]),
        ({"text": "Once."}, "text", {"text": "Once."}),
    ],
)  # fmt: skip
def test_each_format_is_detected_and_becomes_a_conversation(row: dict[str, object], row_format: str, conversation: object) -> None:
    assert detect([row]).format == row_format
    assert to_messages(row, row_format) == conversation


@pytest.mark.parametrize(
    ("row", "row_format", "reason"),
    [
        ({"messages": []}, "messages", "there are no turns"),
        ({"messages": "Hi"}, "messages", "`messages` is str, not a list of turns"),
        ({"text": "Hi"}, "messages", "`messages` is missing"),
        ({"messages": ["Hi"]}, "messages", "turn 1 is not an object"),
        ({"messages": [{"role": "human", "content": "Hi"}]}, "messages", "turn 1 has the unknown role 'human'"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages", "turn 1 has the unknown role"),
        (turns("assistant", "user"), "messages", "turn 1 (assistant) cannot follow nothing"),
        (turns("user", "user", "assistant"), "messages", "turn 2 (user) cannot follow a user turn"),
        (turns("user", "assistant", "assistant"), "messages", "turn 3 (assistant) cannot follow an assistant turn"),
        (turns("user", "assistant", "system"), "messages", "turn 3 (system) cannot follow an assistant turn"),
        (turns("user", "assistant", "user"), "messages", "the last turn is user, not assistant"),
        ({"messages": [USER, {"role": "assistant", "content": " \n"}]}, "messages", "turn 2 (assistant): `content` is empty"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages", "turn 2 (assistant): `content` is null, not text"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages", "turn 2 (assistant): `content` is missing"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}]}, "messages", "turn 2 calls tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ASSISTANT]},
            "messages",
            "turn 1 holds a part that is no text",
        ),
        ({"conversations": [{"from": "gpt", "value": "Hi"}]}, "sharegpt", "turn 1 (assistant) cannot follow nothing"),
        ({"instruction": "Hi", "output": ""}, "alpaca", "`output` is empty"),
        ({"instruction": "Hi"}, "alpaca", "`output` is missing"),
        ({"prompt": 3, "completion": "Yes."}, "prompt_completion", "`prompt` is int, not text"),
        ({"prompt": "Hi?", "answer": "Yes."}, "prompt_completion", "`completion` is missing"),
        ({"question": "Hi?", "answer": []}, "question_answer", "`answer` is list, not text"),
        ({"answer": "Yes."}, "question_answer", "`question` is missing"),
        ({"question": "Hi?", "answer": "half \ud83d of one"}, "question_answer", "`answer` holds half a surrogate pair at character 6"),
        ({"text": "  "}, "text", "`text` is empty"),
    ],
)
def test_a_row_that_cannot_be_learnt_from_gives_its_number_and_reason(row: dict[str, object], row_format: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        to_messages(row, row_format, 17)
    assert caught.value.row_number == 17
    assert caught.value.reason.startswith(reason)


def test_a_tool_may_answer_an_assistant_who_then_goes_on() -> None:
    assert len(to_messages(turns("system", "user", "assistant", "tool", "tool", "assistant"), "messages")) == 6


def test_the_reason_for_a_format_counts_the_rows_that_have_it() -> None:
    found = detect([{"question": "a", "answer": "b"}, {"question": "a", "answer": "b"}, {"other": 1}])
    assert (found.format, found.why) == ("question_answer", "2 of 3 sampled rows have `question` (or `prompt`) and `answer`")


def test_rows_of_no_known_format_name_the_keys_they_have() -> None:
    with pytest.raises(UsageError, match="keys found: document, summary"):
        detect([{"document": "a", "summary": "b"}])


def test_pairs_beside_whole_conversations_are_read_as_what_the_method_learns() -> None:
    row = {"messages": [USER, ASSISTANT], "chosen": [USER, ASSISTANT], "rejected": [USER, {"role": "assistant", "content": "No."}]}
    assert detect([row]).format == "messages"
    assert detect([row], ["preference"]).format == "preference"
