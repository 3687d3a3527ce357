"""The wish to load an endpoint and see how it holds: closed or open loop, in stages, against an SLO and an earlier test.

The definitions are those of `vllm bench serve` and guidellm: TTFT until the first piece of content, TPOT the mean after it, ITL each gap,
end to end until the last piece. Under an open loop all are counted from the moment at which a request was due (no coordinated omission).
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import BASIC, DATASET, MOST_TOKENS, Limits, Resources, RunSpec, StrictModel
from llmops_tui.specs.endpoint import Slo
from llmops_tui.specs.row_formats import RowFormat

MOST_CONCURRENT = 4096
_MOST_STAGES = 32
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PromptChoice(StrictModel):
    """What is asked: rows of a dataset, requests that were recorded, or words drawn to lengths as conversations have them."""

    dataset: str = Field(
        "",
        description="Rows whose last question is asked, with the turns before it; empty: drawn words",
        json_schema_extra={**DATASET, **BASIC},
    )
    format: RowFormat = Field("auto", description="How a row of `dataset` is read; auto detects it")
    replay_speed: float = Field(
        0.0, ge=0, le=1e4, description="Rows with a time `t` are asked at the pace of their times, this many times as fast; 0: not"
    )
    tokens: int = Field(220, ge=1, le=MOST_TOKENS, description="Drawn words: median length of a prompt, in tokens (ShareGPT's mean is 220)")
    spread: float = Field(
        0.0, ge=0, le=3, description="Drawn words: how lengths of prompts and answers vary (sigma of a lognormal); 0: all alike"
    )
    shared_tokens: int = Field(
        0, ge=0, le=MOST_TOKENS, description="Drawn words: so many tokens at the beginning are the same in all prompts"
    )
    answer_tokens: int = Field(
        128, ge=1, le=MOST_TOKENS, description="Tokens asked for; with `spread` their median", json_schema_extra=BASIC
    )
    ignore_eos: bool = Field(False, description="Ask the server to go on to the full length (vLLM and llama.cpp do)")


class LoadtestSpec(RunSpec):
    """`loadtest`: requests to an endpoint, their latency and throughput, the share within the SLO, and whether it was faster before."""

    kind: Literal["loadtest"] = "loadtest"
    endpoint: str = Field(
        "", max_length=200, description="An endpoint of this box: its name, an alias, or name:version", json_schema_extra=BASIC
    )
    url: str = Field(
        "", max_length=1000, description="In its place any OpenAI-compatible API: http://host:port/v1", json_schema_extra=BASIC
    )
    model: str = Field("", max_length=200, description="With url: the model asked for")
    key_env: str = Field("", max_length=100, description="The environment variable of the engine that holds the key; unset: none is sent")
    api: Literal["chat", "completions"] = Field("chat", description="Which of the two is asked")
    concurrency: list[int] = Field(
        default_factory=list,
        max_length=_MOST_STAGES,
        description="Closed loop: so many requests are always under way; a stage for each number. Default: 1, 4, 8",
        json_schema_extra=BASIC,
    )
    rate: list[float] = Field(
        default_factory=list,
        max_length=_MOST_STAGES,
        description="Open loop: requests a second that come whether or not earlier ones are answered; a stage for each number",
        json_schema_extra=BASIC,
    )
    arrivals: Literal["poisson", "constant"] = Field("poisson", description="Open loop: random pauses, or all alike")
    ramp_seconds: float = Field(0.0, ge=0, le=86_400, description="A stage's load grows from nothing to its own within this time")
    requests: int = Field(100, ge=1, le=10_000_000, description="Requests of a stage", json_schema_extra=BASIC)
    seconds: float = Field(
        300.0, gt=0, le=86_400, description="A stage ends after so long at the latest; what is under way then is given up"
    )
    warmup: int = Field(2, ge=0, le=10_000, description="Requests before the first stage, which do not count")
    timeout_seconds: float = Field(300.0, gt=0, le=86_400, description="A request that takes longer has failed")
    most_outstanding: int = Field(
        1024, ge=1, le=MOST_CONCURRENT, description="Open loop: no more at once; those due meanwhile wait, and that counts"
    )
    prompts: PromptChoice = Field(default_factory=PromptChoice, description="What is asked")
    temperature: float = Field(0.0, ge=0, le=2, description="0: always the likeliest token")
    slo: Slo = Field(default_factory=Slo, description="What a good answer keeps to; all 0: the endpoint's own")
    baseline: str = Field(
        "auto",
        max_length=120,
        description="An earlier test to compare with: a run, none, or auto: the newest of the same endpoint and load that is marked as one",
    )
    tolerance: float = Field(0.05, ge=0, le=10, description="Slower than the baseline by more than this share, beyond chance, is told")
    seed: int = Field(0, ge=0, lt=2**32, description="The seed of arrivals and of what is drawn")
    resources: Resources = Field(default_factory=lambda: Resources(gpus=0, cpu_slots=0))
    limits: Limits = Field(default_factory=lambda: Limits(hang_seconds=1800.0))

    @field_validator("concurrency", "rate", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        """`concurrency=8` and `rate=1,2,4` mean what they say."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return [value]
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("concurrency")
    @classmethod
    def _possible(cls, value: list[int]) -> list[int]:
        if any(not 1 <= number <= MOST_CONCURRENT for number in value):
            raise ValueError(f"each must be from 1 to {MOST_CONCURRENT}")
        return value

    @field_validator("rate")
    @classmethod
    def _possible_rate(cls, value: list[float]) -> list[float]:
        if any(not 0 < number <= 100_000 for number in value):
            raise ValueError("each must be above 0 and at most 100000 requests a second")
        return value

    @field_validator("url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (
            parts.scheme not in ("http", "https") or not parts.hostname or not value.isascii() or any(c.isspace() for c in value)
        ):
            raise ValueError("must be an address like http://127.0.0.1:8000/v1")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("its port is none") from None
        return value.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _a_variable(cls, value: str) -> str:
        if value and not _ENV_NAME.fullmatch(value):
            raise ValueError("must be the name of an environment variable, not the key itself")
        return value

    @model_validator(mode="after")
    def _one_target_one_loop(self) -> LoadtestSpec:
        if bool(self.endpoint) == bool(self.url):
            raise ValueError("endpoint: name an endpoint or a url, one of them")
        if self.url and not self.model:
            raise ValueError("model: with a url, name the model that is asked for")
        if self.concurrency and self.rate:
            raise ValueError("rate: choose a closed loop (concurrency) or an open one (rate), not both")
        if self.prompts.replay_speed and not self.prompts.dataset:
            raise ValueError("prompts.replay_speed: needs recorded requests as prompts.dataset")
        if self.prompts.replay_speed and (self.concurrency or self.rate):
            raise ValueError("prompts.replay_speed: the recorded times are the load; leave concurrency and rate out")
        return self

    def default_name(self) -> str:
        stem = PurePath(self.endpoint.partition(":")[0] or self.model).name.lower()
        return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40] or "loadtest"
