"""A server's own counters as the run's metrics: rates from what grew, and fewer points while nothing happens. Pure."""

from __future__ import annotations

from llmops_tui.engine.serving.launchers.launcher import Reading

# An idle server is noted this often, a busy one at every reading.
_IDLE_SECONDS = 30.0


class ServingMeter:
    """Turns readings into metric values. `step` is whole seconds since the run was submitted: it goes on over attempts."""

    def __init__(self) -> None:
        self._last: Reading | None = None
        self._last_at = 0.0
        self._noted_at = float("-inf")
        self._was_busy = False

    def restart(self) -> None:
        """The server is another one: its counters begin anew."""
        self._last = None

    def values(self, reading: Reading, rss_bytes: int, now: float) -> dict[str, float]:
        """The metrics of one reading at the monotonic second `now`; empty where it is idle and was noted lately."""
        found: dict[str, float] = {"serve/rss_bytes": float(rss_bytes)} if rss_bytes else {}
        for name, value in (
            ("serve/running", reading.running),
            ("serve/waiting", reading.waiting),
            ("serve/kv_cache_fraction", reading.kv_cache_fraction),
        ):
            if value is not None:
                found[name] = value
        found.update(self._rates(reading, now))
        self._last, self._last_at = reading, now
        busy = any(found.get(name) for name in ("serve/running", "serve/waiting", "serve/generated_tokens_per_second"))
        # The first idle reading after a busy one is noted too: a chart must come down.
        note = busy or self._was_busy or now - self._noted_at >= _IDLE_SECONDS
        self._was_busy = busy
        if not note:
            return {}
        self._noted_at = now
        return found

    def _rates(self, reading: Reading, now: float) -> dict[str, float]:
        last, seconds = self._last, now - self._last_at
        if last is None or seconds <= 0:
            return {}
        found: dict[str, float] = {}
        prompt = _grown(last.prompt_tokens, reading.prompt_tokens)
        cached = _grown(last.cached_tokens, reading.cached_tokens)
        generated = _grown(last.generated_tokens, reading.generated_tokens)
        if prompt is not None:
            found["serve/prompt_tokens_per_second"] = prompt / seconds
        if generated is not None:
            found["serve/generated_tokens_per_second"] = generated / seconds
        if prompt is not None and cached is not None and prompt + cached > 0:
            found["serve/prefix_hit_fraction"] = cached / (prompt + cached)
        return found


def _grown(before: float | None, after: float | None) -> float | None:
    """A counter's growth; None where it is not told or began anew."""
    return None if before is None or after is None or after < before else after - before
