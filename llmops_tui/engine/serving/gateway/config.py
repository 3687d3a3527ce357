"""The compiled configuration, as the engine writes it to config.json: read whole, checked whole, then never changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from llmops_tui.engine.serving.gateway.config_reading import ConfigError, Section

API_WORDS = ("openai", "anthropic", "gemini")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,199}")


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes: int = 10 << 20
    header_bytes: int = 32 << 10
    request_seconds: float = 600.0
    header_seconds: float = 10.0
    keepalive_seconds: float = 75.0
    first_byte_seconds: float = 120.0
    stall_seconds: float = 60.0
    connections: int = 12_000


@dataclass(frozen=True, slots=True)
class KeyRule:
    """A key by the digest of its secret. A limit of 0 is none."""

    id: str
    sha256: str
    endpoints: frozenset[str] | None  # None: every endpoint
    requests_per_minute: float
    tokens_per_minute: float
    tokens_per_day: int
    concurrent: int


@dataclass(frozen=True, slots=True)
class ReplicaRule:
    id: str
    host: str
    port: int
    model: str
    slots: int
    context: int
    state: str
    adapters: dict[str, str]


@dataclass(frozen=True, slots=True)
class ProviderRule:
    """An upstream elsewhere. Costs are money a million tokens, in the unit of the tariff."""

    name: str
    api: str
    base_url: str
    key_env: str
    model: str
    input_per_million: float
    output_per_million: float


@dataclass(frozen=True, slots=True)
class VersionRule:
    name: str
    model: str
    weight: float
    replicas: tuple[str, ...]
    adapter: str
    provider: str


@dataclass(frozen=True, slots=True)
class MirrorRule:
    version: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Slo:
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointRule:
    name: str
    aliases: tuple[str, ...]
    versions: tuple[VersionRule, ...]
    mirror: tuple[MirrorRule, ...]
    sticky: str
    balance: str
    fallbacks: tuple[str, ...]
    retries: int
    on_demand: bool
    on_demand_seconds: float
    slo: Slo
    text_fraction: float
    redact: bool


@dataclass(frozen=True, slots=True)
class Redactor:
    name: str
    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    revision: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    auth: str = "none"
    limits: Limits = field(default_factory=Limits)
    keys: tuple[KeyRule, ...] = ()
    replicas: dict[str, ReplicaRule] = field(default_factory=dict)
    providers: dict[str, ProviderRule] = field(default_factory=dict)
    endpoints: dict[str, EndpointRule] = field(default_factory=dict)
    redactors: tuple[Redactor, ...] = ()


def parse_config(raw: bytes) -> GatewayConfig:
    """The configuration that these bytes hold. Raises ConfigError with the field that is wrong."""
    try:
        document = orjson.loads(raw)
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}") from None
    top = Section(document, "")
    listen = top.part("listen")
    config = GatewayConfig(
        revision=top.whole("revision", 0),
        host=listen.text("host", "127.0.0.1"),
        port=listen.whole("port", 0, high=65535),
        auth=top.word("auth", ("none", "keys"), "none"),
        limits=_limits(top.part("limits")),
        keys=tuple(_key(section) for section in top.listed("keys")),
        replicas={name: _replica(name, section) for name, section in top.named("replicas")},
        providers={name: _provider(name, section) for name, section in top.named("providers")},
        endpoints={name: _endpoint(name, section) for name, section in top.named("endpoints")},
        redactors=tuple(_redactor(section) for section in top.listed("redactors")),
    )
    _check_references(config)
    return config


def _limits(section: Section) -> Limits:
    base = Limits()
    return Limits(
        body_bytes=section.whole("body_bytes", base.body_bytes, 1),
        header_bytes=section.whole("header_bytes", base.header_bytes, 256),
        request_seconds=section.number("request_seconds", base.request_seconds, 0.05),
        header_seconds=section.number("header_seconds", base.header_seconds, 0.05),
        keepalive_seconds=section.number("keepalive_seconds", base.keepalive_seconds, 0.05),
        first_byte_seconds=section.number("first_byte_seconds", base.first_byte_seconds, 0.05),
        stall_seconds=section.number("stall_seconds", base.stall_seconds, 0.05),
        connections=section.whole("connections", base.connections, 1),
    )


def _key(section: Section) -> KeyRule:
    digest = section.text("sha256")
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{section.where}.sha256: must be 64 hexadecimal digits in lower case")
    allowed = section.texts("endpoints") or ("*",)
    return KeyRule(
        id=section.text("id"),
        sha256=digest,
        endpoints=None if "*" in allowed else frozenset(allowed),
        requests_per_minute=section.number("requests_per_minute", 0),
        tokens_per_minute=section.number("tokens_per_minute", 0),
        tokens_per_day=section.whole("tokens_per_day", 0),
        concurrent=section.whole("concurrent", 0),
    )


def _replica(name: str, section: Section) -> ReplicaRule:
    return ReplicaRule(
        id=_named(name, section),
        host=section.text("host", "127.0.0.1"),
        port=section.whole("port", 0, high=65535),
        model=section.text("model", ""),
        slots=section.whole("slots", 1),
        context=section.whole("context", 0),
        state=section.word("state", ("ready", "draining", "starting", "down"), "ready"),
        adapters=section.words("adapters"),
    )


def _provider(name: str, section: Section) -> ProviderRule:
    return ProviderRule(
        name=_named(name, section),
        api=section.word("api", API_WORDS, "openai"),
        base_url=_base_url(section),
        key_env=section.text("key_env", ""),
        model=section.text("model"),
        input_per_million=section.number("input_per_million", 0),
        output_per_million=section.number("output_per_million", 0),
    )


def _base_url(section: Section) -> str:
    """Where an API begins. It goes into request lines as it is."""
    url = section.text("base_url")
    wrong = ConfigError(f"{section.where}.base_url: must be an address like https://host/v1, without a user, a key or a query")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    plain = url.isascii() and url.isprintable() and not set(' "<>\\^`{|}') & set(url)
    extra = parts.username is not None or parts.password is not None or "?" in url or "#" in url
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not plain or extra:
        raise wrong
    return url.rstrip("/")


def _endpoint(name: str, section: Section) -> EndpointRule:
    slo = section.part("slo")
    return EndpointRule(
        name=_named(name, section),
        aliases=section.texts("aliases"),
        versions=tuple(
            VersionRule(
                name=part.text("name"),
                model=part.text("model", ""),
                weight=part.number("weight", 1.0),
                replicas=part.texts("replicas"),
                adapter=part.text("adapter", ""),
                provider=part.text("provider", ""),
            )
            for part in section.listed("versions")
        ),
        mirror=tuple(MirrorRule(part.text("version"), part.number("fraction", 1.0, 0, 1)) for part in section.listed("mirror")),
        sticky=section.word("sticky", ("none", "key", "session"), "none"),
        balance=section.word("balance", ("least_tokens", "prefix", "round_robin"), "least_tokens"),
        fallbacks=section.texts("fallbacks"),
        retries=section.whole("retries", 1, high=10),
        on_demand=section.flag("on_demand", False),
        on_demand_seconds=section.number("on_demand_seconds", 120),
        slo=Slo(slo.number("ttft_ms", 0), slo.number("itl_ms", 0), slo.number("total_ms", 0)),
        text_fraction=section.number("text_fraction", 0, 0, 1),
        redact=section.flag("redact", True),
    )


def _redactor(section: Section) -> Redactor:
    pattern = section.text("pattern")
    try:
        compiled = re.compile(pattern)
        replacement = section.text("replacement", "[REDACTED]")
        compiled.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise ConfigError(f"{section.where}.pattern: not a pattern: {error}") from None
    return Redactor(section.text("name", ""), compiled, replacement)


def _named(name: str, section: Section) -> str:
    """Names go into response headers and metric labels, so that no line break or quote may stand in one."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{section.where}: a name has letters, digits and . _ / @ : + - only")
    return name


def _check_references(config: GatewayConfig) -> None:
    """Everything named exists, so that a request never meets a hole."""
    digests = [key.sha256 for key in config.keys]
    if len(set(digests)) != len(digests):
        raise ConfigError("keys: two keys have the same sha256")
    if len({key.id for key in config.keys}) != len(config.keys):
        raise ConfigError("keys: two keys have the same id")
    for name in config.providers:
        if name in config.replicas:
            raise ConfigError(f"providers.{name}: a replica has this name")
    for endpoint in config.endpoints.values():
        at = f"endpoints.{endpoint.name}"
        names = [version.name for version in endpoint.versions]
        if len(set(names)) != len(names):
            raise ConfigError(f"{at}.versions: two versions have the same name")
        for version in endpoint.versions:
            if not _NAME.fullmatch(version.name):
                raise ConfigError(f"{at}.versions: a name has letters, digits and . _ / @ : + - only, not {version.name!r}")
            for replica in version.replicas:
                if replica not in config.replicas:
                    raise ConfigError(f"{at}.versions.{version.name}.replicas: no replica is called {replica!r}")
            if version.provider and version.provider not in config.providers:
                raise ConfigError(f"{at}.versions.{version.name}.provider: no provider is called {version.provider!r}")
        for mirror in endpoint.mirror:
            if mirror.version not in names:
                raise ConfigError(f"{at}.mirror: no version is called {mirror.version!r}")
        for fallback in endpoint.fallbacks:
            if fallback not in config.endpoints or fallback == endpoint.name:
                raise ConfigError(f"{at}.fallbacks: no other endpoint is called {fallback!r}")
