"""A chat answer as it comes in pieces: its text, how it ended, and what it cost in time and tokens. Pure, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BROKE_OFF = "the answer broke off: the connection was lost before it ended"


@dataclass
class ChatAnswer:
    """One answer. Times are of one clock, in seconds; `asked_at` is when it was asked for.

    `finish` is the engine's own word (stop, length, …); empty until it comes. `error` says why an answer is not whole.
    """

    asked_at: float
    request_id: str = ""
    version: str = ""
    replica: str = ""
    text: str = ""
    thinking: str = ""
    finish: str = ""
    error: str = ""
    over: bool = False
    pieces: int = 0
    first_at: float | None = None
    last_at: float | None = None
    ended_at: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    def take(self, chunk: Mapping[str, Any], now: float) -> str:
        """One `chat.completion.chunk`; the text that is new in it."""
        if chunk.get("error"):
            error = chunk["error"]
            self.error = str(error.get("message") or error) if isinstance(error, Mapping) else str(error)
            return ""
        self._count(chunk.get("usage"))
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
        self.finish = str(choice.get("finish_reason") or self.finish)
        delta = choice.get("delta")
        delta = delta if isinstance(delta, Mapping) else {}
        new = _text(delta.get("content"))
        thought = _text(delta.get("reasoning_content") or delta.get("reasoning"))
        if new or thought:
            self.first_at = now if self.first_at is None else self.first_at
            self.last_at = now
            self.pieces += 1
            self.text += new
            self.thinking += thought
        return new

    def end(self, now: float, error: str = "", given_up: bool = False) -> None:
        """The stream is over. Without a finish reason something broke, unless it was `given_up` by the reader."""
        self.over, self.ended_at = True, now
        if given_up:
            self.finish = self.finish or "given up"
        elif error:
            self.error = self.error or error
        elif not self.finish and not self.error:
            self.error = BROKE_OFF

    @property
    def whole(self) -> bool:
        """Whether it came to its own end."""
        return self.over and not self.error and self.finish != "given up"

    @property
    def ttft_ms(self) -> float | None:
        return None if self.first_at is None else (self.first_at - self.asked_at) * 1000

    @property
    def total_ms(self) -> float | None:
        return None if self.ended_at is None else (self.ended_at - self.asked_at) * 1000

    @property
    def tokens(self) -> int:
        """As the engine counted them, else the pieces that came: of the usual engines one each."""
        return self.pieces if self.completion_tokens is None else self.completion_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """After the first token: (n - 1) over the time from the first to the last."""
        if self.first_at is None or self.last_at is None or self.last_at <= self.first_at or self.tokens < 2:
            return None
        return (self.tokens - 1) / (self.last_at - self.first_at)

    def figures(self) -> str:
        """In a line: `v1: 42 tokens in 1.9 s, first after 120 ms, 23.4 tokens/s`; empty where nothing came."""
        if self.first_at is None:
            return ""
        counted = "" if self.completion_tokens is not None else "about "
        parts = [f"{counted}{self.tokens} tokens" + (f" in {seconds_text(self.total_ms)}" if self.total_ms is not None else "")]
        parts.append(f"first after {seconds_text(self.ttft_ms)}")
        if self.tokens_per_second is not None:
            rate = self.tokens_per_second
            parts.append(f"{rate:,.0f} tokens/s" if rate >= 100 else f"{rate:.3g} tokens/s")
        if self.cached_tokens:
            parts.append(f"{self.cached_tokens}/{self.prompt_tokens} prompt tokens cached")
        if self.finish not in ("", "stop"):
            parts.append({"length": "cut at the most tokens allowed"}.get(self.finish, self.finish))
        return (f"{self.version}: " if self.version else "") + ", ".join(parts)

    def _count(self, usage: object) -> None:
        if not isinstance(usage, Mapping):
            return
        self.prompt_tokens = _whole(usage.get("prompt_tokens"), self.prompt_tokens)
        self.completion_tokens = _whole(usage.get("completion_tokens"), self.completion_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, Mapping):
            self.cached_tokens = _whole(details.get("cached_tokens"), self.cached_tokens)


def seconds_text(milliseconds: float | None) -> str:
    """`85 ms`, `1.2 s`."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"


def shown_text(text: str) -> str:
    """What a terminal may be given of a model's words: no control characters but line ends and tabs, so that none can steer it."""
    return "".join(character for character in text if character in "\n\t" or character.isprintable())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object, otherwise: int | None) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
