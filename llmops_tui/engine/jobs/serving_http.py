"""Questions to the server on this box: one request, one answer, a connection each. Standard library only."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from llmops_tui.engine.serving.launchers.launcher import Call

_MOST_BYTES = 8 << 20
# What a server that listens on every address is asked at.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True)
class Answer:
    """`status` 0: there was none, and `text` says why."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        return self.status == 200

    def json(self) -> dict[str, Any]:
        """The object it holds; empty where it holds none."""
        try:
            value = json.loads(self.text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def ask(host: str, port: int, call: Call, seconds: float) -> Answer:
    """Ask, and wait at most so long for each part of the answer. Raises nothing for a server that does not answer."""
    connection = http.client.HTTPConnection(_ANY.get(host, host), port, timeout=seconds)
    try:
        body = None if call.body is None else json.dumps(call.body)
        connection.request(call.verb, call.path, body, {"Content-Type": "application/json", "Connection": "close"})
        response = connection.getresponse()
        return Answer(response.status, response.read(_MOST_BYTES).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error) or type(error).__name__)
    finally:
        connection.close()


def completion_text(answer: Answer) -> str | None:
    """What a completion says; None where the answer is none. An empty text is one: the model may end at once."""
    choices = answer.json().get("choices") if answer.ok else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    text = message.get("content") if isinstance(message, dict) else choices[0].get("text")
    return text if isinstance(text, str) else "" if "finish_reason" in choices[0] else None
