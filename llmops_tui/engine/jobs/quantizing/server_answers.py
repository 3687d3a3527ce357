"""How fast and in how much memory llama.cpp's server answers from a GGUF file, and whether it renders conversations as the source.

The server is the one that endpoints use (serving/launchers/llamacpp.py), unmodified, with one slot; it is ended before this returns.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.formats import Conversation
from llmops_tui.engine.jobs.quantizing.apart import Progress
from llmops_tui.engine.jobs.serving_http import ask
from llmops_tui.engine.jobs.serving_process import ServerProcess, free_port
from llmops_tui.engine.serving.launchers.launcher import Call
from llmops_tui.engine.serving.launchers.llamacpp import LlamaCpp
from llmops_tui.engine.serving.launchers.plan import Adapter, Plan
from llmops_tui.errors import LlmopsError

_HOST = "127.0.0.1"
_START_SECONDS = 600.0
_ANSWER_SECONDS = 600.0
_PATIENCE_SECONDS = 5.0
_LINE_BYTES = 1 << 22


@dataclass(frozen=True)
class Speed:
    """Tokens a second after the first, the median time to the first token, and what the server then held of the host's memory."""

    tokens_per_second: float
    ttft_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Wanted:
    """What is asked of the server: `prompts` answered with `tokens` each for speed, `conversations` rendered."""

    prompts: Sequence[Sequence[int]]
    tokens: int
    conversations: Sequence[Conversation]


@dataclass(frozen=True)
class Told:
    """`speed` None: nothing was asked for it. A rendering is None where the server refused the conversation."""

    speed: Speed | None
    rendered: list[str | None]


def ask_server(
    runtime: dict[str, str], model: Path, wanted: Wanted, *, threads: int, workspace: Path, log: Path, gpu: bool, progress: Progress,
    adapter: Path | None = None,
) -> Told:  # fmt: skip
    """Start a server, ask it, end it. Raises LlmopsError with its last words where it does not start or stops answering."""
    longest = max((len(prompt) for prompt in wanted.prompts), default=0) + wanted.tokens
    workspace.mkdir(parents=True, exist_ok=True)
    port = free_port(_HOST)
    plan = Plan(
        "llamacpp", runtime["python"], runtime["version"], os.fspath(model), "measured", -(-(longest + 64) // 256) * 256, 1, threads,
        _HOST, port, format="gguf", gpu=gpu, adapters=[Adapter("measured", os.fspath(adapter))] if adapter else [],
    )  # fmt: skip
    server = ServerProcess(LlamaCpp().argv(plan, port, workspace), os.environ, log)
    try:
        _wait(server, port, progress)
        rendered = [_rendering(port, conversation) for conversation in wanted.conversations]
        return Told(_timed(server, port, wanted, progress) if wanted.prompts else None, rendered)
    finally:
        server.end(_PATIENCE_SECONDS)


def _wait(server: ServerProcess, port: int, progress: Progress) -> None:
    begun = time.monotonic()
    while not ask(_HOST, port, Call("/health"), 1.0).ok:
        progress(0, None)  # how long it takes to load is not known
        if server.returncode is not None or time.monotonic() - begun > _START_SECONDS:
            words = next((line for line in reversed(server.tail().splitlines()) if "error" in line.lower()), "see the run's log")
            raise LlmopsError(f"llama.cpp's server did not start: {words}", "llmops-tui runtimes check llamacpp")
        server.wait(0.1)


def _rendering(port: int, conversation: Conversation) -> str | None:
    answer = ask(_HOST, port, Call("/apply-template", {"messages": [dict(message) for message in conversation]}), _ANSWER_SECONDS)
    text = answer.json().get("prompt")
    return text if isinstance(text, str) else None


def _timed(server: ServerProcess, port: int, wanted: Wanted, progress: Progress) -> Speed:
    firsts: list[float] = []
    spent, answered = 0.0, 0
    for number, prompt in enumerate([wanted.prompts[0], *wanted.prompts]):
        at = _times(port, prompt, wanted.tokens)
        progress(number + 1, len(wanted.prompts) + 1)
        if number:  # the first answer warms up
            firsts.append(at[1] - at[0])
            spent += at[-1] - at[1]
            answered += len(at) - 2
    return Speed(answered / spent, statistics.median(firsts), server.rss_bytes())


def _times(port: int, prompt: Sequence[int], tokens: int) -> list[float]:
    """When the request went out, then when each token came (llama.cpp sends one an event, also one that shows no text yet)."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=_ANSWER_SECONDS)
    body: dict[str, Any] = {
        "prompt": list(prompt), "n_predict": tokens, "temperature": 0, "cache_prompt": False, "stream": True, "ignore_eos": True,
        "return_tokens": True,
    }  # fmt: skip
    try:
        at = [time.perf_counter()]
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise LlmopsError(f"llama.cpp refused a prompt: {response.read(400).decode(errors='replace')}", "lower measure.max_length")
        while line := response.readline(_LINE_BYTES):
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                if event.get("tokens"):
                    at.append(time.perf_counter())
                if event.get("stop"):
                    break
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LlmopsError(f"llama.cpp stopped answering: {error}", "see the run's log") from error
    finally:
        connection.close()
    if len(at) < 3:
        raise LlmopsError(f"llama.cpp answered {len(at) - 1} tokens of {tokens}", "see the run's log")
    return at
