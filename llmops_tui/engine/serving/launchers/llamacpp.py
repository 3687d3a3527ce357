"""llama.cpp, by the `xllamacpp` wheel's native server: GGUF files, on a CPU or a GPU.

`n_ctx` is divided by `n_parallel` there: we say the context of one slot and multiply. Its cache of earlier prompts takes up to
8 GiB of the host's memory unless it is told otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops_tui.engine.serving.launchers import llamacpp_server
from llmops_tui.engine.serving.launchers.launcher import Call, Reading
from llmops_tui.engine.serving.launchers.metric_names import reading_of
from llmops_tui.engine.serving.launchers.plan import Plan

# Conversations that lost their slot, kept for those who come back.
PROMPT_CACHE_MIB = 256


class LlamaCpp:
    """Adapters (GGUF-LoRA) are loaded at its start. A request asks for one by its place (`"lora": [{"id": 0, "scale": 1}]`); without
    that the base answers, or whichever was told to apply to all."""

    metrics_path = "/metrics"
    hot_adapters = True

    def sleeps(self, plan: Plan) -> bool:
        return False

    def takes_adapters(self, plan: Plan) -> bool:
        return False

    def argv(self, plan: Plan, port: int, workspace: Path) -> list[str]:
        path = workspace / "llamacpp.json"
        path.write_text(json.dumps(self.settings(plan, port)))
        return [plan.python, "-I", llamacpp_server.__file__, str(path)]

    def settings(self, plan: Plan, port: int) -> dict[str, Any]:
        """What llamacpp_server.py is told. A setting of the user's own wins."""
        params: dict[str, Any] = {
            "model.path": plan.model_path,
            "model_alias": plan.answers_as,
            "hostnames": [plan.host],
            "port": port,
            "n_ctx": plan.context * plan.slots,
            "n_parallel": plan.slots,
            "n_gpu_layers": -1 if plan.gpu else 0,
            "endpoint_metrics": True,
            "endpoint_slots": True,
            "cache_ram_mib": PROMPT_CACHE_MIB,
            "fit_params": False,
            "ui": False,
            # Only the gateway asks it; a web page in somebody's browser shall not.
            "cors_origins": f"http://{plan.host}",
        }
        if plan.chat_template:
            params["chat_template"] = Path(plan.chat_template).read_text(encoding="utf-8")
        params.update(own_settings(plan.arguments))
        return {
            "params": params,
            "adapters": [adapter.path for adapter in plan.adapters],
            "threads": plan.threads,
        }

    def environment(self, plan: Plan) -> dict[str, str]:
        return {}

    def upstream_name(self, plan: Plan, workspace: Path) -> str:
        return plan.answers_as

    def probe(self, name: str, tokens: int) -> Call:
        return Call(
            "/v1/completions",
            {"model": name, "prompt": "The capital of France is", "max_tokens": tokens, "temperature": 0, "cache_prompt": False},
        )

    def read(self, text: str) -> Reading:
        return reading_of(text)

    def load_adapter(self, plan: Plan, name: str, path: str) -> Call | None:
        """By name, among those loaded at the start: it is applied, the others are not."""
        names = [adapter.name for adapter in plan.adapters]
        if name not in names:
            return None
        scales = [{"id": number, "scale": 1.0 if own == name else 0.0} for number, own in enumerate(names)]
        return Call("/lora-adapters", scales)

    def unload_adapter(self, plan: Plan, name: str) -> Call | None:
        if name not in [adapter.name for adapter in plan.adapters]:
            return None
        return Call("/lora-adapters", [{"id": number, "scale": 0.0} for number, _ in enumerate(plan.adapters)])


def own_settings(arguments: list[str]) -> dict[str, str]:
    """`--n-batch 512`, `--n_batch=512` as attributes of llama.cpp's CommonParams. Raises ValueError naming the word.

    A flag without a value is true.
    """
    found: dict[str, str] = {}
    name = ""
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            found[name] = value if equals else "true"
            name = "" if equals else name
        elif name:
            found[name], name = word, ""
        else:
            raise ValueError(f"{word!r} follows no --setting")
    return found
