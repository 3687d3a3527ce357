"""`transformers serve`: any full model transformers loads, also on a CPU; the fallback that serves what training just wrote.

It has no page of metrics, no adapters of its own, no limit of context, and no way to name a chat template or the model: its answers
call that by its path. So an adapter is served as the model of a replica: in the run's directory a model directory is made of links,
whose adapter_config.json names the base (and a template of the user's lies there too). With several slots it batches continuously; its
cache would then take most of the free memory, so it is always told how many blocks it may have.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from llmops_tui.engine.serving.launchers.launcher import Call, Reading
from llmops_tui.engine.serving.launchers.plan import Plan

_BLOCK_TOKENS = 32
# Tokens a pass: their logits are formed at once, in float32, over the whole vocabulary.
_BATCH_TOKENS = 256
_BATCH_TOKENS_GPU = 2048
# Of the free memory, where the plan does not say: the number of blocks decides, this only caps it.
_MOST_MEMORY = 0.5
_ADAPTER = "adapter_config.json"
_TEMPLATE = "chat_template.jinja"


class TransformersServe:
    """Several adapters of one base are replicas of their own here."""

    metrics_path = ""
    hot_adapters = False

    def sleeps(self, plan: Plan) -> bool:
        return False

    def takes_adapters(self, plan: Plan) -> bool:
        return False

    def argv(self, plan: Plan, port: int, workspace: Path) -> list[str]:
        if _is_made(plan):
            _make_directory(plan, workspace / "model")
        words = [
            plan.python, "-m", "transformers.cli.transformers", "serve", self.upstream_name(plan, workspace),
            "--host", plan.host,
            "--port", str(port),
            "--device", "auto" if plan.gpu else "cpu",
            "--dtype", plan.dtype if plan.gpu or plan.dtype != "auto" else "float32",
        ]  # fmt: skip
        if plan.slots > 1:
            words += [
                "--continuous-batching",
                "--cb-block-size", str(_BLOCK_TOKENS),
                "--cb-num-blocks", str(math.ceil(plan.context * plan.slots / _BLOCK_TOKENS)),
                "--cb-max-batch-tokens", str(_BATCH_TOKENS_GPU if plan.gpu else _BATCH_TOKENS),
                "--cb-max-memory-percent", f"{plan.memory_fraction or _MOST_MEMORY:.3f}",
            ]  # fmt: skip
        return [*words, *plan.arguments]

    def environment(self, plan: Plan) -> dict[str, str]:
        env = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        if plan.threads:
            env["OMP_NUM_THREADS"] = str(plan.threads)
        return env

    def upstream_name(self, plan: Plan, workspace: Path) -> str:
        return str(workspace / "model") if _is_made(plan) else plan.model_path

    def probe(self, name: str, tokens: int) -> Call:
        return Call("/v1/completions", {"model": name, "prompt": "The capital of France is", "max_tokens": tokens, "temperature": 0})

    def read(self, text: str) -> Reading:
        return Reading()

    def load_adapter(self, plan: Plan, name: str, path: str) -> Call | None:
        return None

    def unload_adapter(self, plan: Plan, name: str) -> Call | None:
        return None


def _is_made(plan: Plan) -> bool:
    """Whether the directory it serves is one of ours. An @ in a path would be read as a revision."""
    return bool(plan.base_path or plan.chat_template) or "@" in plan.model_path


def _make_directory(plan: Plan, target: Path) -> None:
    """A model directory of links: the base's files where the adapter has none of its own. Made anew at each start."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    model = Path(plan.model_path)
    for source in [model, *([Path(plan.base_path)] if plan.base_path else [])]:
        for path in sorted(source.iterdir()):
            # The base's weights are found by its own path, which the adapter's configuration names.
            weights = path.suffix in (".safetensors", ".bin", ".json") and "model" in path.name and source is not model
            if path.is_file() and not weights and not (target / path.name).exists():
                (target / path.name).symlink_to(path.absolute())
    if plan.base_path:
        config = json.loads((model / _ADAPTER).read_bytes())
        (target / _ADAPTER).unlink()
        (target / _ADAPTER).write_text(json.dumps({**config, "base_model_name_or_path": plan.base_path}))
    if plan.chat_template:
        (target / _TEMPLATE).unlink(missing_ok=True)
        (target / _TEMPLATE).symlink_to(plan.chat_template)
