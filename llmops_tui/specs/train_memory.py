"""What becomes of a training that runs out of memory."""

from __future__ import annotations

from pydantic import Field

from llmops_tui.specs.common import StrictModel

# What the job itself says; the engine, which knows what was tried and what was predicted, says something better in its place.
OUT_OF_MEMORY_ADVICE = "lower micro_batch or max_length (raise accumulation to keep the batch), or set gradient_checkpointing=true"


class OutOfMemoryChoice(StrictModel):
    """Further attempts with the same batch in smaller pieces."""

    retries: int = Field(
        2, ge=0, le=8, description="Further attempts after it ran out of memory: half the micro_batch, then gradient_checkpointing"
    )
