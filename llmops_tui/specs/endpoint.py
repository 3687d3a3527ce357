"""The wish to have a model answered for under a name: its versions, how requests are spread over them, what is kept of them."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import MOST_BYTES, MOST_SECONDS, StrictModel, name_or_nothing

MOST_REPLICAS = 64
MOST_VERSIONS = 16
# Versions that get no requests any more and stay to be gone back to.
KEPT_VERSIONS = 4
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,99}")
# What of a replica's own spec the endpoint says itself.
_NOT_OF_SERVE = ("kind", "model", "name", "endpoint", "version", "adapters", "port", "host")


class EndpointVersion(StrictModel):
    """One model, or one provider, behind the name."""

    name: str = Field("", max_length=40, description="As in support@v3; given when left out")
    model: str = Field("", max_length=4096, description="A registered model (name, name@v1), a directory or a GGUF file")
    provider: str = Field("", max_length=60, description="A provider of the settings in place of a model of one's own")
    weight: float = Field(
        0.0, ge=0, le=1e6, description="Share of the requests, relative to the other versions'; 0: only when asked for by name"
    )
    replicas: int = Field(1, ge=0, le=MOST_REPLICAS, description="Servers of it that are kept running")
    serve: dict[str, Any] = Field(default_factory=dict, description="Keys of a replica's spec (kind serve), as runtime, context, slots")
    adapter_of: str = Field("", max_length=40, description="The version on whose servers this adapter is loaded")

    @field_validator("name", "adapter_of")
    @classmethod
    def _a_name(cls, value: str) -> str:
        return name_or_nothing(value)

    @field_validator("serve")
    @classmethod
    def _of_the_replica(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in _NOT_OF_SERVE:
            if key in value:
                raise ValueError(f"{key!r} is set by the endpoint itself")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> EndpointVersion:
        if bool(self.model) == bool(self.provider):
            raise ValueError("name a model or a provider, one of them")
        if self.provider and self.adapter_of:
            raise ValueError("a provider is no adapter")
        return self


class Mirror(StrictModel):
    """Shadow traffic: a share of the requests is also sent there, and its answers thrown away."""

    version: str = Field(min_length=1, max_length=40, description="One of the versions")
    fraction: float = Field(gt=0, le=1, description="Share of the requests")


class Slo(StrictModel):
    """What a good answer keeps to; 0: nothing is asked. A request within all of them is goodput."""

    ttft_ms: float = Field(0.0, ge=0, le=1e9, description="Time to the first token")
    itl_ms: float = Field(0.0, ge=0, le=1e9, description="Mean time between tokens after it")
    total_ms: float = Field(0.0, ge=0, le=1e9, description="Time to the end")


class Record(StrictModel):
    """What is kept of the requests."""

    text_fraction: float = Field(0.0, ge=0, le=1, description="Share of the requests whose text is kept")
    redact: bool = Field(True, description="Strike personal data from kept text (serving.redactors)")
    keep_days: float = Field(30.0, ge=0, le=36_525, description="How long records and text are kept")
    keep_bytes: int = Field(
        1 << 30, ge=0, le=MOST_BYTES, description="Kept at most: the oldest text goes first, then records; 0: no text, records by age alone"
    )


class EndpointSpec(StrictModel):
    """A served name."""

    name: str = Field(min_length=1, description="What requests call it: their model")
    aliases: list[str] = Field(default_factory=list, max_length=32, description="Other names for it")
    versions: list[EndpointVersion] = Field(
        min_length=1, max_length=MOST_VERSIONS, description="What answers; where no weight is given the first gets all requests"
    )
    mirror: list[Mirror] = Field(default_factory=list, max_length=4, description="Versions that also get a share of the requests, unseen")
    sticky: Literal["none", "key", "session"] = Field(
        "none", description="Who stays with one version and replica: a key's requests, a session's"
    )
    balance: Literal["least_tokens", "prefix", "round_robin"] = Field(
        "least_tokens", description="How a version's replicas share its requests"
    )
    fallbacks: list[str] = Field(
        default_factory=list, max_length=8, description="Endpoints that are asked, in this order, where this one cannot answer"
    )
    retries: int = Field(1, ge=0, le=10, description="Further tries on another replica before the first byte")
    on_demand: bool = Field(False, description="Start its servers when the first request comes, which waits")
    on_demand_seconds: float = Field(120.0, gt=0, le=3600, description="How long such a request waits")
    idle_unload_seconds: float = Field(
        0.0, ge=0, le=MOST_SECONDS, description="Unload after so long without a request; the next one starts it. 0: never"
    )
    pinned: bool = Field(False, description="Never unloaded for being idle, nor for a training run")
    yields: Literal["never", "idle", "always"] = Field(
        "idle",
        description="Whether it unloads for a training run that waits for its GPU memory, and comes back after: only while idle, or always",
    )
    keep_previous_seconds: float = Field(600.0, ge=0, le=MOST_SECONDS, description="How long the version before stays warm after a swap")
    slo: Slo = Field(default_factory=Slo)
    record: Record = Field(default_factory=Record)
    swap: Literal["auto", "blue_green", "drain"] = Field(
        "auto", description="A new version beside the old one, or in its place with requests held back; auto: beside it where memory allows"
    )

    @field_validator("name")
    @classmethod
    def _a_name(cls, value: str) -> str:
        return name_or_nothing(value)

    @field_validator("aliases")
    @classmethod
    def _other_names(cls, value: list[str]) -> list[str]:
        for alias in value:
            if not _ALIAS.fullmatch(alias):
                raise ValueError(f"{alias!r} is no name a request could use")
        return list(dict.fromkeys(value))

    @model_validator(mode="after")
    def _whole(self) -> EndpointSpec:
        names = [version.name for version in self.versions if version.name]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"two versions are named {twice!r}")
        by_name = {version.name: version for version in self.versions}
        for version in self.versions:
            if base := version.adapter_of:
                if base not in by_name or base == version.name:
                    raise ValueError(f"adapter_of: no other version is named {base!r}")
                if by_name[base].provider or by_name[base].adapter_of:
                    raise ValueError(f"adapter_of: {base!r} has no servers of its own that could load an adapter")
        for mirror in self.mirror:
            if mirror.version not in by_name:
                raise ValueError(f"mirror: no version is named {mirror.version!r}")
        if self.name in self.fallbacks:
            raise ValueError("fallbacks: it cannot fall back to itself")
        return self

    def version(self, name: str) -> EndpointVersion | None:
        """One version; None where there is none of that name."""
        return next((version for version in self.versions if version.name == name), None)
