"""The launcher of a runtime, by its name."""

from __future__ import annotations

from llmops_tui.engine.serving.launchers.launcher import Launcher
from llmops_tui.engine.serving.launchers.llamacpp import LlamaCpp
from llmops_tui.engine.serving.launchers.transformers_serve import TransformersServe
from llmops_tui.engine.serving.launchers.vllm import Vllm

LAUNCHERS: dict[str, Launcher] = {"llamacpp": LlamaCpp(), "vllm": Vllm(), "transformers": TransformersServe()}
