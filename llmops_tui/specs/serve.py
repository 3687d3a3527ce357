"""The wish to have one model answered for by one server process: a replica."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import BASIC, MODEL, MOST_SECONDS, MOST_TOKENS, PATH, Limits, Resources, RunSpec, StrictModel, name_or_nothing

RUNTIMES = ("llamacpp", "vllm", "transformers")
_MOST_SLOTS = 4096
_MOST_ADAPTERS = 64
# Loopback by default: what answers here asks nobody for a key; the gateway does.
_HOST = "127.0.0.1"


class AdapterChoice(StrictModel):
    """An adapter that is served beside its base, under a name of its own."""

    name: str = Field(min_length=1, description="The name requests ask for it by")
    model: str = Field(min_length=1, description="A registered adapter (name, name@v1), its directory, or a GGUF-LoRA file")

    @field_validator("name")
    @classmethod
    def _a_name(cls, value: str) -> str:
        return name_or_nothing(value)


class RestartChoice(StrictModel):
    """What is done when the server dies while nobody asked for it."""

    limit: int = Field(5, ge=0, le=10**6, description="Restarts within the window; one more death ends the run as failed")
    window_seconds: float = Field(600.0, gt=0, le=MOST_SECONDS, description="The window in which restarts are counted")
    first_seconds: float = Field(1.0, ge=0, le=3600, description="Pause before the first restart; each further one doubles it")
    most_seconds: float = Field(60.0, ge=0, le=86400, description="No pause is longer")

    @model_validator(mode="after")
    def _pauses_grow(self) -> RestartChoice:
        if self.most_seconds < self.first_seconds:
            raise ValueError("most_seconds must not be less than first_seconds")
        return self


class ServeSpec(RunSpec):
    """`serve`: one server of one model with OpenAI's API on a port of this box, restarted when it dies, drained before it ends."""

    kind: Literal["serve"] = "serve"
    model: str = Field(min_length=1, description="A registered model (name, name@v1), a directory or a GGUF file", json_schema_extra=MODEL)
    runtime: Literal["auto", "llamacpp", "vllm", "transformers"] = Field(
        "auto",
        description="The serving engine; auto: llamacpp for GGUF, else vllm where there is a GPU and it is installed, else transformers",
        json_schema_extra=BASIC,
    )
    context: int | Literal["auto"] = Field(
        "auto", description="Tokens of one conversation, for each slot; auto: the model's own, or what fits", json_schema_extra=BASIC
    )
    slots: int | Literal["auto"] = Field("auto", description="Requests answered at the same time; the others wait", json_schema_extra=BASIC)
    threads: int | Literal["auto"] = Field("auto", description="CPU threads; auto: one less than the box has cores, for those beside it")
    host: str = Field(_HOST, min_length=1, max_length=253, description="The address it listens on; beyond 127.0.0.1 anybody may ask it")
    port: int | Literal["auto"] = Field("auto", description="The port it listens on; auto takes a free one from 9001 on")
    adapters: list[AdapterChoice] = Field(default_factory=list, description="Adapters of this model, each under a name of its own")
    adapter_room: int = Field(
        0,
        ge=0,
        le=_MOST_ADAPTERS,
        description="vllm: adapters that may come while it runs, beside those it starts with; with 0 and none to start with, it takes none",
    )
    sleep_mode: bool = Field(
        False,
        description="vllm on a GPU: when told to sleep it keeps its process, for which its development routes are open; else it ends",
    )
    memory_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the GPU's memory (vllm), or of what is free (transformers), it may take; unset: as predicted",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision of vllm and transformers; auto: the model's own, on a CPU float32. A GGUF file has its own"
    )
    arguments: list[str] = Field(default_factory=list, description="Further arguments of the server's own, as its command line has them")
    chat_template: str = Field("", description="A Jinja file in place of the model's own chat template", json_schema_extra=PATH)
    restart: RestartChoice = Field(default_factory=RestartChoice, description="What is done when the server dies")
    ready_seconds: float = Field(300.0, gt=0, le=86400, description="Failed unless the first answer came within this time")
    drain_seconds: float = Field(30.0, ge=0, le=86400, description="How long requests under way may take before it sleeps or stops")
    endpoint: str = Field("", description="The endpoint it belongs to; set by the endpoint")
    version: str = Field("", description="The endpoint's version that it serves; set by the endpoint")
    on_lost: Literal["stay", "requeue"] = Field("requeue", description="After a reboot or a lost process: stay `lost`, or be started again")
    # It takes memory and threads, which are checked before it starts, and no slot: training goes on beside it.
    resources: Resources = Field(default_factory=lambda: Resources(cpu_slots=0, gpu_memory_bytes="auto"))
    limits: Limits = Field(default_factory=lambda: Limits(grace_seconds=40.0))

    @field_validator("context")
    @classmethod
    def _a_possible_context(cls, value: int | str) -> int | str:
        return _within(value, 16, MOST_TOKENS)

    @field_validator("slots")
    @classmethod
    def _possible_slots(cls, value: int | str) -> int | str:
        return _within(value, 1, _MOST_SLOTS)

    @field_validator("threads")
    @classmethod
    def _possible_threads(cls, value: int | str) -> int | str:
        return _within(value, 1, 4096)

    @field_validator("port")
    @classmethod
    def _a_possible_port(cls, value: int | str) -> int | str:
        return _within(value, 1, 65535)

    @field_validator("arguments")
    @classmethod
    def _no_nul(cls, value: list[str]) -> list[str]:
        if any("\0" in part for part in value):
            raise ValueError("an argument holds a NUL byte")
        return value

    @field_validator("endpoint", "version")
    @classmethod
    def _names(cls, value: str) -> str:
        return name_or_nothing(value)

    @model_validator(mode="after")
    def _adapters_have_names_of_their_own(self) -> ServeSpec:
        names = [adapter.name for adapter in self.adapters]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"two adapters are named {twice!r}")
        return self

    def default_name(self) -> str:
        stem = PurePath(self.endpoint or self.model.split("@")[0]).name.lower().removesuffix(".gguf")
        return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40] or "serve"


def _within(value: int | str, least: int, most: int) -> int | str:
    if isinstance(value, int) and not least <= value <= most:
        raise ValueError(f"must be from {least} to {most}, or auto")
    return value
