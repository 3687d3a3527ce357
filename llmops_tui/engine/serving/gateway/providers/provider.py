"""A provider as an upstream: found by its URL, asked with its key. The key stands in no file and no line of the log."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import orjson

from llmops_tui.engine.serving.gateway.body import Body
from llmops_tui.engine.serving.gateway.config import ProviderRule, ReplicaRule
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.providers.anthropic import Anthropic
from llmops_tui.engine.serving.gateway.providers.chat import Speech
from llmops_tui.engine.serving.gateway.providers.gemini import Gemini
from llmops_tui.engine.serving.gateway.providers.translating import Reader, Translating
from llmops_tui.engine.serving.gateway.replica import Replica
from llmops_tui.engine.serving.gateway.upstream import Answering

_SPEECHES: dict[str, Speech] = {"anthropic": Anthropic(), "gemini": Gemini()}


class Provider(Replica):
    """`healthy` from the beginning, unless its key is not there: it is asked for no token just to see, which would cost money."""

    __slots__ = ("_base", "_secret", "_speech", "provider_rule")

    def __init__(self, loop: asyncio.AbstractEventLoop, rule: ProviderRule, environment: Mapping[str, str] = os.environ) -> None:
        url = urlsplit(rule.base_url)
        secure = url.scheme == "https"
        port = url.port or (443 if secure else 80)
        place = ReplicaRule(rule.name, url.hostname or "", port, rule.model, 0, 0, "ready", {})
        super().__init__(loop, place, _tls() if secure else None)
        self.provider = rule.name
        self.provider_rule = rule
        self._base = url.path
        self._speech = _SPEECHES.get(rule.api)
        secret = environment.get(rule.key_env, "").strip() if rule.key_env else ""
        self._secret = secret
        if rule.key_env and not secret:
            self.healthy = False
            self.cause = f"the environment of the gateway has no {rule.key_env}: set it and start the gateway again"
        elif not secret.isascii() or not secret.isprintable():
            self.healthy = False
            self._secret = ""
            self.cause = f"{rule.key_env} holds what cannot be a key"
        said = self._speech.headers(self._secret) if self._speech else [("Authorization", f"Bearer {self._secret}")] if secret else []
        headers = [("Host", url.netloc), ("Content-Type", "application/json"), ("User-Agent", "llmops-tui"), *said]
        self.request_head = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()

    def ask(self, body: Body) -> tuple[bytes, bytes]:
        """The target and the payload of this request there. Raises GatewayError 400 for what it cannot be asked."""
        if self._speech is None:
            return f"{self._base}{body.kind.decode().removeprefix('/v1')}".encode(), body.for_upstream(self.provider_rule.model)
        try:
            target, payload = self._speech.ask(body, self.provider_rule.model)
        except (orjson.JSONEncodeError, RecursionError):
            raise GatewayError(400, "the body is nested too deeply", "invalid_json") from None
        return f"{self._base}{target}".encode(), payload

    def listener(self, reader: Reader, body: Body) -> Answering:
        """Who is to hear the answer, so that `reader` gets it in OpenAI's words."""
        return reader if self._speech is None else Translating(reader, self._speech, body, self.provider_rule.model)

    def scrubbed(self, raw: bytes) -> bytes:
        """What it said, without its key, should it have said that."""
        return raw.replace(self._secret.encode(), b"[key]") if self._secret else raw

    def scrubbed_text(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if self._secret else text


@functools.cache
def _tls() -> ssl.SSLContext:
    """The machine's own authorities, or those of SSL_CERT_FILE."""
    return ssl.create_default_context()
