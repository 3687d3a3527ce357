"""vLLM's own OpenAI server: full models on a GPU (or a CPU build), offline, by the absolute path of a snapshot.

What nobody wished for is off. Its development routes, of which sleep is one, let anybody who reaches the port run methods inside it, and
a LoRA that may come at any time costs memory and speed from the start. `/sleep` with requests in flight ends it while it answers 200, and
only level 1 comes back whole: drain first, ask for a canary after.
"""

from __future__ import annotations

import math
from pathlib import Path

from llmops_tui.engine.serving.launchers.launcher import Call, Reading
from llmops_tui.engine.serving.launchers.metric_names import reading_of
from llmops_tui.engine.serving.launchers.plan import Plan

# Of these, as many as one batch may hold; further ones take turns.
_MOST_LORAS = 8
# The greatest rank of a LoRA it makes room for is one of these; the first is what it takes without being told.
_RANKS = (16, 32, 64, 128, 256, 320, 512)


class Vllm:
    """Adapters come and go while it runs, where it was started with some or with room for them."""

    metrics_path = "/metrics"
    hot_adapters = True

    def sleeps(self, plan: Plan) -> bool:
        return plan.gpu and plan.sleep_mode

    def takes_adapters(self, plan: Plan) -> bool:
        return bool(plan.adapters or plan.adapter_room)

    def argv(self, plan: Plan, port: int, workspace: Path) -> list[str]:
        words = [
            plan.python, "-m", "vllm.entrypoints.openai.api_server",
            "--model", plan.model_path,
            "--served-model-name", plan.answers_as,
            "--host", plan.host,
            "--port", str(port),
            "--max-model-len", str(plan.context),
            "--max-num-seqs", str(plan.slots),
            "--dtype", plan.dtype,
        ]  # fmt: skip
        if self.takes_adapters(plan):
            words += ["--enable-lora", "--max-loras", str(min(_MOST_LORAS, len(plan.adapters) + plan.adapter_room))]
            rank = max((adapter.rank for adapter in plan.adapters), default=0)
            if rank > _RANKS[0]:
                words += ["--max-lora-rank", str(next((each for each in _RANKS if each >= rank), _RANKS[-1]))]
        if self.sleeps(plan):
            words += ["--enable-sleep-mode"]
        if plan.gpu and plan.memory_fraction is not None:
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
            # Said either way: what the box's own environment has set must not open what was not wished for.
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True" if self.takes_adapters(plan) else "False",
            "VLLM_SERVER_DEV_MODE": "1" if self.sleeps(plan) else "0",
        }
        if not plan.gpu:
            env["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(plan.kv_bytes / (1 << 30))))
            if plan.threads:
                env["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{plan.threads - 1}"
        return env

    def upstream_name(self, plan: Plan, workspace: Path) -> str:
        return plan.answers_as

    def probe(self, name: str, tokens: int) -> Call:
        return Call(
            "/v1/completions",
            {"model": name, "prompt": "The capital of France is", "max_tokens": tokens, "temperature": 0, "seed": 0},
        )

    def read(self, text: str) -> Reading:
        return reading_of(text)

    def load_adapter(self, plan: Plan, name: str, path: str) -> Call | None:
        return Call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}) if self.takes_adapters(plan) else None

    def unload_adapter(self, plan: Plan, name: str) -> Call | None:
        return Call("/v1/unload_lora_adapter", {"lora_name": name}) if self.takes_adapters(plan) else None
