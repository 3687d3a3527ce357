"""The wish to run any program of the user's under the same supervision."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import BASIC, PATH, RunSpec
from llmops_tui.specs.train_watch import WatchChoice
from llmops_tui.specs.watch_rules import RULES


class CommandSpec(RunSpec):
    """`command`: argv is run as it is, without a shell; `$LLMOPS_RUN_DIR/events.jsonl` takes its metrics."""

    kind: Literal["command"] = "command"
    argv: list[str] = Field(min_length=1, description="The program and its arguments, without a shell")
    cwd: str = Field("", description="Working directory; empty means the submitter's", json_schema_extra={**PATH, **BASIC})
    watch: WatchChoice = Field(default_factory=WatchChoice, description="What is watched in the metrics it reports, and what is done then")

    logs: str | list[str] = Field(
        "auto",
        description="The program's own logs to take metrics from: auto finds TensorBoard, wandb and trainer_state.json files that it"
        " writes while it reports nothing itself; none; or files and directories",
        json_schema_extra=BASIC,
    )

    @field_validator("argv")
    @classmethod
    def _no_nul_and_a_program(cls, value: list[str]) -> list[str]:
        if not value[0]:
            raise ValueError("the program's name is empty")
        if any("\0" in part for part in value):
            raise ValueError("an argument holds a NUL byte")
        return value

    @field_validator("logs")
    @classmethod
    def _paths_are_named(cls, value: str | list[str]) -> str | list[str]:
        paths = [value] if isinstance(value, str) else value
        if any(not path.strip() or "\0" in path for path in paths):
            raise ValueError("write auto, none, or paths")
        return value if value in ("auto", "none") else paths

    @model_validator(mode="after")
    def _nothing_to_roll_back_to(self) -> CommandSpec:
        for rule in RULES:
            if self.watch.action(rule) == "rollback":
                raise ValueError(f"watch.{rule}.action: rollback needs the checkpoints of a training; use pause or stop")
        return self

    def default_name(self) -> str:
        stem = re.sub(r"[^a-z0-9._-]+", "-", PurePath(self.argv[0]).stem.lower()).strip("-._")
        return stem[:40] or "command"
