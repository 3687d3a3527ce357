"""The settings: one typed TOML file; every default stands here and in the docs made from it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from llmops_tui.errors import UsageError
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.wording import named_faults

_BYTES = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_LEAST_MEMORY_BYTES = 64e6


class EngineSettings(StrictModel):
    """`[engine]`"""

    cpu_slots: int | None = Field(
        None, ge=1, le=4096, description="Runs without a GPU that may run at once; unset: 1 per 4 cores, at least 1"
    )
    sample_seconds: float = Field(1.0, ge=0.2, le=60, description="Time between GPU and host samples")
    keep_sample_days: float = Field(7.0, ge=0, le=36525, description="How long GPU and host samples are kept in the database")
    pause_ingest_free_bytes: int = Field(1 << 30, ge=0, le=1 << 60, description="Ingest pauses while the disk has less free than this")
    refuse_start_free_bytes: int = Field(
        1 << 30, ge=0, le=1 << 60, description="A run is refused when its disk forecast would leave less than this"
    )
    log_keep_bytes: int = Field(256 << 20, ge=4 << 20, le=1 << 60, description="Disk kept of one run's output: its first MiB and its end")
    database_threads: int = Field(2, ge=1, le=256, description="Threads DuckDB may use")
    database_memory: str = Field(
        "512MB", pattern=r"^\d+(\.\d+)?\s?(KB|MB|GB|KiB|MiB|GiB)$", description="Memory DuckDB may use before it spills"
    )

    @field_validator("database_memory")
    @classmethod
    def _enough_to_open(cls, value: str) -> str:
        number, unit = re.fullmatch(r"([\d.]+)\s?(.*)", value).groups()  # type: ignore[union-attr]
        if float(number) * _BYTES[unit] < _LEAST_MEMORY_BYTES:
            raise ValueError("must be at least 64MB")
        return value


class GpuSettings(StrictModel):
    """`[gpus]`"""

    probe: str = Field("auto", pattern="^(auto|nvml|amd|none)$", description="Which driver is asked; auto tries NVML, then AMD, then none")
    call_timeout_seconds: float = Field(3.0, gt=0, le=3600, description="A driver call that takes longer marks the GPU as stalled")


class Settings(StrictModel):
    """The whole file."""

    engine: EngineSettings = Field(default_factory=EngineSettings)
    gpus: GpuSettings = Field(default_factory=GpuSettings)


def load_settings(path: Path) -> Settings:
    """Read the TOML file; a missing file means the defaults. Raises UsageError naming the file, the field and the fault."""
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}", "correct the file or move it away") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "make it a file you can read, or move it away") from None
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        field, problem = next(iter(named_faults(error).items()))
        raise UsageError(f"{path}: {field}: {problem}", "see docs/settings.md") from None
