"""From what a user typed (a mapping) to a spec, with each error at its field."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from llmops_tui.errors import UsageError
from llmops_tui.specs.combine import CombineSpec
from llmops_tui.specs.command import CommandSpec
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.crossval import CrossvalSpec
from llmops_tui.specs.evaluate import EvaluateSpec
from llmops_tui.specs.loadtest import LoadtestSpec
from llmops_tui.specs.merge import MergeSpec
from llmops_tui.specs.prune import PruneSpec
from llmops_tui.specs.quantize import QuantizeSpec
from llmops_tui.specs.serve import ServeSpec
from llmops_tui.specs.sweep import SweepSpec
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.wording import named_faults

SPECS: dict[str, type[RunSpec]] = {
    "train": TrainSpec,
    "evaluate": EvaluateSpec,
    "merge": MergeSpec,
    "combine": CombineSpec,
    "prune": PruneSpec,
    "quantize": QuantizeSpec,
    "serve": ServeSpec,
    "loadtest": LoadtestSpec,
    "command": CommandSpec,
    "sweep": SweepSpec,
    "crossval": CrossvalSpec,
}


def parse_spec(raw: object) -> RunSpec:
    """Check a mapping against its job kind's spec.

    Raises UsageError naming every wrong field (`fields`), its first one in the message.
    """
    if not isinstance(raw, Mapping):
        raise UsageError("a spec is a mapping of keys to values", "see `llmops-tui run --help`")
    kind = raw.get("kind")
    spec_class = SPECS.get(kind) if isinstance(kind, str) else None
    if spec_class is None:
        raise UsageError(f"unknown job kind {kind!r}", f"use one of: {', '.join(SPECS)}")
    try:
        # A file name that is no UTF-8 arrives as Python's escape of its bytes and leaves as it came; other halves of a character cannot.
        json.dumps(dict(raw), ensure_ascii=False, default=str).encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.start + 1]
        raise UsageError(f"the spec holds {half!r}, half of a character", "write it as UTF-8 text") from None
    try:
        return spec_class.model_validate(dict(raw))
    except ValidationError as error:
        fields = [{"field": name or kind or "spec", "message": message} for name, message in named_faults(error).items()]
        first = fields[0]
        more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
        raise UsageError(f"{first['field']}: {first['message']}{more}", f"see `llmops-tui run {kind} --help`", fields) from None
