"""Conversations kept on disk: one JSON line each time one changes, the newest of each counts. The viewer's own convenience.

A line that is damaged costs that line; a disk that refuses costs the memory and is said once.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmops_tui.screens.chat_session import Conversation, from_json, to_json

_MOST_KEPT = 500
_LARGEST_BYTES = 16 << 20


class ChatHistory:
    """`path` None keeps them in memory alone. `keep` and `load` block for a file: call them in a thread, in the order they count."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, Any]] = {}
        self.problem = ""

    def load(self) -> None:
        """What earlier viewers kept."""
        if self._path is None:
            return
        try:
            with open(self._path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * _LARGEST_BYTES))
                lines = file.read().split(b"\n")
        except OSError:
            return
        with self._lock:
            for line in lines:
                try:
                    told = to_json(from_json(json.loads(line)))
                except (ValueError, RecursionError):
                    continue
                self._note(told)

    def keep(self, conversation: Conversation) -> None:
        """Write it down as it is now."""
        with self._lock:  # what waits for the lock writes what has become of it meanwhile
            told = to_json(conversation)
            self._note(told)
            if self._path is None:
                return
            try:
                self._append(self._path, told)
            except OSError as error:
                self.problem = f"the conversation is not kept: {error.strerror or error}"
            else:
                self.problem = ""

    def conversations(self, endpoint: str = "") -> list[Conversation]:
        """The newest last; of one endpoint where it is named."""
        with self._lock:
            found = list(self._kept.values())
        return [from_json(told) for told in found if not endpoint or told["endpoint"] == endpoint]

    def search(self, words: str) -> list[Conversation]:
        """Those in which every word occurs, in a question, an answer or the system prompt; the newest first."""
        wanted = words.casefold().split()
        return [each for each in reversed(self.conversations()) if _has(each, wanted)]

    def prompts(self) -> list[str]:
        """Every question once, the oldest first."""
        found = [turn.prompt for each in self.conversations() for turn in each.turns]
        return list(dict.fromkeys(reversed(found)))[::-1]

    def _note(self, told: dict[str, Any]) -> None:
        self._kept.pop(told["id"], None)
        self._kept[told["id"]] = told
        for identity in list(self._kept)[: max(0, len(self._kept) - _MOST_KEPT)]:
            del self._kept[identity]

    def _append(self, path: Path, told: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(json.dumps(told, separators=(",", ":")).encode() + b"\n")
            grown = file.tell() > _LARGEST_BYTES
        if grown:
            beside = path.with_name(f".{path.name}.{os.getpid()}")
            with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.writelines(_newest(self._kept.values()))
            os.replace(beside, path)


def _newest(kept: Iterable[dict[str, Any]]) -> list[bytes]:
    """The newest lines that fit in half of the file."""
    lines: list[bytes] = []
    size = 0
    for told in reversed(list(kept)):
        line = json.dumps(told, separators=(",", ":")).encode() + b"\n"
        size += len(line)
        if size > _LARGEST_BYTES // 2:
            break
        lines.append(line)
    return lines[::-1]


def _has(conversation: Conversation, wanted: list[str]) -> bool:
    texts = [conversation.endpoint, conversation.system]
    for turn in conversation.turns:
        texts += [turn.prompt, *(each.answer.text for each in turn.answers), *(each.correction for each in turn.answers)]
    whole = "\n".join(texts).casefold()
    return all(word in whole for word in wanted)
