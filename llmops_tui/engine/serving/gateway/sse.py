"""Reading a stream of events while it passes: when content came, how it finished, its usage, and the text's hash.

Most reads hold nothing but content, and JSON is not parsed for those: the text stands between a marker that each server writes the
same way in every event, and a quote. Events that hold something else are parsed. What goes on to the client are whole events, as they
came.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson

from llmops_tui.engine.serving.gateway.errors import GatewayError

_LONGEST_EVENT = 4 << 20
_MOST_TEXT = 1 << 20
_TEXT = re.compile(rb'(?:[^"\\]|\\.)*')
_DONE = b"data: [DONE]\n\n"
DONE_EVENT = _DONE


class EventStream:
    """State of one stream. Times are those given to `take`, in seconds."""

    __slots__ = (
        "_finish_mark", "_hash", "_marker", "_pending", "_usage_mark", "chunks", "done", "error", "finish", "first", "gap_most", "last",
        "new_chunks", "new_gap", "strip_usage", "text", "usage",
    )  # fmt: skip

    def __init__(self, strip_usage: bool, keep_text: bool) -> None:
        self._pending = b""
        self._marker = b""  # until an event with content has shown how this server writes
        self._finish_mark = b""
        self._usage_mark = b""
        self._hash = hashlib.blake2b(digest_size=16)
        self.strip_usage = strip_usage
        self.text: list[bytes] | None = [] if keep_text else None
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

    def take(self, data: bytes, now: float) -> bytes:
        """The events that are whole with `data`, to be sent on; the rest waits. Raises GatewayError 502 for what is no stream of events."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if not data.endswith(b"\n\n"):
            if b"\r\n" in data:
                data = data.replace(b"\r\n", b"\n")
            cut = data.rfind(b"\n\n") + 2
            if cut < 2:
                cut = 0
            if cut != len(data):
                self._pending = data[cut:]
                if len(self._pending) > _LONGEST_EVENT:
                    raise GatewayError(502, f"the model's server sent an event of more than {_LONGEST_EVENT} bytes", "upstream_nonsense")
                data = data[:cut]
            if not data:
                self.new_chunks = 0
                self.new_gap = -1.0
                return b""
        if data.endswith(_DONE):
            self.done = True
        marker = self._marker
        pieces = data.split(marker) if marker else ()
        if len(pieces) < 2:
            return self._slowly(data, now)
        del pieces[0]
        if b"\\" in data:
            joined = b"".join([found.group() for piece in pieces if (found := _TEXT.match(piece)) is not None])
            count = len(pieces)
            joined = _unescaped(joined)
        else:
            texts = [piece[: piece.find(b'"')] for piece in pieces]
            joined = b"".join(texts)
            count = len(texts) - texts.count(b"")
        self._content(joined, count, now)
        if self._finish_mark in data:
            self._look_into(data, self._finish_mark)
        if self._usage_mark in data:
            return self._look_into(data, self._usage_mark)
        return data

    def response_hash(self) -> str:
        return self._hash.hexdigest()

    def _content(self, joined: bytes, count: int, now: float) -> None:
        self.new_chunks = count
        self.new_gap = -1.0
        if not count:
            return
        self._hash.update(joined)
        if self.text is not None and len(joined) + sum(map(len, self.text[-1:])) < _MOST_TEXT:
            self.text.append(joined)
        if self.chunks:
            gap = now - self.last
            self.new_gap = gap
            if gap > self.gap_most:
                self.gap_most = gap
        else:
            self.first = now
        self.last = now
        self.chunks += count

    def _slowly(self, data: bytes, now: float) -> bytes:
        """Parse each event: before it is known how this server writes, and for reads without plain content."""
        texts: list[str] = []
        kept: list[bytes] | None = None
        events = data.split(b"\n\n")[:-1]
        for index, event in enumerate(events):
            answer = _payload(event)
            if answer is None:
                continue
            for text in self._facts(answer, event):
                if text:
                    texts.append(text)
            if self.strip_usage and _only_usage(answer):
                if kept is None:
                    kept = list(events)
                kept[index] = b""
        self._content("".join(texts).encode("utf-8", "surrogatepass"), len(texts), now)
        if kept is None:
            return data
        return b"".join([event + b"\n\n" for event in kept if event])

    def _facts(self, answer: dict[str, Any], event: bytes) -> list[str]:
        """Note how it finished, usage and errors; the texts of an event's choices."""
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        error = answer.get("error")
        if error:
            self.error = error if isinstance(error, dict) else {"message": str(error)}
        choices = answer.get("choices")
        texts: list[str] = []
        if not isinstance(choices, list):
            return texts
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            if isinstance(choice.get("finish_reason"), str):
                self.finish = choice["finish_reason"]
            delta = choice.get("delta")
            source = delta if isinstance(delta, dict) else choice
            for name in ("content", "text", "reasoning_content", "reasoning"):
                text = source.get(name)
                if isinstance(text, str) and text:
                    texts.append(text)
                    if not self._marker and name in ("content", "text"):
                        self._learn(event, name.encode())
            calls = source.get("tool_calls")
            if isinstance(calls, list) and calls:
                texts.append(orjson.dumps(calls).decode())
        return texts

    def _learn(self, event: bytes, name: bytes) -> None:
        for colon in (b'":', b'": '):
            marker = b'"' + name + colon + b'"'
            if event.count(marker) == 1:
                self._marker = marker
                self._finish_mark = b'"finish_reason' + colon + b'"'
                self._usage_mark = b'"usage' + colon + b"{"

    def _look_into(self, data: bytes, mark: bytes) -> bytes:
        """Parse the last event with this mark; the data without it when it only holds a usage that the client did not ask for."""
        at = data.rfind(mark)
        begin = data.rfind(b"\n\n", 0, at) + 2
        if begin < 2:
            begin = 0
        end = data.find(b"\n\n", at) + 2
        event = data[begin : end - 2]
        answer = _payload(event)
        if answer is not None:
            self._facts(answer, event)
            if self.strip_usage and _only_usage(answer):
                return data[:begin] + data[end:]
        return data


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
