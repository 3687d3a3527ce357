"""What is known of one upstream while the gateway runs: its load, its health, its circuit and its connections."""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic

from llmops_tui.engine.serving.gateway.breaker import Breaker
from llmops_tui.engine.serving.gateway.config import ReplicaRule
from llmops_tui.engine.serving.gateway.upstream import Pool

_LORA = "lora:"


class Replica:
    """One server of a model. Times `last_…` are unix seconds for people; `heard_at` is the monotonic clock."""

    __slots__ = (
        "breaker", "cause", "completion_at", "draining", "failures", "healthy", "id", "last_ok", "last_used", "misses", "ok_at",
        "outstanding", "outstanding_tokens", "pool", "provider", "request_head", "rule",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, rule: ReplicaRule, tls: ssl.SSLContext | None = None) -> None:
        self.id = rule.id
        self.rule = rule
        self.provider = ""
        self.pool = Pool(loop, rule.host, rule.port, tls)
        self.breaker = Breaker()
        shown = f"[{rule.host}]" if ":" in rule.host else rule.host  # RFC 3986 3.2.2
        self.request_head = f"Host: {shown}:{rule.port}\r\nContent-Type: application/json\r\n".encode()
        self.healthy = True
        self.draining = False  # by a wish on the control socket, until the configuration says that it is ready again
        self.misses = 0
        self.outstanding = 0
        self.outstanding_tokens = 0
        self.failures = 0
        self.cause = ""
        self.last_ok = 0.0
        self.last_used = 0.0
        self.ok_at = 0.0  # the monotonic time of the last completion that came back
        self.completion_at = 0.0  # the monotonic time when a completion was last tried by the health watch

    @property
    def heard_at(self) -> float:
        """When it last sent something: whatever it was, the process lived."""
        return self.pool.heard_at

    def usable(self, now: float) -> bool:
        breaker = self.breaker
        return self.healthy and self.rule.state == "ready" and not self.draining and (breaker.state == "closed" or breaker.allows(now))

    def model_for(self, adapter: str) -> str | None:
        """The name that it knows the model or adapter by; None when it has not loaded the adapter."""
        if not adapter or self.lora_for(adapter) is not None:
            return self.rule.model
        return self.rule.adapters.get(adapter)

    def lora_for(self, adapter: str) -> int | None:
        """The place of an adapter that a request asks for by it (`lora:0`: llama.cpp); None of one that has a name there."""
        name = self.rule.adapters.get(adapter, "")
        return int(name[len(_LORA) :]) if name.startswith(_LORA) and name[len(_LORA) :].isdecimal() else None

    def scrubbed(self, raw: bytes) -> bytes:
        """What it said, without what is nobody's business."""
        return raw

    def scrubbed_text(self, text: str) -> str:
        return text

    def took(self, tokens: int, unix_now: float) -> None:
        self.outstanding += 1
        self.outstanding_tokens += tokens
        self.last_used = unix_now
        self.breaker.taken()

    def gave_back(self, tokens: int) -> None:
        self.outstanding -= 1
        self.outstanding_tokens -= tokens

    def succeeded(self, unix_now: float, now: float) -> None:
        self.last_ok = unix_now
        self.ok_at = now
        self.breaker.succeeded()

    def failed(self, cause: str) -> None:
        self.failures += 1
        self.cause = cause
        self.breaker.failed(monotonic())
