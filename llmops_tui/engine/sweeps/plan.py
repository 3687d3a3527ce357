"""The spec of each trial and each fold: the base with what makes this one different. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops_tui.engine.sweeps.decide import ParentSpec
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.crossval import CrossvalSpec
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.sweep import Setting, with_settings

_LONGEST_NAME = 40


def trial_spec(spec: ParentSpec, parent_id: str, name: str, priority: int, number: int, params: Mapping[str, Setting]) -> RunSpec:
    """What trial `number` is to do; `name` is the parent's, `priority` its present one. Raises UsageError for impossible settings."""
    ending = f"-f{number}" if isinstance(spec, CrossvalSpec) else f"-t{number:02d}"
    values = with_settings(spec.base.model_dump(mode="json"), params)
    own: dict[str, Any] = {
        "kind": "train",
        "name": f"{name[: _LONGEST_NAME - len(ending)].rstrip('-._')}{ending}",
        "tags": list(dict.fromkeys([*spec.base.tags, *spec.tags, parent_id])),
        "priority": spec.base.priority or priority,
    }
    return parse_spec({**values, **own})


def fold_settings(spec: CrossvalSpec, number: int) -> dict[str, Setting]:
    """What makes fold `number` (from 1) different."""
    settings: dict[str, Setting] = {"dataset.fold": number, "dataset.folds": spec.folds}
    return {**settings, "dataset.group_by": spec.group_by} if spec.group_by else settings
