"""What every serving engine is asked for; one module each beside this one. Standard library only, nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmops_tui.engine.serving.launchers.plan import Plan


@dataclass(frozen=True)
class Call:
    """One HTTP request to the server. `body` None: a GET."""

    path: str
    body: Mapping[str, Any] | list[Any] | None = None
    method: str = ""

    @property
    def verb(self) -> str:
        return self.method or ("GET" if self.body is None else "POST")


@dataclass(frozen=True)
class Reading:
    """What a server tells about itself now; None where it does not. Token counts grow from the server's start on."""

    running: float | None = None
    waiting: float | None = None
    kv_cache_fraction: float | None = None
    prompt_tokens: float | None = None
    cached_tokens: float | None = None
    generated_tokens: float | None = None


class Launcher(Protocol):
    """One serving engine. `metrics_path` empty: it tells nothing."""

    metrics_path: str
    # Whether it applies adapters while it runs, be it only those it was started with.
    hot_adapters: bool

    def sleeps(self, plan: Plan) -> bool:
        """Whether it can give its memory back and keep its process."""
        ...

    def takes_adapters(self, plan: Plan) -> bool:
        """Whether adapters that it was not started with can be loaded while it runs."""
        ...

    def argv(self, plan: Plan, port: int, workspace: Path) -> list[str]:
        """The server's command line. `workspace` is a directory of the run for what the server has to be given as a file."""
        ...

    def environment(self, plan: Plan) -> dict[str, str]:
        """What is set for it over the job's own environment."""
        ...

    def upstream_name(self, plan: Plan, workspace: Path) -> str:
        """What a request must name as its `model`."""
        ...

    def probe(self, name: str, tokens: int) -> Call:
        """A real completion of so many tokens by the model of that name, always the same one: greedy."""
        ...

    def read(self, text: str) -> Reading:
        """Its metrics page, read. What is not on it stays None."""
        ...

    def load_adapter(self, plan: Plan, name: str, path: str) -> Call | None:
        """None where it cannot."""
        ...

    def unload_adapter(self, plan: Plan, name: str) -> Call | None:
        """None where it cannot."""
        ...
