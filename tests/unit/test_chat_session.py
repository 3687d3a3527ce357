"""A conversation: what is sent, how it is kept, written down and found again."""

from __future__ import annotations

import json
import os
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from llmops_tui.errors import UsageError
from llmops_tui.screens import chat_history, chat_settings
from llmops_tui.screens.chat_history import ChatHistory
from llmops_tui.screens.chat_session import Answered, Conversation, Turn, curl, from_json, markdown, messages, table, to_json
from llmops_tui.screens.chat_settings import read_settings, settings_text
from llmops_tui.screens.widgets.markdown_lines import MarkdownText, markdown_lines, wrapped
from llmops_tui.specs.chat_answer import ChatAnswer


def answered(text: str, version: str = "v3", error: str = "", **changes: Any) -> Answered:
    answer = ChatAnswer(0.0, request_id=f"req_{text}", version=version)
    if text:
        answer.take({"choices": [{"delta": {"content": text}, "finish_reason": None if error else "stop"}]}, 0.5)
    answer.end(1.0, error)
    return Answered(answer, **changes)


def talk(*turns: Turn, **changes: Any) -> Conversation:
    return Conversation("c1", "support", 1.0, turns=list(turns), **changes)


def said(conversation: Conversation, column: int) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in conversation.request(column)["messages"]]


def test_each_version_goes_on_from_its_own_answers() -> None:
    conversation = talk(Turn("one", [answered("left"), answered("right", "v4")]), Turn("two"), system="Be brief.")
    assert said(conversation, 0) == [("system", "Be brief."), ("user", "one"), ("assistant", "left"), ("user", "two")]
    assert said(conversation, 1) == [("system", "Be brief."), ("user", "one"), ("assistant", "right"), ("user", "two")]


def test_a_version_that_came_later_goes_on_from_the_first_ones_answers() -> None:
    conversation = talk(Turn("one", [answered("left")]), Turn("two"))
    assert said(conversation, 1) == [("user", "one"), ("assistant", "left"), ("user", "two")]


def test_what_broke_off_is_left_out_and_what_was_corrected_counts() -> None:
    broken = Turn("broken", [answered("half", error="the server died")])
    mended = Turn("mended", [answered("wrong", correction="right")])
    assert said(talk(broken, mended, Turn("now")), 0) == [("user", "mended"), ("assistant", "right"), ("user", "now")]
    assert messages("", [Turn("nothing came", [answered("")]), Turn("now")], 0) == [{"role": "user", "content": "now"}]


def test_the_request_of_an_earlier_answer_is_the_one_of_then() -> None:
    conversation = talk(Turn("one", [answered("first")]), Turn("two", [answered("second")]), settings={"temperature": 0.0})
    body = conversation.request(0, 1)
    assert body["messages"] == [{"role": "user", "content": "one"}]
    assert body["temperature"] == 0.0


@given(st.text(max_size=60), st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_a_curl_line_carries_any_text_through_a_shell(prompt: str, system: str) -> None:
    prompt, system = prompt.replace("\0", ""), system.replace("\0", "")
    line = curl("curl http://h/v1/chat/completions -H 'x: y' -d '{}'", "support:v4", {"messages": messages(system, [Turn(prompt)], 0)})
    words = shlex.split(line)
    assert words[:4] == ["curl", "http://h/v1/chat/completions", "-H", "x: y"]
    assert words[-2] == "-d"
    body = json.loads(words[-1])
    assert body["model"] == "support:v4"
    assert body["messages"][-1]["content"] == prompt
    assert "stream_options" not in body


def test_what_is_kept_is_read_back_whole() -> None:
    one = answered("left", asked="v3", rating="up")
    one.answer.take({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}, 0.9)
    conversation = talk(
        Turn("one", [one, answered("right", "v4", correction="better")]), versions=["v3", "v4"], system="s", settings={"temperature": 0.5}
    )
    back = from_json(json.loads(json.dumps(to_json(conversation))))
    assert to_json(back) == to_json(conversation)
    assert back.turns[0].answers[0].answer.figures() == one.answer.figures()


def test_an_answer_that_was_on_its_way_is_over_when_it_is_read_back() -> None:
    conversation = talk(Turn("one", [Answered(ChatAnswer(0.0, text="half"))]))
    back = from_json(to_json(conversation)).turns[0].answers[0].answer
    assert (back.over, back.whole, back.text) == (True, False, "half")
    assert "the console ended" in back.error


@pytest.mark.parametrize(
    "odd",
    [
        None, 7, [], {}, {"turns": 5}, {"turns": [5, {}, {"prompt": 9, "answers": [3, {"text": 4, "asked_at": "x", "pieces": "y"}]}]},
        {"turns": [], "versions": "v3", "settings": [], "began": "now"},
    ],
)  # fmt: skip
def test_another_shape_is_refused_or_filled_up_and_never_fails_otherwise(odd: object) -> None:
    try:
        back = from_json(odd)
    except ValueError:
        return
    assert to_json(from_json(to_json(back))) == to_json(back)


def test_a_conversation_is_written_as_markdown_and_as_a_table() -> None:
    conversation = talk(
        Turn("How?", [answered("Like *so*.", rating="up"), answered("", "v4", error="the server died")]),
        system="Be brief.\nBe kind.", settings={"temperature": 0.5},
    )  # fmt: skip
    page = markdown(conversation)
    assert page.startswith("# support\n\n> Be brief.\n> Be kind.\n")
    for part in ("`temperature=0.5`", "## How?", "### v3\n\nLike *so*.", "up*", "### v4", "the server died"):
        assert part in page
    columns, rows = table(conversation)
    assert [dict(zip(columns, row, strict=True))["answer"] for row in rows] == ["Like *so*.", ""]
    assert dict(zip(columns, rows[0], strict=True))["ttft_ms"] == 500.0


# On disk.


def test_history_outlives_the_viewer_and_is_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "view-chats.jsonl"
    history = ChatHistory(path)
    conversation = talk(Turn("Where is my parcel?", [answered("On its way.")]))
    history.keep(conversation)
    conversation.turns.append(Turn("When?", [answered("On Monday.")]))
    history.keep(conversation)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = ChatHistory(path)
    again.load()
    assert [len(each.turns) for each in again.conversations()] == [2]
    assert again.prompts() == ["Where is my parcel?", "When?"]
    assert [each.identity for each in again.search("PARCEL monday")] == ["c1"]
    assert again.search("parcel tuesday") == []
    assert again.conversations("other") == []


def test_a_damaged_line_costs_that_line(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    ChatHistory(path).keep(talk(Turn("kept", [answered("yes")])))
    with open(path, "ab") as file:
        file.write(b'{"id": "half", "turns": [{"pro\n\xff\xfe\n[1,2]\n' + b"[" * 100_000 + b"\n")
    history = ChatHistory(path)
    history.load()
    assert [each.title for each in history.conversations()] == ["kept"]


def test_a_file_that_grew_too_large_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_history, "_LARGEST_BYTES", 4000)
    path = tmp_path / "chats.jsonl"
    history = ChatHistory(path)
    for number in range(40):
        history.keep(Conversation(f"c{number}", "support", 1.0, turns=[Turn(f"question {number}", [answered("yes")])]))
    assert path.stat().st_size < 6000
    again = ChatHistory(path)
    again.load()
    assert again.conversations()[-1].title == "question 39"
    assert os.listdir(tmp_path) == ["chats.jsonl"]


def test_a_disk_that_refuses_is_said_and_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    history = ChatHistory(tmp_path / "file" / "chats.jsonl")
    history.keep(talk(Turn("one", [answered("yes")])))
    assert history.problem.startswith("the conversation is not kept: ")
    assert len(history.conversations()) == 1


# Fields of the request as a line.


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", {}),
        ("temperature=0 max_tokens=256", {"temperature": 0, "max_tokens": 256}),
        ("top_p=1e-1 stop='[a, b]' seed=7", {"top_p": 0.1, "stop": ["a", "b"], "seed": 7}),
        ("response_format.type=json_object", {"response_format": {"type": "json_object"}}),
    ],
)
def test_settings_are_read_as_the_command_line_reads_them(line: str, found: dict[str, Any]) -> None:
    assert read_settings(line) == found


@pytest.mark.parametrize("line", ["temperature", "temperature 0.5", "=5", "a..b=1", "stop='[a", "stop=[a", "messages=[]", "model=x", "n=2"])
def test_settings_that_are_none_are_refused_with_an_example(line: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_settings(line)
    assert "--set" not in refused.value.message
    assert refused.value.next_step


KEYS = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda key: key not in chat_settings._NOT_HERE)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)
VALUES = st.one_of(
    st.booleans(), st.integers(-(10**6), 10**6), st.floats(-1e3, 1e3), WORDS, st.lists(st.integers(0, 9), max_size=3), st.none()
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_settings_shown_as_a_line_read_back_as_they_are(found: dict[str, Any]) -> None:
    assert read_settings(settings_text(found)) == found


# Markdown.


PAGE = """# Title

Some **bold**, *slanted* and `code`, [a link](http://x.y).

- one item that is rather long and has to be wrapped over lines
- two
  1. nested

> quoted

```python
def f(x):
\treturn x  # a comment that does not fit in thirty columns
```

| a | bee |
|---|---|
| 1 | two three four five six seven |

end"""


def plain(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def test_markdown_is_laid_out_by_its_blocks() -> None:
    lines = plain(markdown_lines(PAGE, 30))
    for part in (
        "Title",
        "· one item that is rather long",
        "  and has to be wrapped over",
        "  1. nested",
        "│ quoted",
        "│ python",
        "│ def f(x):",
        "a  bee",
    ):
        assert part in lines
    assert "(http://x.y)" in " ".join(lines)
    roles = {text.strip(): role for line in markdown_lines(PAGE, 60) for text, role in line}
    assert (roles["bold"], roles["code"], roles["Title"]) == ("bright", "accent", "title")


@pytest.mark.parametrize("width", [12, 30, 80])
def test_a_text_laid_out_as_it_comes_ends_as_the_whole_text_laid_out_at_once(width: int) -> None:
    growing = MarkdownText()
    for end in range(len(PAGE) + 1):
        shown = growing.lines(PAGE[:end], width)
    assert shown == markdown_lines(PAGE, width)


@given(st.text(st.sampled_from(list("ab *_`#->|\n1.[]()~日\t\x1b")), max_size=120), st.integers(9, 40))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_layout_and_no_line_is_too_long(text: str, width: int) -> None:
    growing = MarkdownText()
    for end in range(0, len(text) + 1, 7):
        growing.lines(text[:end], width)
    for line in plain(growing.lines(text, width)):
        assert cell_len(line) <= width + 16  # lists within lists keep a word's room
        assert "\x1b" not in line


def test_words_are_broken_between_them_and_own_line_ends_stay() -> None:
    assert plain(wrapped([("one two three\nfour", "text")], 8)) == ["one two", "three", "four"]
    assert plain(wrapped([("abcdefghij", "text")], 4)) == ["abcd", "efgh", "ij"]
    assert plain(wrapped([("ab", "text"), ("cd ef", "bright")], 4)) == ["abcd", "ef"]
    assert plain(wrapped([("", "text")], 4)) == [""]
