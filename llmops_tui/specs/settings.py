"""The settings: one typed TOML file; every default stands here and in the docs made from it."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator

from llmops_tui.errors import UsageError
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.console import parse_console
from llmops_tui.specs.notable import TOPICS, Topic
from llmops_tui.specs.settings_serving import ServingSettings
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
    lock_directory: str = Field(
        "",
        description="Where the engines of this box tell each other which GPUs they hold; the same for all of them. "
        "Unset: `/run/lock/llmops-tui` where everybody may write to `/run/lock`, else `/tmp/llmops-tui-locks`",
    )

    @field_validator("lock_directory")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("must be an absolute path")
        return value


_Members = list[str | Annotated[int, Field(strict=True, ge=0, lt=1 << 32)]]


class PeopleSettings(StrictModel):
    """`[people]`"""

    group: str = Field("", max_length=64, description="Serve this Unix group, as `engine start --shared --group` does; unset: private")
    admins: _Members = Field(
        [], description='May do everything: user names, uids, or groups as "@group". Root and the engine\'s user always are'
    )
    operators: _Members = Field([], description="May submit, and touch their own runs")
    viewers: _Members = Field([], description="May look. Who is named alone is meant before a group that is named")
    default_role: Literal["none", "viewer", "operator", "admin"] = Field("operator", description="What everybody else in the group is")
    read_only: bool = Field(False, description="Refuse every change, whoever asks")


class MoneySettings(StrictModel):
    """`[money]`"""

    currency: str = Field("EUR", pattern=r"^[^\s\x00-\x1f]{1,8}$", description="What the prices are in; shown beside every cost")
    per_kwh: float = Field(0.0, ge=0, le=1e6, description="Price of a kilowatt-hour that GPUs draw; 0: electricity has no price")
    per_gpu_hour: float = Field(0.0, ge=0, le=1e6, description="Price of holding one GPU for an hour; 0: GPU time has no price")


class NotifySettings(StrictModel):
    """`[notify]`"""

    on: list[Topic] = Field(
        default_factory=lambda: list(TOPICS),
        description="What is told: failed (runs that failed, ran out of memory, hung or were lost), finished (runs that ended "
        "otherwise), alarm (GPUs, disk, alarms), asked (a note to you)",
    )
    command: str = Field("", max_length=4096, description="A program run for each, without a shell: JSON on stdin, LLMOPS_EVENT_* set")
    webhook: SecretStr | None = Field(None, max_length=4096, description="An http(s) address that gets each as a POST of JSON")
    timeout_seconds: float = Field(10.0, gt=0, le=600, description="A program or a server that takes longer has failed")

    @field_validator("command")
    @classmethod
    def _words(cls, value: str) -> str:
        if value and not shlex.split(value):  # an open quote raises ValueError, which says so
            raise ValueError("holds no program")
        return value

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: SecretStr | None) -> SecretStr | None:
        url = value.get_secret_value() if value else ""
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not url.isascii() or " " in url):
            raise ValueError("must be an address like https://host/path")
        return value


class Settings(StrictModel):
    """The whole file."""

    engine: EngineSettings = Field(default_factory=EngineSettings)
    gpus: GpuSettings = Field(default_factory=GpuSettings)
    people: PeopleSettings = Field(default_factory=PeopleSettings)
    money: MoneySettings = Field(default_factory=MoneySettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    serving: ServingSettings = Field(default_factory=ServingSettings)
    runtimes: dict[str, str] = Field(
        default_factory=dict,
        description="Where a serving engine or quantizer is, by its name: its environment's directory, or its Python",
    )
    # A TypedDict or model of it would be a second telling: the viewer, which has no pydantic, reads the section by the same rule.
    console: dict[str, Any] = Field(default_factory=dict)

    @field_validator("console")
    @classmethod
    def _as_the_viewer_reads_it(cls, value: dict[str, Any]) -> dict[str, Any]:
        parse_console(value)
        return value


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
