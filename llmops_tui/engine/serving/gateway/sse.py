"""Reading a stream of events while it passes: when content came, how it finished, its usage, and the text's hash.

Most events hold nothing but content, and JSON is not parsed for those: a server writes them all alike but for the text, so that the first
one shows what stands before and after it. Every other event is parsed. What goes on to the client are whole events, as they came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from llmops_tui.engine.serving.gateway.errors import GatewayError

_LONGEST_EVENT = 4 << 20
_MOST_TEXT = 1 << 20
_TEXTS = ("content", "text", "reasoning_content", "reasoning")
_DONE = b"data: [DONE]\n\n"
DONE_EVENT = _DONE
_DONE_MARKS = (b"data: [DONE]", b"data:[DONE]")


class EventStream:
    """State of one stream. Times are those given to `take`, in seconds."""

    __slots__ = (
        "_after", "_before", "_hash", "_pending", "_text_bytes", "chunks", "done", "error", "finish", "first",
        "gap_most", "last", "new_chunks", "new_gap", "strip_usage", "text", "usage",
    )  # fmt: skip

    def __init__(self, strip_usage: bool, keep_text: bool) -> None:
        self._pending = b""
        self._before = b""  # what stands before the text in the newest event that held nothing else; empty until there was one
        self._after = b""  # what stands after that text
        self._hash = hashlib.blake2b(digest_size=16)
        self.strip_usage = strip_usage
        self.text: list[bytes] | None = [] if keep_text else None
        self._text_bytes = 0
        self.chunks = 0  # events with content
        self.first = 0.0
        self.last = 0.0
        self.gap_most = 0.0
        self.new_gap = -1.0  # of the newest take: the gap before its first content; -1 when it has none or is the first
        self.new_chunks = 0
        self.finish = ""
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.done = False

    def take(self, data: bytes, now: float, pieces: Sequence[bytes] = ()) -> bytes:
        """The events that are whole with `data`, to be sent on; the rest waits. `pieces`: the same bytes as the server wrote them.

        Raises GatewayError 502 for what is no stream of events."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
            pieces = ()
        if not data.endswith(b"\n\n"):
            if b"\r\n" in data:
                data = data.replace(b"\r\n", b"\n")
                pieces = ()
            cut = data.rfind(b"\n\n") + 2
            if cut < 2:
                cut = 0
            if cut != len(data):
                self._pending = data[cut:]
                pieces = ()
                if len(self._pending) > _LONGEST_EVENT:
                    raise GatewayError(502, f"the model's server sent an event of more than {_LONGEST_EVENT} bytes", "upstream_nonsense")
                data = data[:cut]
            if not data:
                self.new_chunks = 0
                self.new_gap = -1.0
                return b""
        texts: list[bytes] = []
        stripped: list[bytes] = []
        at, size = 0, len(data)
        alike = True  # no event of a run of them was found to hold more
        while at < size:
            if self._before and data.startswith(self._before, at):
                end = self._plain_event(data, at, texts)
                if end > at:
                    at = end
                    if alike and data.startswith(self._before, at):
                        end = self._plain_events(data, at, pieces, texts)
                        alike, at = end > at, end
                    continue
            end = data.find(b"\n\n", at) + 2
            event = data[at : end - 2]
            if event in _DONE_MARKS:
                self.done = True
            elif (answer := _payload(event)) is not None:
                found = self._facts(answer, event)
                if found:
                    texts += found
                elif self.strip_usage and _only_usage(answer):
                    stripped.append(data[:at])
                    data = data[end:]
                    at, size, pieces = 0, len(data), ()
                    continue
            at = end
        self._content(texts, now)
        return b"".join((*stripped, data)) if stripped else data

    def _plain_event(self, data: bytes, at: int, texts: list[bytes]) -> int:
        """Add the text of the event here if it holds nothing else, and return where it ends; else where it begins."""
        begin = at + len(self._before)
        end = data.find(b'"', begin)
        if not data.startswith(self._after, end):
            return at
        text = data[begin:end]
        texts.append(_unescaped(text) if b"\\" in text else text)
        return end + len(self._after)

    def _plain_events(self, data: bytes, at: int, pieces: Sequence[bytes], texts: list[bytes]) -> int:
        """The same for all events from here to the last one that begins so, if every one of them holds nothing else."""
        first = begin = 0
        while begin < at and first < len(pieces):
            begin += len(pieces[first])
            first += 1
        if begin != at:  # it does not write them one by one
            first, pieces = 0, [event + b"\n\n" for event in data[at:-2].split(b"\n\n")]
        before, after = self._before, self._after
        last = len(pieces)
        while last > first and not pieces[last - 1].startswith(before):
            last -= 1
        head, tail = len(before), -len(after)
        found = [piece[head:tail] for piece in pieces[first:last]]
        joined = b"".join(found)
        run = b"".join((before, (after + before).join(found), after))
        if b'"' in joined or not data.startswith(run, at):
            return at
        texts += [_unescaped(text) for text in found] if b"\\" in joined else found
        return at + len(run)

    def response_hash(self) -> str:
        return self._hash.hexdigest()

    def _content(self, texts: list[bytes], now: float) -> None:
        """Note the texts that came together; an empty one is no content."""
        count = self.new_chunks = len(texts) - texts.count(b"")
        self.new_gap = -1.0
        if not count:
            return
        joined = b"".join(texts)
        self._hash.update(joined)
        if self.text is not None and self._text_bytes < _MOST_TEXT:
            self.text.append(joined[: _MOST_TEXT - self._text_bytes])
            self._text_bytes += len(joined)
        if self.chunks:
            gap = now - self.last
            self.new_gap = gap
            if gap > self.gap_most:
                self.gap_most = gap
        else:
            self.first = now
        self.last = now
        self.chunks += count

    def _facts(self, answer: dict[str, Any], event: bytes) -> list[bytes]:
        """Note how it finished, usage and errors; the texts of an event's choices."""
        usage, error = answer.get("usage"), answer.get("error")
        if isinstance(usage, dict):
            self.usage = usage
        if error:
            self.error = error if isinstance(error, dict) else {"message": str(error)}
        choices = answer.get("choices")
        texts: list[bytes] = []
        if not isinstance(choices, list):
            return texts
        plain = ""
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            finish = choice.get("finish_reason")
            if isinstance(finish, str):
                self.finish = finish
            delta = choice.get("delta")
            source = delta if isinstance(delta, dict) else choice
            for name in _TEXTS:
                if name in source and (text := source[name]) and isinstance(text, str):
                    texts.append(text.encode("utf-8", "surrogatepass"))
                    if not isinstance(finish, str):
                        plain = name
            if "tool_calls" in source and (calls := source["tool_calls"]) and isinstance(calls, list):
                texts.append(orjson.dumps(calls))
        if plain and len(texts) == len(choices) == 1 and not isinstance(usage, dict) and not error:
            self._learn(event, plain.encode(), texts[0])
        return texts

    def _learn(self, event: bytes, name: bytes, text: bytes) -> None:
        """Keep what stands around the text of an event that holds nothing else; one whose text is written with escapes teaches nothing."""
        for colon in (b'":"', b'": "'):
            at = event.find(b'"' + name + colon + text + b'"')
            if at >= 0:
                begin = at + 1 + len(name) + len(colon)
                self._before = event[:begin]
                self._after = event[begin + len(text) :] + b"\n\n"
                return


def _payload(event: bytes) -> dict[str, Any] | None:
    """The JSON object of an event; None for comments, the end mark and what is no JSON."""
    if event.startswith(b"data: {") and b"\n" not in event:
        raw = event[6:]
    else:
        lines = [line.partition(b":")[2].removeprefix(b" ") for line in event.split(b"\n") if line.startswith((b"data:", b"error:"))]
        raw = b"\n".join(lines)
        if not raw.startswith(b"{"):
            return None
    try:
        answer = orjson.loads(raw)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _only_usage(answer: dict[str, Any]) -> bool:
    return answer.get("choices") == [] and isinstance(answer.get("usage"), dict)


def _unescaped(joined: bytes) -> bytes:
    try:
        text: str = orjson.loads(b'"' + joined + b'"')
    except ValueError:
        return joined
    return text.encode("utf-8", "surrogatepass")
