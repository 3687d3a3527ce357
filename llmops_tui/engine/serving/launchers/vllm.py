"""vLLM's own OpenAI server: full models on a GPU (or a CPU build), offline, by the absolute path of a snapshot.

`/sleep` with requests in flight ends it while it answers 200, and only level 1 comes back whole: drain first, ask for a canary after.
"""

from __future__ import annotations

import math
from pathlib import Path

from llmops_tui.engine.serving.launchers.launcher import Call, Reading
from llmops_tui.engine.serving.launchers.metric_names import reading_of
from llmops_tui.engine.serving.launchers.plan import Plan

_MOST_LORAS = 8


class Vllm:
    """Adapters come and go while it runs."""

    sleeps = True
    metrics_path = "/metrics"
    hot_adapters = True

    def argv(self, plan: Plan, port: int, workspace: Path) -> list[str]:
        words = [
            plan.python, "-m", "vllm.entrypoints.openai.api_server",
            "--model", plan.model_path,
            "--served-model-name", plan.model_name,
            "--host", plan.host,
            "--port", str(port),
            "--max-model-len", str(plan.context),
            "--max-num-seqs", str(plan.slots),
            "--dtype", plan.dtype,
            "--enable-lora", "--max-loras", str(max(1, min(_MOST_LORAS, len(plan.adapters) or _MOST_LORAS))),
        ]  # fmt: skip
        if plan.gpu:
            words += ["--enable-sleep-mode"]
            if plan.memory_fraction is not None:
                words += ["--gpu-memory-utilization", f"{plan.memory_fraction:.3f}"]
        if plan.chat_template:
            words += ["--chat-template", plan.chat_template]
        if plan.adapters:
            words += ["--lora-modules", *(f"{adapter.name}={adapter.path}" for adapter in plan.adapters)]
        return [*words, *plan.arguments]

    def environment(self, plan: Plan) -> dict[str, str]:
        env = {
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            # Without it the routes that make it sleep are not there.
            "VLLM_SERVER_DEV_MODE": "1",
        }
        if not plan.gpu:
            env["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(plan.kv_bytes / (1 << 30))))
            if plan.threads:
                env["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{plan.threads - 1}"
        return env

    def upstream_name(self, plan: Plan, workspace: Path) -> str:
        return plan.model_name

    def probe(self, name: str, tokens: int) -> Call:
        return Call(
            "/v1/completions",
            {"model": name, "prompt": "The capital of France is", "max_tokens": tokens, "temperature": 0, "seed": 0},
        )

    def read(self, text: str) -> Reading:
        return reading_of(text)

    def load_adapter(self, plan: Plan, name: str, path: str) -> Call | None:
        return Call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})

    def unload_adapter(self, plan: Plan, name: str) -> Call | None:
        return Call("/v1/unload_lora_adapter", {"lora_name": name})
