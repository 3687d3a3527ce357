"""What the engines call their metrics: each of ours with every name it had, newest first, and how a Prometheus page is read.

vLLM renamed its own over time (`gpu_cache_usage_perc` became `kv_cache_usage_perc`); a replica of an older one reads the same here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from llmops_tui.engine.serving.launchers.launcher import Reading

# A name's samples (one a label set) are added up; the first name that is on the page counts.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "running": ("vllm:num_requests_running", "llamacpp:requests_processing"),
    "waiting": ("vllm:num_requests_waiting", "llamacpp:requests_deferred"),
    "kv_cache_fraction": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "llamacpp:kv_cache_usage_ratio"),
    "prompt_tokens": ("vllm:prompt_tokens_total", "vllm:prompt_tokens", "llamacpp:prompt_tokens_total"),
    "cached_tokens": (
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits",
        "llamacpp:prompt_tokens_cached_total",
    ),
    "generated_tokens": ("vllm:generation_tokens_total", "vllm:generation_tokens", "llamacpp:tokens_predicted_total"),
}
# vLLM counts what it looked for in its prefix cache; llama.cpp's prompt tokens leave out what it found there.
_QUERIES = ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries")


def samples_of(text: str) -> dict[str, float]:
    """Every metric's samples added up, by name. Lines that are no samples are passed over, and so are NaN and infinities.

    The text format of Prometheus 0.0.4: `name{labels} value [timestamp]`.
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, brace, rest = line.partition("{")
        if brace:
            rest = rest.rpartition("}")[2]
        else:
            name, _, rest = line.partition(" ")
        try:
            value = float(rest.split()[0])
        except (ValueError, IndexError):
            continue
        if math.isfinite(value):
            found[name.strip()] = found.get(name.strip(), 0.0) + value
    return found


def reading_of(text: str) -> Reading:
    """What the page says, whichever engine and version wrote it."""
    samples = samples_of(text)
    values = {ours: _first(samples, names) for ours, names in ALIASES.items()}
    queries = _first(samples, _QUERIES)
    if queries is not None:  # the same meaning as llama.cpp's: tokens computed beside tokens found
        values["prompt_tokens"] = queries - (values["cached_tokens"] or 0.0)
    return Reading(**values)


def _first(samples: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((samples[name] for name in names if name in samples), None)
