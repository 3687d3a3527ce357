"""What a replica is to be: decided before it starts (`prepared["serving"]` of its run), read by the job and the launchers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Adapter:
    """One adapter beside the base: `path` is a PEFT directory, or a GGUF-LoRA file for llama.cpp. `rank` 0: not known."""

    name: str
    path: str
    rank: int = 0


@dataclass(frozen=True)
class Plan:
    """A server of one model. `python` is the runtime's interpreter; `context` are tokens a slot.

    `port` 0: the job takes a free one. `threads` 0: the server's own choice. `gpu`: it was given at least one. `memory_bytes` is
    what it is predicted to take there or, without a GPU, of the host's memory; `kv_bytes` the part that holds conversations.
    `served_as` is what its answers call the model, empty for `model_name`: of an endpoint's version a name that can be asked for.
    `adapter_room`: how many adapters may come while it runs, beside those it is started with.
    """

    runtime: str
    python: str
    runtime_version: str
    model_path: str
    model_name: str
    context: int
    slots: int
    threads: int
    host: str
    port: int
    format: str = "full"
    base_path: str = ""
    gpu: bool = False
    dtype: str = "auto"
    memory_bytes: int = 0
    kv_bytes: int = 0
    memory_fraction: float | None = None
    chat_template: str = ""
    has_template: bool = True
    arguments: list[str] = field(default_factory=list)
    adapters: list[Adapter] = field(default_factory=list)
    served_as: str = ""
    adapter_room: int = 0
    sleep_mode: bool = False

    @property
    def answers_as(self) -> str:
        """What stands as `model` in its answers, where the server lets it be named."""
        return self.served_as or self.model_name

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_plan(values: Mapping[str, Any]) -> Plan:
    """A plan as it was written. Raises TypeError or KeyError where it is none."""
    known = {one.name for one in fields(Plan)}
    given = {name: value for name, value in values.items() if name in known}
    given["adapters"] = [Adapter(str(one["name"]), str(one["path"]), int(one.get("rank") or 0)) for one in values.get("adapters") or []]
    return Plan(**given)
