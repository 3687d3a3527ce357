"""The part of a train spec for learning from verifiable rewards (method grpo)."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import MOST_TOKENS, StrictModel

BUILT_IN = ("exact", "numeric")


class FunctionPlace(NamedTuple):
    """A user's own reward: a Python file, and a function in it."""

    path: str
    function: str


def function_place(reward: str) -> FunctionPlace | None:
    """The function a reward names; None for a built-in one. Raises ValueError for what is neither."""
    if reward in BUILT_IN:
        return None
    path, _, function = reward.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise ValueError(f"{reward!r} is no reward: write {' or '.join(BUILT_IN)}, or path/to/file.py:function")
    return FunctionPlace(path, function)


class GrpoChoice(StrictModel):
    """Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300): of the answers tried, those above the mean are learnt."""

    rewards: list[str] = Field(
        default_factory=lambda: ["exact"],
        min_length=1,
        max_length=16,
        description="What an answer is worth: exact or numeric match with the row's answer, or a function of yours, file.py:function",
    )
    weights: list[float] = Field(default_factory=list, max_length=16, description="One for each reward; empty counts them alike")
    group: int = Field(4, ge=2, le=1024, description="Answers tried for each prompt; micro_batch × accumulation is a multiple of it")
    completion_tokens: int = Field(128, ge=1, le=MOST_TOKENS, description="Tokens of an answer at most")
    temperature: float = Field(1.0, gt=0, le=10, description="How freely answers are tried")
    top_p: float = Field(1.0, gt=0, le=1, description="Answers are made of the likeliest tokens that together have this probability")
    beta: float = Field(0.0, ge=0, le=10, description="Weight of the KL divergence from the model it began as; 0 measures none")

    @field_validator("rewards")
    @classmethod
    def _every_reward_is_one(cls, value: list[str]) -> list[str]:
        for reward in value:
            function_place(reward)
        if twice := next((reward for reward in value if value.count(reward) > 1), None):
            raise ValueError(f"{twice!r} is given twice; use weights")
        return value

    @model_validator(mode="after")
    def _as_many_weights_as_rewards(self) -> GrpoChoice:
        if self.weights and len(self.weights) != len(self.rewards):
            raise ValueError(f"weights: {len(self.weights)} for {len(self.rewards)} rewards")
        return self


def objection_to_grpo(choice: GrpoChoice, micro_batch: int, accumulation: int, max_length: int) -> str:
    """What does not fit together, as `field: reason`; empty where nothing is wrong."""
    if (micro_batch * accumulation) % choice.group:
        return f"grpo.group: micro_batch × accumulation is {micro_batch * accumulation}, no multiple of {choice.group} answers a prompt"
    if choice.completion_tokens >= max_length:
        return f"grpo.completion_tokens: {choice.completion_tokens} leave no room for a prompt in max_length ({max_length})"
    return ""
