"""`[serving]`: where the gateway listens, what it takes, the providers behind it, and what is struck from recorded text."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import StrictModel

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,59}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class GatewayLimits(StrictModel):
    """What one request and all of them together may take."""

    body_bytes: int = Field(10 << 20, ge=1024, le=1 << 30, description="A larger request is refused (413)")
    header_bytes: int = Field(32 << 10, ge=1024, le=1 << 20, description="A longer head is refused (431)")
    request_seconds: float = Field(600.0, gt=0, le=86_400, description="A request that takes longer is ended")
    header_seconds: float = Field(10.0, gt=0, le=3600, description="A head that is not whole by then is given up")
    keepalive_seconds: float = Field(75.0, gt=0, le=3600, description="How long an idle connection is kept")
    first_byte_seconds: float = Field(120.0, gt=0, le=86_400, description="An upstream that is silent so long is left")
    stall_seconds: float = Field(60.0, gt=0, le=86_400, description="A stream that stands still so long is ended, visibly")
    connections: int = Field(12_000, ge=1, le=1_000_000, description="More at once are refused")


class ProviderSettings(StrictModel):
    """An upstream elsewhere. Its key comes from the environment of the engine, never from a file."""

    api: Literal["openai", "anthropic", "gemini"] = Field("openai", description="How it is spoken to")
    base_url: str = Field(max_length=1000, description="Where its API begins, as https://host/v1")
    key_env: str = Field("", max_length=100, description="The environment variable that holds its key; unset: none is sent")
    model: str = Field(min_length=1, max_length=200, description="What it calls the model")
    input_per_million: float = Field(0.0, ge=0, le=1e6, description="Price of a million tokens of the prompt, in money.currency")
    output_per_million: float = Field(0.0, ge=0, le=1e6, description="Price of a million tokens of the answer")

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or not value.isascii() or " " in value:
            raise ValueError("must be an address like https://host/v1")
        if "@" in parts.netloc or "?" in value or "#" in value or parts.port == 0:
            raise ValueError("must be an address like https://host/v1, without a user, a key or a query: the key comes from key_env")
        if not value.isprintable() or set('"<>\\^`{|}') & set(value):
            raise ValueError("must be an address like https://host/v1")
        return value

    @field_validator("key_env")
    @classmethod
    def _variable(cls, value: str) -> str:
        if value and not _ENV_NAME.fullmatch(value):
            raise ValueError("must be the name of an environment variable, not the key itself")
        return value


class RedactorSettings(StrictModel):
    """What is struck from recorded text."""

    name: str = Field(min_length=1, max_length=60, description="What it finds, for example email")
    pattern: str = Field(min_length=1, max_length=2000, description="A regular expression (Python's)")
    replacement: str = Field("[REDACTED]", max_length=200, description="What stands in its place")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _replaces(self) -> RedactorSettings:
        try:
            re.compile(self.pattern).sub(self.replacement, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"replacement: not usable with this pattern: {error}") from None
        return self


USUAL_REDACTORS = (
    RedactorSettings(name="email", pattern=r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}\.[A-Za-z]{2,24}", replacement="[EMAIL]"),
    RedactorSettings(name="card", pattern=r"\b(?:\d[ -]?){12,18}\d\b", replacement="[CARD]"),
    RedactorSettings(name="phone", pattern=r"(?<!\w)\+\d{1,3}[ ./-]?(?:\d[ ./-]?){6,13}\d\b", replacement="[PHONE]"),
    RedactorSettings(name="secret", pattern=r"\b(?:sk|pk|ghp|hf|xox[bp])[-_][A-Za-z0-9_-]{16,200}", replacement="[SECRET]"),
)


class ServingSettings(StrictModel):
    """`[serving]`"""

    host: str = Field(
        "127.0.0.1", min_length=1, max_length=253, description="The address the gateway listens on; beyond loopback keys are needed"
    )
    port: int = Field(8700, ge=1, le=65535, description="The port the gateway listens on")
    auth: Literal["auto", "none", "keys"] = Field(
        "auto", description="Whether requests need a key; auto: beyond loopback. none is refused there"
    )
    limits: GatewayLimits = Field(default_factory=GatewayLimits)
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict, description="Upstreams elsewhere by name; without any, nothing leaves the box"
    )
    redactors: list[RedactorSettings] = Field(
        [],
        max_length=100,
        description="What else is struck from recorded text: name, pattern, replacement. E-mail addresses, card and phone numbers and "
        "secrets are without being asked",
    )

    @field_validator("providers")
    @classmethod
    def _named(cls, value: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        for name in value:
            if not _PROVIDER_NAME.fullmatch(name):
                raise ValueError(f"{name!r}: a provider's name has letters, digits and . _ / @ : + - only, 60 at most")
        return value

    @model_validator(mode="after")
    def _no_open_door(self) -> ServingSettings:
        if self.auth == "none" and not self.loopback:
            raise ValueError(f"auth = none with host {self.host}: anybody who reaches it could ask; use keys, or listen on 127.0.0.1")
        return self

    @property
    def all_redactors(self) -> list[RedactorSettings]:
        """The usual ones, then the user's; one of the same name replaces the usual one."""
        own = {redactor.name for redactor in self.redactors}
        return [*(redactor for redactor in USUAL_REDACTORS if redactor.name not in own), *self.redactors]

    @property
    def loopback(self) -> bool:
        """Whether only this box can reach it."""
        try:
            return self.host == "localhost" or ip_address(self.host.strip("[]")).is_loopback
        except ValueError:  # a name: where it leads may change
            return False

    @property
    def needs_keys(self) -> bool:
        """Whether a request without a key is refused."""
        return self.auth == "keys" or (self.auth == "auto" and not self.loopback)
