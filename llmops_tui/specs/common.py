"""What every job kind's spec has in common."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")

# Upper bounds are far beyond what anybody means; they catch a slip of the finger before it is started.
MOST_BYTES = 1 << 60
MOST_SECONDS = 10 * 366 * 86400.0
MOST_STEPS = 10**9
MOST_TOKENS = 1 << 22
_MOST_GPUS = 1024

# How a form shows a field: among the first ones, and what helps to fill it in (a registered or found model, a file's path).
BASIC: JsonDict = {"basic": True}
MODEL: JsonDict = {"form": "model"}
DATASET: JsonDict = {"form": "dataset"}
PATH: JsonDict = {"form": "path"}

RunReference = Annotated[str, Field(min_length=1, max_length=120)]


def name_or_nothing(value: str) -> str:
    """A name that fits a path, or none. Raises ValueError."""
    if value and not _NAME.fullmatch(value):
        raise ValueError("use 1 to 40 of a-z 0-9 . _ - and begin with a letter or digit")
    return value


class StrictModel(BaseModel):
    """An unknown key is an error, never silently dropped; NaN and infinities are no settings."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """pydantic would take `true` for 1."""
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None:
            wanted = (field.annotation, *get_args(field.annotation))
            if bool not in wanted and (int in wanted or float in wanted):
                raise ValueError("should be a number, not true or false")
        return value


class Resources(StrictModel):
    """What the run needs from the box."""

    gpus: int | Literal["auto"] = Field(
        "auto", description="GPUs wanted; auto takes one where the box has one, else none", json_schema_extra=BASIC
    )
    gpu_memory_bytes: int | Literal["auto"] | None = Field(
        None,
        description="Share a GPU: peak memory on each, in bytes; auto holds the upper bound predicted for a train run. "
        "Unset takes the GPU exclusively",
    )
    cpu_slots: int = Field(1, ge=0, le=4096, description="CPU slots held where no GPU is used; 0: it waits for none")
    disk_bytes: int | None = Field(None, ge=0, le=MOST_BYTES, description="Forecast of what the run writes, in bytes; computed if unset")

    @field_validator("gpu_memory_bytes")
    @classmethod
    def _a_possible_size(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and not 0 < value <= MOST_BYTES:
            raise ValueError("must be above 0, or auto" if value <= 0 else f"should be less than or equal to {MOST_BYTES}")
        return value

    @field_validator("gpus")
    @classmethod
    def _a_possible_number(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("must be 0 or more, or auto")
        if isinstance(value, int) and value > _MOST_GPUS:
            raise ValueError(f"should be less than or equal to {_MOST_GPUS}")
        return value


class Limits(StrictModel):
    """When the run is ended from outside."""

    timeout_seconds: float | None = Field(None, gt=0, le=MOST_SECONDS, description="End the attempt after this long; unset means never")
    hang_seconds: float | None = Field(
        None,
        gt=0,
        le=MOST_SECONDS,
        description="State `hung` when neither an event nor a line of output came for this long; unset means never",
    )
    grace_seconds: float = Field(20.0, ge=0, le=86400, description="Time between TERM and KILL")


class RunSpec(StrictModel):
    """A wish: what is to be run. One subclass a job kind."""

    kind: str
    name: str = Field("", description="Short name in the run id; taken from the content if empty", json_schema_extra=BASIC)
    priority: int = Field(0, ge=-100, le=100, description="Higher starts first")
    preempt: bool = Field(False, description="Runs of lower priority that are preemptible save a checkpoint and make room for this one")
    preemptible: bool = Field(False, description="A run of higher priority may pause this one; it goes on when there is room again (train)")
    after_ok: list[RunReference] = Field(default_factory=list, description="Runs that must have succeeded before this starts")
    after_any: list[RunReference] = Field(default_factory=list, description="Runs that must have ended, however, before this starts")
    retries: int = Field(0, ge=0, le=100, description="Further attempts after a failure")
    on_lost: Literal["stay", "requeue"] = Field(
        "stay", description="After a reboot or a lost process: stay `lost`, or requeue from the last complete checkpoint"
    )
    resources: Resources = Field(default_factory=Resources)
    limits: Limits = Field(default_factory=Limits)
    tags: list[str] = Field(default_factory=list, description="Words to find the run by")
    notes: str = Field("", description="Free text kept with the run")
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables added to the job's")
    allow_network: bool = Field(False, description="Let this job reach model hubs; off sets HF_HUB_OFFLINE=1")

    @field_validator("name")
    @classmethod
    def _name_fits_a_path(cls, value: str) -> str:
        return name_or_nothing(value)

    @field_validator("env", mode="before")
    @classmethod
    def _numbers_are_text_here(cls, value: object) -> object:
        """`OMP_NUM_THREADS: 1` means what it says; a boolean could mean 1, true or True."""
        if not isinstance(value, dict):
            return value
        return {name: str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item for name, item in value.items()}

    def default_name(self) -> str:
        """The name used in the run id when the user gave none."""
        return self.kind
