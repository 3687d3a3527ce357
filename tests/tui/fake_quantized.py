"""A quantize run for the console's tests: three forms of one model, two of which no other beats, and their cards."""

from __future__ import annotations

from typing import Any

from tests.tui.fake import FakeEngine, summary

QUANTIZED = "quantize-smollm2-0042"


def card(word: str, size: int, perplexity: float, speed: float, *, on_front: bool) -> dict[str, Any]:
    """One form as its run told of it."""
    return {
        "type": word, "name": f"smollm2-{word.lower()}", "bytes": size, "bytes_source": 269_060_552, "perplexity_source": 22.104,
        "perplexity": perplexity, "mean_kl": 2.1e-3, "max_kl": 0.4, "same_choice": 0.962, "tokens": 3120, "rows": 32,
        "rows_from": "rows of fiqa.jsonl", "heard_by": "llama.cpp itself (xllamacpp 2026.10)", "tokens_per_second": speed,
        "ttft_seconds": 0.112, "memory_bytes": size + 70_000_000, "speed_by": "llama.cpp's server", "made_by": "our own writer",
        "mix": [{"tensor": "token_embd", "type": "Q8_0", "count": 1, "bytes": 30_081_024}], "on_front": on_front,
        "checks": [{"name": "stop token", "verdict": "passed", "words": "<|im_end|> (2), as its source's"}],
    }  # fmt: skip


def with_quantized(engine: FakeEngine) -> FakeEngine:
    """The engine with one quantize run that has ended and whose forms are to be picked from."""
    forms = [
        card("F16", 270_885_440, 22.105, 50.2, on_front=True), card("Q8_0", 144_811_072, 22.31, 70.4, on_front=True),
        card("bnb-nf4", 110_000_000, 33.2, 11.9, on_front=False),
    ]  # fmt: skip
    engine.outcomes[QUANTIZED] = {"candidates": forms, "to_pick": True, "refused": {}}
    engine.recent.insert(0, summary(QUANTIZED, "succeeded"))
    return engine
