"""`runs import PATH`: an old run's own logs become an ended run."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import print_json
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.states import ENDED
from llmops_tui.specs.watch_rules import RULES

_POLL_SECONDS = 0.1
_LAST_BYTES = 4096


def import_run(args: argparse.Namespace) -> int:
    """Read the logs by a short run of their own, with the user's rights; its id on stdout once it is over. Raises LlmopsError."""
    path = os.path.abspath(os.path.expanduser(args.path))
    if not os.path.exists(path):
        raise UsageError(f"{path}: no such file or directory", "name a directory, or a TensorBoard, .wandb or trainer_state.json file")
    name = args.name or re.sub(r"[^a-z0-9._-]+", "-", os.path.basename(path).lower()).strip("-._")[:40] or "run"
    spec = {
        "kind": "command", "name": name, "argv": [sys.executable, "-P", "-m", "llmops_tui.engine.foreign.import_logs", path],
        "logs": "none", "resources": {"gpus": 0}, "tags": ["imported"], "notes": f"imported from {path}",
        "watch": {rule: {"action": "off"} for rule in RULES},  # what was long ago alarms nobody
    }  # fmt: skip
    client = connect(args)
    run = client.submit(spec, os.getcwd())["id"]
    while (detail := client.run(run))["state"] not in ENDED:
        time.sleep(_POLL_SECONDS)
    if detail["state"] != "succeeded":
        lines = client.log(run, -_LAST_BYTES, _LAST_BYTES).data.decode(errors="replace").strip().splitlines()
        raise LlmopsError(lines[-1] if lines else detail["reason"], f"see `llmops-tui runs logs {run}`")
    if args.json:
        print_json(detail)
    else:
        print(run)
    return 0
